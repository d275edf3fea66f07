"""Layouts of models from their distances: coordinates in a plane (MDS, UMAP) and an order of dendrogram leaves."""

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from math import sqrt

import numpy as np

from consilience.numerics.rows.arrays import Float64Array

#: Largest number of SMACOF steps, and the relative decrease of stress below which they stop.
STEPS_MAX, GAIN_MIN = 1000, 1e-9
#: Largest number of leaves whose order is optimised, which takes time cubic in their number.
OPTIMAL_MAX = 500


@dataclass(frozen=True)
class MdsLayout:
    """Coordinates of n items that approximate given distances.

    Attributes
    ----------
    coordinates : array of shape (n, dims), float64
        Centred at 0, along the principal axes, longest first; the coordinate of largest size on each axis is positive.
    stress : Kruskal's stress-1: sqrt(sum (d_ij - |x_i - x_j|)^2 / sum d_ij^2); 0 if all distances are preserved; from about
        0.2 on, the layout should not be trusted
    """

    coordinates: Float64Array
    stress: float


def find_distances(scores: Float64Array) -> Float64Array:
    """Convert similarities to distances, -log s: in [0, inf], infinite for s <= 0.

    Parameters
    ----------
    scores : array of any shape
        Similarities of at most 1; NaN (undefined) stays NaN.

    References
    ----------
    Huh et al. 2024, The Platonic Representation Hypothesis, arXiv 2405.07987, figure 2.

    Examples
    --------
    >>> find_distances(np.array([1.0, 0.5, 0.0, np.nan])).round(3).tolist()
    [0.0, 0.693, inf, nan]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.maximum(0.0, -np.log(np.where(scores <= 0, 0.0, scores))) + 0.0)


def classical_mds(distances: Float64Array, dims: int = 2) -> MdsLayout:
    """Place items by classical (Torgerson's) scaling: the leading directions of the doubly centred squared distances.

    Exact if the distances are those of points in `dims` dimensions.

    Parameters
    ----------
    distances : array of shape (n, n)
        Symmetric, finite, 0 on the diagonal, n >= 1.

    References
    ----------
    Torgerson 1952, Psychometrika 17:401-419.

    Examples
    --------
    >>> line = classical_mds(np.array([[0.0, 1, 3], [1, 0, 2], [3, 2, 0]]), dims=1)
    >>> line.coordinates[:, 0].round(6).tolist(), round(line.stress, 6)
    ([-1.333333, -0.333333, 1.666667], 0.0)
    """
    squares = distances**2
    middle = squares.mean(axis=0)
    gram = -(squares - middle - middle[:, None] + squares.mean()) / 2
    lengths, directions = np.linalg.eigh(gram)
    leading = np.argsort(lengths)[::-1][:dims]
    coordinates = np.zeros((len(distances), dims))
    coordinates[:, : len(leading)] = directions[:, leading] * np.sqrt(np.maximum(lengths[leading], 0.0))
    return _finish(coordinates, distances)


def smacof(distances: Float64Array, dims: int = 2) -> MdsLayout:
    """Place items by SMACOF: the least stress that majorisation reaches from classical scaling.

    Each step, X <- B(X) X / n, cannot raise sum (d_ij - |x_i - x_j|)^2; there is no randomness. B(X)_ij = -d_ij / |x_i - x_j|
    off the diagonal, and its rows sum to 0.

    Parameters
    ----------
    distances : array of shape (n, n)
        Symmetric, finite, 0 on the diagonal, n >= 1.

    References
    ----------
    de Leeuw 1977; Borg and Groenen 2005, Modern Multidimensional Scaling, chapter 8.

    Examples
    --------
    The sides and the diagonals of a square are preserved.

    >>> side, far = 1.0, 2**0.5
    >>> square = np.array([[0, side, far, side], [side, 0, side, far], [far, side, 0, side], [side, far, side, 0]])
    >>> round(smacof(square).stress, 6)
    0.0
    """
    coordinates = classical_mds(distances, dims).coordinates
    before = np.inf
    for _ in range(STEPS_MAX):
        reached = _pairwise(coordinates)
        stress = float(((distances - reached) ** 2).sum())
        if stress <= 0 or before - stress <= GAIN_MIN * stress:
            break
        before = stress
        ratios = np.divide(distances, reached, out=np.zeros_like(distances), where=reached > 0)
        coordinates = (ratios.sum(axis=1)[:, None] * coordinates - ratios @ coordinates) / len(distances)
    return _finish(coordinates, distances)


def order_leaves(distances: Float64Array) -> list[int]:
    """Order items along a dendrogram of average linkage, similar items side by side.

    Up to 500 items, the order has the least sum of distances between adjacent items that the tree allows.

    Parameters
    ----------
    distances : array of shape (n, n)
        Symmetric, finite, 0 on the diagonal.

    References
    ----------
    Bar-Joseph, Gifford and Jaakkola 2001, Bioinformatics 17:S22-S29.

    Examples
    --------
    >>> coordinates = np.array([0.0, 9.0, 1.0, 8.0])
    >>> order_leaves(np.abs(coordinates[:, None] - coordinates))
    [0, 2, 3, 1]
    """
    if len(distances) < 3:
        return list(range(len(distances)))
    # Half a second to load, and workers load this module when they start.
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering  # noqa: PLC0415 - as the line above says

    flat = distances[np.triu_indices(len(distances), 1)]
    tree = linkage(flat, method="average")
    if len(distances) <= OPTIMAL_MAX:
        tree = optimal_leaf_ordering(tree, flat)
    return [int(leaf) for leaf in leaves_list(tree)]


def _pairwise(coordinates: Float64Array) -> Float64Array:
    return np.asarray(np.linalg.norm(coordinates[:, None] - coordinates[None], axis=2))


def _finish(coordinates: Float64Array, distances: Float64Array) -> MdsLayout:
    """Rotate the coordinates onto their principal axes, so that equal distances give equal layouts."""
    centred = coordinates - coordinates.mean(axis=0)
    rotated = centred @ np.linalg.svd(centred, full_matrices=True)[2].T if len(centred) > 1 else centred
    longest = np.abs(rotated).argmax(axis=0)
    rotated = rotated * np.where(rotated[longest, np.arange(rotated.shape[1])] < 0, -1.0, 1.0)
    total = float((distances**2).sum())
    lost = float(((distances - _pairwise(rotated)) ** 2).sum())
    return MdsLayout(rotated, sqrt(lost / total) if total > 0 else 0.0)


#: Fewest items for UMAP: a smaller graph has too few eigenvectors to start from.
ITEMS_MIN = 5


def is_umap_installed() -> bool:
    """Return True if UMAP is installed; nothing is imported."""
    return find_spec("umap") is not None


def umap_coordinates(distances: Float64Array, neighbours: int, seed: int) -> Float64Array:
    """Place items in a plane by UMAP: near items stay near; larger distances and directions mean little.

    Parameters
    ----------
    distances : array of shape (n, n)
        Symmetric, finite, 0 on the diagonal, n >= 5.
    neighbours : int >= 2
        Number of nearest items to keep near; at most n - 1 are used.
    seed : int
        The same seed gives the same coordinates on the same type of processor.

    Returns
    -------
    array of shape (n, 2), float64

    References
    ----------
    McInnes, Healy and Melville 2018, arXiv 1802.03426.
    """
    from umap import UMAP  # noqa: PLC0415 - an extra, and slow to load

    n = len(distances)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that precomputed distances have no inverse, and that a seed costs threads
        fitted: Float64Array = UMAP(
            n_components=2,
            metric="precomputed",
            n_neighbors=min(neighbours, n - 1),
            random_state=seed % 2**32,
            n_jobs=1,
        ).fit_transform(distances)
    coordinates = fitted.astype(np.float64)
    return np.asarray(coordinates - coordinates.mean(axis=0))
