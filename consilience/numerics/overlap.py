"""Metrics that compare neighbour lists, and what relabelling and leaving out rows does to them."""

import numpy as np
import numpy.typing as npt

from consilience.numerics import compiled
from consilience.numerics.arrays import Float64Array, IdArray


def mutual_knn(a: IdArray, b: IdArray, k: int) -> float:
    """Mean overlap of the k nearest neighbours of each item in both spaces.

    s = (1/nk) sum_i |N_A(i) & N_B(i)|. Symmetric, in [0, 1], k / (n - 1) at chance.

    Parameters
    ----------
    a, b : arrays of shape (n, >= k), int32, C order
        Neighbour ids, nearest first, without the row itself.
    k : int, 1 <= k <= n - 1

    References
    ----------
    Huh et al. 2024, arXiv 2405.07987, appendix A, eq. 12.

    Examples
    --------
    Two of the four items keep their nearest neighbour.

    >>> a = np.array([[1], [0], [3], [2]], dtype=np.int32)
    >>> b = np.array([[1], [0], [0], [0]], dtype=np.int32)
    >>> mutual_knn(a, b, 1)
    0.5
    """
    return float(compiled.count_overlaps(a, b, k).sum(dtype=np.int64) / (len(a) * k))


def mutual_knn_grid(a: IdArray, b: IdArray, permutation: npt.NDArray[np.intp] | None = None) -> Float64Array:
    """mutual_knn of every layer of a against every layer of b, with b's items relabelled by a permutation.

    Item i of a is paired with item p(i) of b: N_pB(i) = p^-1(N_B(p(i))); no search is made.

    Parameters
    ----------
    a, b : arrays of shape (L_A, n, k) and (L_B, n, k), int32, C order
    permutation : array of n item numbers, optional
        None is the identity.

    Returns
    -------
    array of shape (L_A, L_B), float64, in [0, 1]
    """
    n, k = a.shape[1:]
    forward = np.arange(n, dtype=np.int32) if permutation is None else permutation.astype(np.int32)
    inverse = np.empty_like(forward)
    inverse[forward] = np.arange(n, dtype=np.int32)
    return np.asarray(compiled.count_grid_overlaps(a, b, forward, inverse) / (n * k), dtype=np.float64)
