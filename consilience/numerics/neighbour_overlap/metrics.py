"""Metrics that compare neighbour lists, and their closed-form nulls.

A metric is the mean over items of a score of the two lists of an item. All take the `NeighbourLists` of the same n items with
the same k; items with an incomplete list are left out of the mean. The nulls are those of T = sum_ij A_ij B_p(i)p(j), the
number of shared edges of two neighbour graphs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from consilience.numerics.neighbour_overlap import kernels
from consilience.numerics.neighbour_overlap.lists import NeighbourLists
from consilience.numerics.rows.arrays import BoolArray, Float32Array, Float64Array, IdArray
from consilience.numerics.stats.nulls import NullMean, PearsonNull, Permutation


def mutual_knn(a: NeighbourLists, b: NeighbourLists) -> float:
    """Mean overlap of the k nearest neighbours of each item in both spaces.

    s = (1/nk) sum_i |N_A(i) & N_B(i)|. Symmetric, in [0, 1], k / (n - 1) at chance.

    Parameters
    ----------
    a, b : NeighbourLists of n items, k ids each

    References
    ----------
    Huh et al. 2024, arXiv 2405.07987, appendix A, eq. 12.

    Examples
    --------
    Two of the four items keep their nearest neighbour.

    >>> a = NeighbourLists.of(np.array([[1], [0], [3], [2]], dtype=np.int32))
    >>> b = NeighbourLists.of(np.array([[1], [0], [0], [0]], dtype=np.int32))
    >>> mutual_knn(a, b)
    0.5
    """
    return _mean(kernels.overlap_rows, a, b)


def mutual_knn_grid(a: IdArray, b: IdArray, permutation: Permutation | None = None) -> Float64Array:
    """Compute mutual_knn of every layer of a with every layer of b, with b's items permuted.

    Item i of a is paired with item p(i) of b: N_pB(i) = p^-1(N_B(p(i))), without a new search.

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


def mutual_knn_in_galleries(a: NeighbourLists, b: NeighbourLists, k: int, kept: BoolArray) -> Float64Array:
    """Compute mutual_knn on many smaller galleries at once, with lists as in `NeighbourLists.restricted`.

    Parameters
    ----------
    a, b : NeighbourLists of n items, with more than k ids each
    kept : array of shape (galleries, n), bool

    Returns
    -------
    array of shape (galleries,), float64; NaN if no item has k kept neighbours in both lists
    """
    flags = np.ascontiguousarray(kept.T.astype(np.uint16))
    overlaps, rows = kernels.overlap_in_galleries(a.ids, b.ids, flags, k)
    values = np.full(len(rows), np.nan)
    np.divide(overlaps, k * rows, out=values, where=rows > 0)
    return values


def jaccard_knn(a: NeighbourLists, b: NeighbourLists) -> float:
    """Mean Jaccard index of the neighbour sets of each item in both spaces.

    s = (1/n) sum_i |N_A(i) & N_B(i)| / |N_A(i) | N_B(i)| = (1/n) sum_i m_i / (2k - m_i). Symmetric, in [0, 1], about
    k / (2 (n - 1)) at chance, and never above mutual_knn.

    Parameters
    ----------
    a, b : NeighbourLists of n items, k ids each

    References
    ----------
    Klabunde et al. 2024, ReSi, arXiv 2408.00531, appendix A.

    Examples
    --------
    Item 0 shares one of three neighbours, item 1 both of two.

    >>> a = NeighbourLists.of(np.array([[1, 2], [0, 2], [0, 1], [0, 1]], dtype=np.int32))
    >>> b = NeighbourLists.of(np.array([[1, 3], [2, 0], [0, 1], [1, 0]], dtype=np.int32))
    >>> round(jaccard_knn(a, b), 6) == round((1 / 3 + 1 + 1 + 1) / 4, 6)
    True
    """
    return _mean(kernels.jaccard_rows, a, b)


