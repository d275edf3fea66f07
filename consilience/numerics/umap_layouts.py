"""Places by UMAP, where its package is installed: an extra, since it compiles for ten seconds in every process that uses it."""

import warnings
from importlib.util import find_spec

import numpy as np

from consilience.numerics.arrays import Float64Array

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
