"""CKNNA: kernel alignment over the edges that two neighbour graphs share, by sparse sums instead of masked n x n matrices."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from typing import Literal, Self

import numpy as np

from consilience.numerics.neighbour_overlap import kernels
from consilience.numerics.neighbour_overlap.kernels import Edges
from consilience.numerics.neighbour_overlap.lists import NeighbourLists, permute_ids
from consilience.numerics.rows.arrays import CountArray, Float64Array, IdArray
from consilience.numerics.stats.nulls import Permutation

Variant = Literal["prh", "paper", "biased"]
#: Constant that the reference implementation adds to the denominator.
PRH_EPSILON = 1e-6


@dataclass(frozen=True)
class WeightedGraph:
    """Neighbour graph with kernel values on its edges.

    Attributes
    ----------
    ids : array of shape (n, k), int32
        -1 at the end of an incomplete list.
    values : array of shape (n, k), float64
        Kernel value of each edge; centred by row for the variant "paper".
    own : float
        Alignment of the graph with itself, which no permutation changes.
    """

    ids: IdArray
    values: Float64Array
    own: float

    def permuted(self, permutation: Permutation) -> Self:
        """Permute the items: item i of the result is item p(i)."""
        return replace(self, ids=permute_ids(self.ids, permutation), values=self.values[permutation])


def weight_edges(lists: NeighbourLists, k: int, variant: Variant) -> WeightedGraph:
    """Compute the weighted graph of a variant from lists of at least k neighbours.

    prh: the similarities. paper: the similarities less the row's mean similarity to all items. biased: the similarities, with
    each item also a candidate for its own list, as the diagonal of the kernel is in the reference implementation.
    """
    cut = lists.first(k)
    ids, values = cut.ids, cut.similarities.astype(np.float64)
    if variant == "paper":
        values -= cut.space.means(cut.items)[:, None]
    elif variant == "biased":
        ids, values = insert_self(ids, values, np.arange(cut.n, dtype=np.int32), cut.space.lengths(cut.items))
    return WeightedGraph(ids, values, _sum_edges(_own_edges(ids, values), cut.n, variant))


def insert_self(
    ids: IdArray, values: Float64Array, items: IdArray, lengths: Float64Array
) -> tuple[IdArray, Float64Array]:
    """Insert each item into its own list, after the neighbours more similar than itself, and drop the last neighbour.

    Parameters
    ----------
    ids, values : arrays of shape (m, k), neighbours and similarities
    items, lengths : arrays of shape (m,), the items of the lists and the similarity of each to itself
    """
    k = ids.shape[1]
    ids = np.concatenate([ids, items[:, None]], axis=1)
    values = np.concatenate([values, lengths[:, None]], axis=1)
    key = np.where(ids < 0, -np.inf, values)
    order = np.argsort(-key, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(values, order, axis=1)


def cknna(a: WeightedGraph, b: WeightedGraph, variant: Variant = "prh") -> float:
    """Kernel alignment restricted to pairs that are neighbours in both spaces.

    s = sim(K, L) / sqrt(sim(K, K) sim(L, L)), with sim over the edges of both graphs, or of one graph alone in the terms
    below the root. With P and Q the kernels K and L masked to the shared edges:

    - prh: sim = [tr(PQ) + sum(P) sum(Q) / ((n-1)(n-2)) - 2 (1'PQ1) / (n-2)] / (n (n-3)), the unbiased HSIC of the masked
      kernels; 1e-6 is added to the denominator. Not exactly symmetric, since P and Q are not.
    - paper: sim = sum_ij P_ij Q_ij of kernels centred by row means. Symmetric, in [-1, 1].
    - biased: sim = tr(PHQH), the biased HSIC; an item may be its own neighbour. Symmetric.

    Near 0 at chance (prh, paper); the value at chance is estimated by permutation.

    Parameters
    ----------
    a, b : WeightedGraphs of the same n >= 4 items, of one variant
    variant : "prh", "paper" or "biased"

    Returns
    -------
    float, NaN unless both terms below the root are above 0

    References
    ----------
    Huh et al. 2024, arXiv 2405.07987, appendix A, eq. 14; prh: platonic-rep at dcd76ba, ``cknna``.

    Examples
    --------
    >>> ids = np.array([[1], [0], [3], [2], [3]], dtype=np.int32)
    >>> lists = NeighbourLists.of(ids, np.ones((5, 1), np.float32))
    >>> graph = weight_edges(lists, 1, "prh")
    >>> round(cknna(graph, graph), 4)
    1.0
    """
    if not (a.own > 0 and b.own > 0):
        return float("nan")
    cross = _alignment(a.ids, a.values, b.ids, b.values, variant)
    return cross / (sqrt(a.own * b.own) + (PRH_EPSILON if variant == "prh" else 0.0))


def _alignment(a: IdArray, values_a: Float64Array, b: IdArray, values_b: Float64Array, variant: Variant) -> float:
    """Compute sim(K, L) over the shared edges."""
    return _sum_edges(kernels.share_edges(a, values_a, b, values_b, len(a)), len(a), variant)


def _own_edges(ids: IdArray, values: Float64Array) -> Edges:
    """Return the edges that a graph shares with itself: all of them."""
    n, k = ids.shape
    if (ids[:, -1] >= 0).all():  # all lists are complete unless rows were left out: nothing is copied
        own = values.reshape(-1)
        return np.arange(0, n * k + 1, k), ids.reshape(-1), own, own
    present = ids >= 0
    own = values[present]
    return np.concatenate([[0], np.cumsum(present.sum(axis=1))]), ids[present], own, own


def _sum_edges(edges: Edges, n: int, variant: Variant) -> float:
    """Compute sim(K, L) over the edges of both graphs of n items; see `cknna`."""
    starts, columns, p, q = edges
    if variant == "paper":
        return float((p * q).sum())
    trace, pq, qp = kernels.edge_products(starts, columns, p, q)
    totals = float(p.sum() * q.sum())
    if variant == "prh":
        return (trace + totals / ((n - 1) * (n - 2)) - 2 * pq / (n - 2)) / (n * (n - 3))
    return trace - (pq + qp) / n + totals / n**2


#: Neighbours of some rows, and the kernel value of each edge: arrays of shape (m, k), int32 and float64.
WeightedLists = tuple[IdArray, Float64Array]


@dataclass(frozen=True)
class SampledGraph:
    """Weighted neighbour graph of a layer (see `WeightedGraph`), restricted to a sample of query rows.

    Attributes
    ----------
    queries : array of shape (m,), int32, the query rows
    weights : edges of the query rows
    second : function from ascending ids of other rows to their edges
    size : number of rows of the gallery
    n : upper bound of the ids
    """

    queries: IdArray
    weights: WeightedLists
    second: Callable[[IdArray], WeightedLists]
    size: int
    n: int


def cknna_row_scores(a: SampledGraph, b: SampledGraph, variant: Variant) -> Float64Array:
    """Compute each query row's contribution to CKNNA: their mean is the ratio of the estimated sums, their spread its error.

    The contribution of row i is the ratio plus its first-order change if the mean terms are replaced by the row's own terms
    (the delta method). The ratio of unbiased sums is itself unbiased only up to terms of order 1 / m.

    Returns
    -------
    array of shape (m,), NaN unless both sums below the root are above 0
    """
    cross, own_a, own_b = _align(a, b, variant), _align(a, a, variant), _align(b, b, variant)
    top, left, right = float(cross.mean()), float(own_a.mean()), float(own_b.mean())
    if not (left > 0 and right > 0):
        return np.full(len(cross), np.nan)
    root = sqrt(left * right)
    below = root + (PRH_EPSILON if variant == "prh" else 0.0)
    change = root / 2 * ((own_a - left) / left + (own_b - right) / right)
    return np.asarray(top / below + (cross - top) / below - top * change / below**2, dtype=np.float64)


def _align(a: SampledGraph, b: SampledGraph, variant: Variant) -> Float64Array:
    """Compute each query row's contribution to sim(K, L) over the shared edges; see `cknna`."""
    starts, ends, p, q = kernels.share_edges(*a.weights, *b.weights, a.n)
    size, rows = a.size, np.repeat(np.arange(len(a.queries)), np.diff(starts))

    def total(values: Float64Array) -> Float64Array:
        return np.bincount(rows, values, len(a.queries)).astype(np.float64)

    if variant == "paper":
        return size * total(p * q)
    near = _Neighbours.of(a, b, ends)
    back = kernels.reverse_values(a.queries[rows], near.position, near.starts, near.ends, near.q)
    trace, pq = total(p * back), total(p * near.sums(near.q)[near.position])
    sum_p, sum_q = total(p), total(q)
    mean_p, mean_q = float(sum_p.mean()), float(sum_q.mean())
    product = mean_p * sum_q + mean_q * sum_p - mean_p * mean_q
    if variant == "prh":
        totals = size**2 * product / ((size - 1) * (size - 2))
        return (size * trace + totals - 2 * size * pq / (size - 2)) / (size * (size - 3))
    qp = total(q * near.sums(near.p)[near.position])
    return size * trace - (pq + qp) + product


@dataclass(frozen=True)
class _Neighbours:
    """Shared edges of the end rows of edges, row by row as in `kernels.Edges`, and the position of each edge's end row."""

    starts: CountArray
    ends: IdArray
    p: Float64Array
    q: Float64Array
    position: CountArray

    @classmethod
    def of(cls, a: SampledGraph, b: SampledGraph, ends: IdArray) -> "_Neighbours":
        rows, position = np.unique(ends, return_inverse=True)
        first = a.second(rows)
        other = first if b is a else b.second(rows)
        return cls(*kernels.share_edges(*first, *other, a.n), position)

    def sums(self, values: Float64Array) -> Float64Array:
        """Sum values over the edges of each row."""
        count = len(self.starts) - 1
        return np.bincount(np.repeat(np.arange(count), np.diff(self.starts)), values, count).astype(np.float64)
