"""Metrics that compare neighbour lists: the mean over items of a score of the two lists of an item.

All take the `Lists` of the same n items with the same k; an item whose list ran out is left out of the mean.
"""

from collections.abc import Callable

import numpy as np

from consilience.numerics.neighbour_overlap import kernels
from consilience.numerics.neighbour_overlap.kernels import BoolArray
from consilience.numerics.neighbour_overlap.lists import Lists
from consilience.numerics.rows.arrays import Float32Array, Float64Array, IdArray
from consilience.numerics.stats.nulls import Permutation


def mutual_knn(a: Lists, b: Lists) -> float:
    """Mean overlap of the k nearest neighbours of each item in both spaces.

    s = (1/nk) sum_i |N_A(i) & N_B(i)|. Symmetric, in [0, 1], k / (n - 1) at chance.

    Parameters
    ----------
    a, b : Lists of n items, k ids each

    References
    ----------
    Huh et al. 2024, arXiv 2405.07987, appendix A, eq. 12.

    Examples
    --------
    Two of the four items keep their nearest neighbour.

    >>> a = Lists.of(np.array([[1], [0], [3], [2]], dtype=np.int32))
    >>> b = Lists.of(np.array([[1], [0], [0], [0]], dtype=np.int32))
    >>> mutual_knn(a, b)
    0.5
    """
    return _mean(kernels.overlap_rows, a, b)


