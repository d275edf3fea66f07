"""From distances between models to a picture of them: places in a plane, and an order of leaves."""

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from math import sqrt

import numpy as np

from consilience.numerics.rows.arrays import Float64Array

#: Steps of SMACOF, and the share of stress that one must win for another to follow.
STEPS_MAX, GAIN_MIN = 1000, 1e-9
#: Leaves up to which the order is the best one, at the third power of their number.
OPTIMAL_MAX = 500


@dataclass(frozen=True)
class Layout:
    """Places of n items whose distances are near the given ones.

    Attributes
    ----------
    places : array of shape (n, dims), float64
        The middle is 0, the axes are the principal ones, longest first; of each axis the longest coordinate is positive.
    stress : Kruskal's stress-1: sqrt(sum (d_ij - |x_i - x_j|)^2 / sum d_ij^2); 0 where all distances are kept, and about 0.2
        where the picture should not be trusted
    """

    places: Float64Array
    stress: float


def find_distances(scores: Float64Array) -> Float64Array:
    """The article's distance of models: -log of a similarity; infinite where it is not above 0, and never below 0.

    Parameters
    ----------
    scores : array of any shape
        Similarities of at most 1; NaN where undefined, which stays so.

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


def classical_mds(distances: Float64Array, dims: int = 2) -> Layout:
    """Torgerson's scaling: the leading directions of the doubly centred squares of the distances.

    Exact where the distances are those of points in `dims` dimensions.

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
    >>> line.places[:, 0].round(6).tolist(), round(line.stress, 6)
    ([-1.333333, -0.333333, 1.666667], 0.0)
    """
    squares = distances**2
    middle = squares.mean(axis=0)
    gram = -(squares - middle - middle[:, None] + squares.mean()) / 2
    lengths, directions = np.linalg.eigh(gram)
    leading = np.argsort(lengths)[::-1][:dims]
    places = np.zeros((len(distances), dims))
    places[:, : len(leading)] = directions[:, leading] * np.sqrt(np.maximum(lengths[leading], 0.0))
    return _finish(places, distances)


def smacof(distances: Float64Array, dims: int = 2) -> Layout:
    """The places of least stress that majorisation reaches from those of classical scaling.

    Each step, X <- B(X) X / n, cannot raise sum (d_ij - |x_i - x_j|)^2; there is no randomness. B(X)_ij = -d_ij / |x_i - x_j|
    off the diagonal, its rows add up to 0.

    Parameters
    ----------
    distances : array of shape (n, n)
        Symmetric, finite, 0 on the diagonal, n >= 1.

    References
    ----------
    de Leeuw 1977; Borg and Groenen 2005, Modern Multidimensional Scaling, chapter 8.

    Examples
    --------
    A square keeps its sides and its diagonals.

    >>> side, far = 1.0, 2**0.5
    >>> square = np.array([[0, side, far, side], [side, 0, side, far], [far, side, 0, side], [side, far, side, 0]])
    >>> round(smacof(square).stress, 6)
    0.0
    """
    places = classical_mds(distances, dims).places
    before = np.inf
    for _ in range(STEPS_MAX):
        reached = _pairwise(places)
        stress = float(((distances - reached) ** 2).sum())
        if stress <= 0 or before - stress <= GAIN_MIN * stress:
            break
        before = stress
        ratios = np.divide(distances, reached, out=np.zeros_like(distances), where=reached > 0)
        places = (ratios.sum(axis=1)[:, None] * places - ratios @ places) / len(distances)
    return _finish(places, distances)


def order_leaves(distances: Float64Array) -> list[int]:
    """The order of items along a dendrogram of average linkage, near ones side by side.

    Up to 500 items it is the order of least sum of neighbours' distances that the tree allows.

    Parameters
    ----------
    distances : array of shape (n, n)
        Symmetric, finite, 0 on the diagonal.

    References
    ----------
    Bar-Joseph, Gifford and Jaakkola 2001, Bioinformatics 17:S22-S29.

    Examples
    --------
    >>> places = np.array([0.0, 9.0, 1.0, 8.0])
    >>> order_leaves(np.abs(places[:, None] - places))
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


def _pairwise(places: Float64Array) -> Float64Array:
    return np.asarray(np.linalg.norm(places[:, None] - places[None], axis=2))


def _finish(places: Float64Array, distances: Float64Array) -> Layout:
    """Turn the places into their principal axes, so that equal distances give equal pictures."""
    centred = places - places.mean(axis=0)
    turned = centred @ np.linalg.svd(centred, full_matrices=True)[2].T if len(centred) > 1 else centred
    longest = np.abs(turned).argmax(axis=0)
    turned = turned * np.where(turned[longest, np.arange(turned.shape[1])] < 0, -1.0, 1.0)
    total = float((distances**2).sum())
    lost = float(((distances - _pairwise(turned)) ** 2).sum())
    return Layout(turned, sqrt(lost / total) if total > 0 else 0.0)


#: Fewer items have no graph whose leading eigenvectors UMAP could start from.
ITEMS_MIN = 5


def is_installed() -> bool:
    """Whether UMAP can be used here; nothing is loaded."""
    return find_spec("umap") is not None


def umap_places(distances: Float64Array, neighbours: int, seed: int) -> Float64Array:
    """Places in a plane in which near items stay near; distances and directions in it mean little.

    Parameters
    ----------
    distances : array of shape (n, n)
        Symmetric, finite, 0 on the diagonal, n >= 5.
    neighbours : int >= 2
        Items that are to stay near; fewer where there are not so many.
    seed : int
        The same seed gives the same places on one kind of processor.

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
    places = fitted.astype(np.float64)
    return np.asarray(places - places.mean(axis=0))
