"""Kernel alignment over the edges that two neighbour graphs share: sparse sums in place of masked n x n matrices."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from typing import Literal, Self

import numpy as np

from consilience.numerics.neighbour_overlap import kernels
from consilience.numerics.neighbour_overlap.kernels import CountArray, Edges
from consilience.numerics.neighbour_overlap.lists import Lists, relabel
from consilience.numerics.rows.arrays import Float64Array, IdArray
from consilience.numerics.stats.nulls import Permutation

Variant = Literal["prh", "paper", "biased"]
#: What the reference implementation adds to the denominator.
PRH_EPSILON = 1e-6


@dataclass(frozen=True)
class Weighted:
    """A neighbour graph whose edges carry what CKNNA multiplies.

    Attributes
    ----------
    ids : array of shape (n, k), int32
        -1 where a list ran out.
    values : array of shape (n, k), float64
        The kernel at each edge; centred by row under the variant "paper".
    own : float
        The graph's alignment with itself, which no relabelling changes.
    """

    ids: IdArray
    values: Float64Array
    own: float

    def relabelled(self, permutation: Permutation) -> Self:
        """Give item i the place of item p(i)."""
        return replace(self, ids=relabel(self.ids, permutation), values=self.values[permutation])


def weigh(lists: Lists, k: int, variant: Variant) -> Weighted:
    """Turn lists of at least k neighbours into the weighted graph of a variant.

    prh: the similarities. paper: the similarities less the row's mean similarity to all items. biased: the similarities, where
    an item competes for the k places in its own list, as its kernel's diagonal does in the reference.
    """
    cut = lists.first(k)
    ids, values = cut.ids, cut.similarities.astype(np.float64)
    if variant == "paper":
        values -= cut.space.means(cut.items)[:, None]
    elif variant == "biased":
        ids, values = enter_self(ids, values, np.arange(cut.n, dtype=np.int32), cut.space.lengths(cut.items))
    return Weighted(ids, values, _sum_edges(_own_edges(ids, values), cut.n, variant))


def enter_self(
    ids: IdArray, values: Float64Array, items: IdArray, lengths: Float64Array
) -> tuple[IdArray, Float64Array]:
    """Put each item into its own list, after the neighbours more similar than itself, and drop the last of the list.

    Parameters
    ----------
    ids, values : arrays of shape (m, k), neighbours and similarities
    items, lengths : arrays of shape (m,), whose lists they are, and the similarity of each to itself
    """
    k = ids.shape[1]
    ids = np.concatenate([ids, items[:, None]], axis=1)
    values = np.concatenate([values, lengths[:, None]], axis=1)
    key = np.where(ids < 0, -np.inf, values)
    order = np.argsort(-key, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(values, order, axis=1)


def cknna(a: Weighted, b: Weighted, variant: Variant = "prh") -> float:
    """Kernel alignment in which only pairs count that are neighbours in both spaces.

    s = sim(K, L) / sqrt(sim(K, K) sim(L, L)), where sim runs over the edges of both graphs, and over one graph's own edges in
    the terms below the root. With P and Q the kernels K and L masked to the shared edges:

    - prh: sim = [tr(PQ) + sum(P) sum(Q) / ((n-1)(n-2)) - 2 (1'PQ1) / (n-2)] / (n (n-3)), the unbiased HSIC of the masked
      kernels; 1e-6 is added to the denominator. Not exactly symmetric, since P and Q are not.
    - paper: sim = sum_ij P_ij Q_ij of kernels centred by row means. Symmetric, in [-1, 1].
    - biased: sim = tr(PHQH), the biased HSIC; an item may be its own neighbour. Symmetric.

    At chance it is near 0 (prh, paper); found by permutation.

    Parameters
    ----------
    a, b : Weighted graphs of the same n >= 4 items, of one variant
    variant : "prh", "paper" or "biased"

    Returns
    -------
    float, NaN where a term below the root is not above 0

    References
    ----------
    Huh et al. 2024, arXiv 2405.07987, appendix A, eq. 14; prh: platonic-rep at dcd76ba, ``cknna``.

    Examples
    --------
    >>> ids = np.array([[1], [0], [3], [2], [3]], dtype=np.int32)
    >>> lists = Lists.of(ids, np.ones((5, 1), np.float32))
    >>> graph = weigh(lists, 1, "prh")
    >>> round(cknna(graph, graph), 4)
    1.0
    """
    if not (a.own > 0 and b.own > 0):
        return float("nan")
    cross = _alignment(a.ids, a.values, b.ids, b.values, variant)
    return cross / (sqrt(a.own * b.own) + (PRH_EPSILON if variant == "prh" else 0.0))


def _alignment(a: IdArray, values_a: Float64Array, b: IdArray, values_b: Float64Array, variant: Variant) -> float:
    """sim(K, L) over the shared edges."""
    return _sum_edges(kernels.share_edges(a, values_a, b, values_b, len(a)), len(a), variant)


def _own_edges(ids: IdArray, values: Float64Array) -> Edges:
    """What a graph shares with itself: every edge."""
    n, k = ids.shape
    if (ids[:, -1] >= 0).all():  # no list ran out, which is so but where rows were left out: nothing is copied
        own = values.reshape(-1)
        return np.arange(0, n * k + 1, k), ids.reshape(-1), own, own
    there = ids >= 0
    own = values[there]
    return np.concatenate([[0], np.cumsum(there.sum(axis=1))]), ids[there], own, own


def _sum_edges(edges: Edges, n: int, variant: Variant) -> float:
    """sim(K, L) over the edges of both graphs of n items; see `cknna`."""
    starts, columns, p, q = edges
    if variant == "paper":
        return float((p * q).sum())
    trace, pq, qp = kernels.edge_products(starts, columns, p, q)
    totals = float(p.sum() * q.sum())
    if variant == "prh":
        return (trace + totals / ((n - 1) * (n - 2)) - 2 * pq / (n - 2)) / (n * (n - 3))
    return trace - (pq + qp) / n + totals / n**2


#: Neighbours of some rows, and the kernel at each edge: arrays of shape (m, k), int32 and float64.
Weights = tuple[IdArray, Float64Array]


@dataclass(frozen=True)
class LocalGraph:
    """The weighted neighbour graph of a layer (see `cknna.Weighted`), as far as the rows that asked see it.

    Attributes
    ----------
    queries : array of shape (m,), int32, the rows that asked
    weights : their edges
    second : gives the edges of other rows, of ascending ids
    size : rows of the gallery
    n : ids are below it
    """

    queries: IdArray
    weights: Weights
    second: Callable[[IdArray], Weights]
    size: int
    n: int


def cknna_row_scores(a: LocalGraph, b: LocalGraph, variant: Variant) -> Float64Array:
    """Give each row's share in CKNNA: their mean is the ratio of the estimated sums, their spread its error.

    The share of row i is the ratio plus the change in it, to first order, that the row's own terms make against the mean terms
    (the delta method). The ratio of unbiased sums is itself unbiased only up to terms of order 1 / m.

    Returns
    -------
    array of shape (m,), NaN where a sum below the root is not above 0
    """
    cross, own_a, own_b = _align(a, b, variant), _align(a, a, variant), _align(b, b, variant)
    top, left, right = float(cross.mean()), float(own_a.mean()), float(own_b.mean())
    if not (left > 0 and right > 0):
        return np.full(len(cross), np.nan)
    root = sqrt(left * right)
    below = root + (PRH_EPSILON if variant == "prh" else 0.0)
    lean = root / 2 * ((own_a - left) / left + (own_b - right) / right)
    return np.asarray(top / below + (cross - top) / below - top * lean / below**2, dtype=np.float64)


def _align(a: LocalGraph, b: LocalGraph, variant: Variant) -> Float64Array:
    """Each row's share in sim(K, L) over the shared edges; see `cknna.cknna`."""
    starts, ends, p, q = kernels.share_edges(*a.weights, *b.weights, a.n)
    size, rows = a.size, np.repeat(np.arange(len(a.queries)), np.diff(starts))

    def total(values: Float64Array) -> Float64Array:
        return np.bincount(rows, values, len(a.queries)).astype(np.float64)

    if variant == "paper":
        return size * total(p * q)
    near = _Neighbours.of(a, b, ends)
    back = kernels.reverse_values(a.queries[rows], near.place, near.starts, near.ends, near.q)
    trace, pq = total(p * back), total(p * near.sums(near.q)[near.place])
    sum_p, sum_q = total(p), total(q)
    mean_p, mean_q = float(sum_p.mean()), float(sum_q.mean())
    product = mean_p * sum_q + mean_q * sum_p - mean_p * mean_q
    if variant == "prh":
        totals = size**2 * product / ((size - 1) * (size - 2))
        return (size * trace + totals - 2 * size * pq / (size - 2)) / (size * (size - 3))
    qp = total(q * near.sums(near.p)[near.place])
    return size * trace - (pq + qp) + product


@dataclass(frozen=True)
class _Neighbours:
    """The shared edges of the rows that edges lead to: row by row as in `compiled_sparse`, and the row of each edge's end."""

    starts: CountArray
    ends: IdArray
    p: Float64Array
    q: Float64Array
    place: CountArray

    @classmethod
    def of(cls, a: LocalGraph, b: LocalGraph, ends: IdArray) -> "_Neighbours":
        rows, place = np.unique(ends, return_inverse=True)
        first = a.second(rows)
        other = first if b is a else b.second(rows)
        return cls(*kernels.share_edges(*first, *other, a.n), place)

    def sums(self, values: Float64Array) -> Float64Array:
        """Sums of values over the edges of each row."""
        count = len(self.starts) - 1
        return np.bincount(np.repeat(np.arange(count), np.diff(self.starts)), values, count).astype(np.float64)
