"""CKNNA from some of the rows: its sums over all rows are estimated, and each row's share in the ratio of them is told.

Every sum of CKNNA runs over rows: what a row adds needs its own lists, and but for the variant "paper" those of its neighbours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np

from consilience.numerics import compiled_sparse
from consilience.numerics.arrays import Float64Array, IdArray
from consilience.numerics.cknna import PRH_EPSILON, Variant
from consilience.numerics.compiled import CountArray

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
    starts, ends, p, q = compiled_sparse.share_edges(*a.weights, *b.weights, a.n)
    size, rows = a.size, np.repeat(np.arange(len(a.queries)), np.diff(starts))

    def total(values: Float64Array) -> Float64Array:
        return np.bincount(rows, values, len(a.queries)).astype(np.float64)

    if variant == "paper":
        return size * total(p * q)
    near = _Neighbours.of(a, b, ends)
    back = compiled_sparse.reverse_values(a.queries[rows], near.place, near.starts, near.ends, near.q)
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
        return cls(*compiled_sparse.share_edges(*first, *other, a.n), place)

    def sums(self, values: Float64Array) -> Float64Array:
        """Sums of values over the edges of each row."""
        count = len(self.starts) - 1
        return np.bincount(np.repeat(np.arange(count), np.diff(self.starts)), values, count).astype(np.float64)