def rank_similarity(a: NeighbourLists, b: NeighbourLists) -> float:
    """Agreement of the ranks of each item's shared neighbours, with more weight on early ranks.

    s = (1/n) sum_i [sum_{j in N_A & N_B} 2 / ((1 + |r_A - r_B|)(r_A + r_B))] / H_m, m the number of shared neighbours, H_m the
    m-th harmonic number, ranks from 1; an item without shared neighbours counts 0. Symmetric, in [0, 1].

    Parameters
    ----------
    a, b : NeighbourLists of n items, k ids each

    References
    ----------
    Klabunde et al. 2024, ReSi, arXiv 2408.00531, appendix A; Wang et al. 2022.

    Examples
    --------
    The same two neighbours, in the other order: 2 (2 / (2 * 3)) / (1 + 1/2).

    >>> a = NeighbourLists.of(np.array([[1, 2], [0, 2], [0, 1]], dtype=np.int32))
    >>> b = NeighbourLists.of(np.array([[2, 1], [2, 0], [1, 0]], dtype=np.int32))
    >>> round(rank_similarity(a, b), 4)
    0.4444
    """
    return _mean(kernels.rank_rows, a, b)


def lcs_knn(a: NeighbourLists, b: NeighbourLists, *, raw: bool = False) -> float:
    """Mean length of the longest common subsequence of each item's two lists, over k.

    s = (1/nk) sum_i LCS(list_A(i), list_B(i)). Symmetric, in [0, 1]; raw: not divided by k, in [0, k]. Never above mutual_knn.

    Parameters
    ----------
    a, b : NeighbourLists of n items, k ids each
    raw : bool

    References
    ----------
    Huh et al. 2024, arXiv 2405.07987, appendix A; platonic-rep at dcd76ba does not divide by k.

    Examples
    --------
    Two of the same three neighbours stand in the same order.

    >>> a = NeighbourLists.of(np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]], dtype=np.int32))
    >>> b = NeighbourLists.of(np.array([[2, 1, 3], [2, 0, 3], [1, 0, 3], [1, 0, 2]], dtype=np.int32))
    >>> lcs_knn(a, b, raw=True)
    2.0
    """
    return _mean(kernels.lcs_rows, a, b) / (1 if raw else a.k)


def edit_distance_knn(a: NeighbourLists, b: NeighbourLists) -> float:
    """One minus the mean number of edits that turn one of an item's lists into the other, over k.

    s = 1 - (1/nk) sum_i Levenshtein(list_A(i), list_B(i)): insertions, deletions and substitutions. Symmetric, in [0, 1].

    Parameters
    ----------
    a, b : NeighbourLists of n items, k ids each

    References
    ----------
    Huh et al. 2024, arXiv 2405.07987, appendix A.

    Examples
    --------
    The first neighbour moved to the end: one deletion and one insertion.

    >>> a = NeighbourLists.of(np.array([[1, 2, 3, 4]], dtype=np.int32).repeat(5, axis=0))
    >>> b = NeighbourLists.of(np.array([[2, 3, 4, 1]], dtype=np.int32).repeat(5, axis=0))
    >>> edit_distance_knn(a, b)
    0.5
    """
    return _mean(kernels.edit_rows, a, b)


def cycle_knn(a: NeighbourLists, b: NeighbourLists, direction: str = "ab") -> float:
    """Share of items that can be reached again by a step to a neighbour in one space and a step back in the other.

    ab: s = (1/n) sum_i 1[there is a j in N_B(i) with i in N_A(j)]; ba: a and b swapped; mean: of the two. Symmetric under
    mean only; in [0, 1]; about 1 - (1 - k/n)^k at chance, see `cycle_knn_null`.

    Parameters
    ----------
    a, b : NeighbourLists of n items, k ids each
    direction : "ab", "ba" or "mean"

    References
    ----------
    Huh et al. 2024, arXiv 2405.07987, appendix A; ab is the direction of platonic-rep at dcd76ba.

    Examples
    --------
    From 0 to 1 in b, and from 1 back to 0 in a; likewise for 1; 2 and 3 are no neighbours of any item in a.

    >>> a = NeighbourLists.of(np.array([[1], [0], [0], [0]], dtype=np.int32))
    >>> b = NeighbourLists.of(np.array([[1], [0], [3], [2]], dtype=np.int32))
    >>> cycle_knn(a, b)
    0.5
    """
    if direction == "mean":
        return (cycle_knn(a, b, "ab") + cycle_knn(a, b, "ba")) / 2
    return _mean(_cycle_rows, *((a, b) if direction == "ab" else (b, a)))