def mutual_knn_grid(a: IdArray, b: IdArray, permutation: Permutation | None = None) -> Float64Array:
    """mutual_knn of every layer of a against every layer of b at once, with b's items relabelled by a permutation.

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
    return np.asarray(kernels.count_grid_overlaps(a, b, forward, inverse) / (n * k), dtype=np.float64)


def mutual_knn_in_parts(a: Lists, b: Lists, k: int, kept: BoolArray) -> Float64Array:
    """mutual_knn of many galleries of fewer items at once, as `Lists.within` restricts lists to each.

    Parameters
    ----------
    a, b : Lists of n items, with more than k ids each
    kept : array of shape (parts, n), bool

    Returns
    -------
    array of shape (parts,), float64; NaN where no item has k kept neighbours in both lists
    """
    flags = np.ascontiguousarray(kept.T.astype(np.uint16))
    overlaps, rows = kernels.overlap_in_parts(a.ids, b.ids, flags, k)
    values = np.full(len(rows), np.nan)
    np.divide(overlaps, k * rows, out=values, where=rows > 0)
    return values


def jaccard_knn(a: Lists, b: Lists) -> float:
    """Mean Jaccard index of the neighbour sets of each item in both spaces.

    s = (1/n) sum_i |N_A(i) & N_B(i)| / |N_A(i) | N_B(i)| = (1/n) sum_i m_i / (2k - m_i). Symmetric, in [0, 1], about
    k / (2 (n - 1)) at chance, and never above mutual_knn.

    Parameters
    ----------
    a, b : Lists of n items, k ids each

    References
    ----------
    Klabunde et al. 2024, ReSi, arXiv 2408.00531, appendix A.

    Examples
    --------
    Item 0 shares one of three neighbours, item 1 both of two.

    >>> a = Lists.of(np.array([[1, 2], [0, 2], [0, 1], [0, 1]], dtype=np.int32))
    >>> b = Lists.of(np.array([[1, 3], [2, 0], [0, 1], [1, 0]], dtype=np.int32))
    >>> round(jaccard_knn(a, b), 6) == round((1 / 3 + 1 + 1 + 1) / 4, 6)
    True
    """
    return _mean(kernels.jaccard_rows, a, b)


def rank_similarity(a: Lists, b: Lists) -> float:
    """Agreement of the ranks of each item's shared neighbours, early ranks counting more.

    s = (1/n) sum_i [sum_{j in N_A & N_B} 2 / ((1 + |r_A - r_B|)(r_A + r_B))] / H_m, m the number of shared neighbours, H_m the
    m-th harmonic number, ranks from 1; an item that shares none counts 0. Symmetric, in [0, 1].

    Parameters
    ----------
    a, b : Lists of n items, k ids each

    References
    ----------
    Klabunde et al. 2024, ReSi, arXiv 2408.00531, appendix A; Wang et al. 2022.

    Examples
    --------
    The same two neighbours, in the other order: 2 (2 / (2 * 3)) / (1 + 1/2).

    >>> a = Lists.of(np.array([[1, 2], [0, 2], [0, 1]], dtype=np.int32))
    >>> b = Lists.of(np.array([[2, 1], [2, 0], [1, 0]], dtype=np.int32))
    >>> round(rank_similarity(a, b), 4)
    0.4444
    """
    return _mean(kernels.rank_rows, a, b)


def lcs_knn(a: Lists, b: Lists, *, raw: bool = False) -> float:
    """Mean length of the longest common subsequence of each item's two lists, over k.

    s = (1/nk) sum_i LCS(list_A(i), list_B(i)). Symmetric, in [0, 1]; raw: not divided by k, in [0, k]. Never above mutual_knn.

    Parameters
    ----------
    a, b : Lists of n items, k ids each
    raw : bool

    References
    ----------
    Huh et al. 2024, arXiv 2405.07987, appendix A; platonic-rep at dcd76ba does not divide by k.

    Examples
    --------
    Two of the same three neighbours stand in the same order.

    >>> a = Lists.of(np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]], dtype=np.int32))
    >>> b = Lists.of(np.array([[2, 1, 3], [2, 0, 3], [1, 0, 3], [1, 0, 2]], dtype=np.int32))
    >>> lcs_knn(a, b, raw=True)
    2.0
    """
    return _mean(kernels.lcs_rows, a, b) / (1 if raw else a.k)


def edit_distance_knn(a: Lists, b: Lists) -> float:
    """One minus the mean number of edits that turn one of an item's lists into the other, over k.

    s = 1 - (1/nk) sum_i Levenshtein(list_A(i), list_B(i)): insertions, deletions and substitutions. Symmetric, in [0, 1].

    Parameters
    ----------
    a, b : Lists of n items, k ids each

    References
    ----------
    Huh et al. 2024, arXiv 2405.07987, appendix A.

    Examples
    --------
    The first neighbour moved to the end: one deletion and one insertion.

    >>> a = Lists.of(np.array([[1, 2, 3, 4]], dtype=np.int32).repeat(5, axis=0))
    >>> b = Lists.of(np.array([[2, 3, 4, 1]], dtype=np.int32).repeat(5, axis=0))
    >>> edit_distance_knn(a, b)
    0.5
    """
    return _mean(kernels.edit_rows, a, b)


def cycle_knn(a: Lists, b: Lists, direction: str = "ab") -> float:
    """Share of items that a step to a neighbour in one space and a step to a neighbour in the other can return to.

    ab: s = (1/n) sum_i 1[there is a j in N_B(i) with i in N_A(j)]; ba: a and b swapped; mean: of the two. Symmetric under
    mean only; in [0, 1]; about 1 - (1 - k/n)^k at chance, see `cycle_knn_law`.

    Parameters
    ----------
    a, b : Lists of n items, k ids each
    direction : "ab", "ba" or "mean"

    References
    ----------
    Huh et al. 2024, arXiv 2405.07987, appendix A; ab is the direction of platonic-rep at dcd76ba.

    Examples
    --------
    From 0 in b to 1, and from 1 in a back to 0; so for 1; 2 and 3 are nobody's neighbour in a.

    >>> a = Lists.of(np.array([[1], [0], [0], [0]], dtype=np.int32))
    >>> b = Lists.of(np.array([[1], [0], [3], [2]], dtype=np.int32))
    >>> cycle_knn(a, b)
    0.5
    """
    if direction == "mean":
        return (cycle_knn(a, b, "ab") + cycle_knn(a, b, "ba")) / 2
    return _mean(_cycle_rows, *((a, b) if direction == "ab" else (b, a)))


def _cycle_rows(a: IdArray, b: IdArray, _gallery: int) -> Float64Array:
    return kernels.cycle_rows(a, b)


def second_order_cosine(a: Lists, b: Lists) -> float:
    """Mean cosine between each item's similarities, in both spaces, to all neighbours that either space lists.

    s = (1/n) sum_i cos(s_A(i, U_i), s_B(i, U_i)), U_i = N_A(i) | N_B(i), s the inner product of prepared rows, which is the
    cosine for rows of length 1. Symmetric, in [-1, 1]; at chance far above 0 where the rows have a mean. The code of ReSi takes
    1 - s in place of s.

    Parameters
    ----------
    a, b : Lists of n items, k ids each, with the spaces behind them

    Returns
    -------
    float, NaN where some item has similarity 0 to all of U_i in one of the spaces

    References
    ----------
    Hamilton et al. 2016, arXiv 1606.02821, eq. 4; Klabunde et al. 2024, ReSi, arXiv 2408.00531, appendix A.

    Examples
    --------
    >>> from consilience.numerics.neighbour_overlap.lists import Space
    >>> x = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], dtype=np.float32)
    >>> ids = np.array([[1], [0], [1]], dtype=np.int32)
    >>> lists = Lists.of(ids, np.array([[0.8], [0.8], [0.96]], np.float32), Space(lambda: x))
    >>> second_order_cosine(lists, lists)
    1.0
    """

    def rows(ids_a: IdArray, ids_b: IdArray, gallery: int) -> Float64Array:
        a_in_b, b_in_a = b.similarities_to(a), a.similarities_to(b)
        return kernels.second_order_rows(ids_a, a.similarities, a_in_b, ids_b, b_in_a, b.similarities, gallery)

    return _mean(rows, a, b)


def _mean(rows: Callable[[IdArray, IdArray, int], Float64Array], a: Lists, b: Lists) -> float:
    """Mean of the row scores over the items whose lists are complete; NaN where there are none."""
    complete = a.complete & b.complete
    return float(rows(a.ids, b.ids, a.n)[complete].mean()) if complete.any() else float("nan")


#: The lists of some rows, of ascending ids: neighbours and similarities, (u, k).
Second = Callable[[IdArray], tuple[IdArray, Float32Array]]


def cycle_row_scores(queries: IdArray, stepped: IdArray, back: Second, k: int) -> Float64Array:
    """1 where some of a query's neighbours in one space has the query among its own k in the other, else 0.

    Parameters
    ----------
    queries : array of shape (m,), int32
    stepped : array of shape (m, k), int32
        The neighbours of each query in the space of the first step.
    back : callable
        Lists in the space of the step back; they are asked for once, of all stepped rows.
    """
    wanted = np.unique(stepped[stepped >= 0])
    lists = back(wanted)[0][:, :k]
    found = np.zeros(len(queries), np.bool_)
    for t in range(k):
        place = np.searchsorted(wanted, stepped[:, t]).clip(0, len(wanted) - 1)
        found |= (stepped[:, t] >= 0) & (lists[place] == queries[:, None]).any(axis=1)
    return found.astype(np.float64)