def _cycle_rows(a: IdArray, b: IdArray, _gallery: int) -> Float64Array:
    return kernels.cycle_rows(a, b)


def second_order_cosine(a: NeighbourLists, b: NeighbourLists) -> float:
    """Mean cosine between each item's similarities, in both spaces, to all neighbours that either space lists.

    s = (1/n) sum_i cos(s_A(i, U_i), s_B(i, U_i)), U_i = N_A(i) | N_B(i), s the inner product of prepared rows, which is the
    cosine for rows of length 1. Symmetric, in [-1, 1]; at chance far above 0 if the rows are not centred. The code of ReSi uses
    1 - s instead of s.

    Parameters
    ----------
    a, b : NeighbourLists of n items, k ids each, with their spaces

    Returns
    -------
    float, NaN if some item has similarity 0 to all of U_i in one of the spaces

    References
    ----------
    Hamilton et al. 2016, arXiv 1606.02821, eq. 4; Klabunde et al. 2024, ReSi, arXiv 2408.00531, appendix A.

    Examples
    --------
    >>> from consilience.numerics.neighbour_overlap.lists import SimilaritySpace
    >>> x = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], dtype=np.float32)
    >>> ids = np.array([[1], [0], [1]], dtype=np.int32)
    >>> lists = NeighbourLists.of(ids, np.array([[0.8], [0.8], [0.96]], np.float32), SimilaritySpace(lambda: x))
    >>> second_order_cosine(lists, lists)
    1.0
    """

    def rows(ids_a: IdArray, ids_b: IdArray, gallery: int) -> Float64Array:
        a_in_b, b_in_a = b.similarities_to(a), a.similarities_to(b)
        return kernels.second_order_rows(ids_a, a.similarities, a_in_b, ids_b, b_in_a, b.similarities, gallery)

    return _mean(rows, a, b)


def _mean(rows: Callable[[IdArray, IdArray, int], Float64Array], a: NeighbourLists, b: NeighbourLists) -> float:
    """Return the mean of the row scores over the items with complete lists; NaN if there are none."""
    complete = a.complete & b.complete
    return float(rows(a.ids, b.ids, a.n)[complete].mean()) if complete.any() else float("nan")


#: Function from ascending row ids to the lists of these rows: neighbours and similarities, (u, k).
ListLookup = Callable[[IdArray], tuple[IdArray, Float32Array]]


def cycle_row_scores(queries: IdArray, neighbours: IdArray, back: ListLookup, k: int) -> Float64Array:
    """Return 1 for each query that is among the k neighbours, in one space, of one of its neighbours in the other; else 0.

    Parameters
    ----------
    queries : array of shape (m,), int32
    neighbours : array of shape (m, k), int32
        Neighbours of each query in the space of the first step.
    back : callable
        Lists in the space of the step back; called once, for all rows of `neighbours`.
    """
    wanted = np.unique(neighbours[neighbours >= 0])
    lists = back(wanted)[0][:, :k]
    found = np.zeros(len(queries), np.bool_)
    for t in range(k):
        position = np.searchsorted(wanted, neighbours[:, t]).clip(0, len(wanted) - 1)
        found |= (neighbours[:, t] >= 0) & (lists[position] == queries[:, None]).any(axis=1)
    return found.astype(np.float64)


@dataclass(frozen=True)
class GraphCounts:
    """Counts of one directed graph with zero diagonal, for the closed form of `shared_edges_null`."""

    edges: float
    same: float
    reciprocal: float
    out_pairs: float
    in_pairs: float
    chains: float

    @property
    def disjoint(self) -> float:
        """Number of pairs of edges that share no node."""
        return self.edges**2 - self.same - self.reciprocal - self.out_pairs - self.in_pairs - self.chains


def count_graph(ids: IdArray, k: int) -> GraphCounts:
    """Compute the counts of a k-nearest-neighbour graph from in-degrees and reciprocal pairs: O(n k^2)."""
    n = len(ids)
    in_degree = np.bincount(ids[:, :k].ravel(), minlength=n).astype(np.float64)
    reciprocal = float(kernels.count_reciprocal(np.ascontiguousarray(ids[:, :k]), k))
    edges = float(n * k)
    return GraphCounts(
        edges=edges,
        same=edges,
        reciprocal=reciprocal,
        out_pairs=edges * (k - 1),
        in_pairs=float(in_degree @ in_degree) - edges,
        chains=2 * (edges * k - reciprocal),
    )


def shared_edges_null(a: GraphCounts, b: GraphCounts, n: int) -> PearsonNull:
    """Return the null distribution of T = sum_ij A_ij B_p(i)p(j) over all n! permutations p.

    Mean and standard deviation are exact.

    E[T] = E_A E_B / n2; E[T^2] sums over the ways in which two edges share nodes, each with its number of images:
    (same same' + rev rev') / n2 + (src src' + tgt tgt') / n3 + ch ch' / (2 n3) + dis dis' / n4, with n2 = n (n - 1),
    n3 = n2 (n - 2), n4 = n3 (n - 3). Needs n >= 4.

    The skew is approximated by that of a sum of rare matches, single or in reciprocal pairs (a compound Poisson
    distribution): its third cumulant is 3 var - 2 mean.
    """
    n2 = float(n * (n - 1))
    n3 = n2 * (n - 2)
    n4 = n3 * (n - 3)
    mean = a.edges * b.edges / n2
    square = (
        (a.same * b.same + a.reciprocal * b.reciprocal) / n2
        + (a.out_pairs * b.out_pairs + a.in_pairs * b.in_pairs) / n3
        + a.chains * b.chains / (2 * n3)
        + a.disjoint * b.disjoint / n4
    )
    variance = max(0.0, square - mean**2)
    skew = (3 * variance - 2 * mean) / variance**1.5 if variance > 0 else 0.0
    return PearsonNull(mean, variance**0.5, max(0.0, skew), step=1.0)


def mutual_knn_null(a: GraphCounts, b: GraphCounts, n: int) -> PearsonNull:
    """Return the null distribution of mutual_knn: mean k / (n - 1) and variance exact, tail as in `shared_edges_null`."""
    return shared_edges_null(a, b, n).scaled(1 / a.edges)


def cycle_knn_null(ids: IdArray, k: int) -> NullMean:
    """Return the exact mean of cycle_knn over all n! permutations: (1/n) sum_i [1 - C(n-1-c_i, k) / C(n-1, k)].

    c_i is the in-degree of item i in the graph of the step back: a's in direction ab, b's in ba. Under a random permutation,
    the k neighbours of each item in the other graph are a random set.

    Parameters
    ----------
    ids : array of shape (n, >= k), int32
    """
    n = len(ids)
    free = n - 1 - np.bincount(ids[:, :k].ravel(), minlength=n).astype(np.float64)
    # C(free, k) / C(n - 1, k) is 0 if fewer than k are free.
    ratio = np.where(free >= k, gammaln(free + 1) - gammaln(np.maximum(free - k, 0) + 1), -np.inf)
    return NullMean(float(1 - np.exp(ratio - gammaln(n) + gammaln(n - k)).mean()))
