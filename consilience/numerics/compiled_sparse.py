"""Compiled sums over the edges that two neighbour graphs share."""

import numba as nb
import numpy as np

from consilience.numerics.arrays import Float64Array, IdArray
from consilience.numerics.compiled import CountArray

_IDS = nb.types.Array(nb.int32, 2, "C", readonly=True)
_DOUBLES = nb.types.Array(nb.float64, 2, "C", readonly=True)
_EDGES = nb.types.Tuple((nb.int64[::1], nb.int32[::1], nb.float64[::1], nb.float64[::1]))  # type: ignore[no-untyped-call]  # numba is partly typed
_SUMS = nb.types.UniTuple(nb.float64, 3)  # type: ignore[no-untyped-call]  # the same
_STARTS = nb.types.Array(nb.int64, 1, "C", readonly=True)
_COLUMNS = nb.types.Array(nb.int32, 1, "C", readonly=True)
_VALUES = nb.types.Array(nb.float64, 1, "C", readonly=True)

#: The edges in both graphs, row by row: where each row starts (n + 1), their columns, and the two values of each.
Edges = tuple[CountArray, IdArray, Float64Array, Float64Array]


@nb.njit(_EDGES(_IDS, _DOUBLES, _IDS, _DOUBLES, nb.int64), cache=True, nogil=True)
def share_edges(a: IdArray, values_a: Float64Array, b: IdArray, values_b: Float64Array, gallery: int) -> Edges:
    """Find the edges (i, j) with j in both N_A(i) and N_B(i), and their values P_ij and Q_ij.

    Ids are below `gallery`; an id of -1 is none.
    """
    n, k = a.shape
    owner, slot = np.full(gallery, -1, np.int32), np.empty(gallery, np.int32)
    starts, columns = np.zeros(n + 1, np.int64), np.empty(n * k, np.int32)
    p, q = np.empty(n * k), np.empty(n * k)
    found = 0
    for i in range(n):
        for t in range(k):
            if a[i, t] >= 0:
                owner[a[i, t]] = i
                slot[a[i, t]] = t
        for t in range(k):
            j = b[i, t]
            if j >= 0 and owner[j] == i:
                columns[found], p[found], q[found] = j, values_a[i, slot[j]], values_b[i, t]
                found += 1
        starts[i + 1] = found
    return starts, columns[:found].copy(), p[:found].copy(), q[:found].copy()


@nb.njit(nb.float64[::1](_COLUMNS, _STARTS, _STARTS, _COLUMNS, _VALUES), cache=True, nogil=True)
def reverse_values(
    sources: IdArray, rows: CountArray, starts: CountArray, columns: IdArray, values: Float64Array
) -> Float64Array:
    """Give, for each edge from a source to the end whose edges stand in a row, the value of the reverse edge, 0 for none."""
    found = np.zeros(len(sources))
    for e in range(len(sources)):
        for s in range(starts[rows[e]], starts[rows[e] + 1]):
            if columns[s] == sources[e]:
                found[e] = values[s]
                break
    return found


@nb.njit(_SUMS(_STARTS, _COLUMNS, _VALUES, _VALUES), cache=True, nogil=True)
def edge_products(starts: CountArray, columns: IdArray, p: Float64Array, q: Float64Array) -> tuple[float, float, float]:
    """tr(PQ) = sum_ij P_ij Q_ji, 1'PQ1 and 1'QP1 of two matrices over the same edges; O(n + edges).

    For the trace the edges that enter i are met through the transpose, and looked up among those that leave i.
    """
    n, edges = starts.shape[0] - 1, columns.shape[0]
    ends = np.zeros(n + 1, np.int64)
    for e in range(edges):
        ends[columns[e] + 1] += 1
    for j in range(n):
        ends[j + 1] += ends[j]
    entering, source = np.empty(edges), np.empty(edges, np.int32)
    rows, sums = np.zeros((n, 2)), np.zeros((n, 2))
    place = ends[:-1].copy()
    for i in range(n):
        row_p, row_q = 0.0, 0.0
        for e in range(starts[i], starts[i + 1]):
            j = columns[e]
            at = place[j]
            entering[at] = q[e]
            source[at] = i
            place[j] = at + 1
            row_p += p[e]
            row_q += q[e]
            sums[j, 0] += p[e]
            sums[j, 1] += q[e]
        rows[i, 0], rows[i, 1] = row_p, row_q
    owner, leaving = np.full(n, -1, np.int32), np.empty(n)
    trace, pq, qp = 0.0, 0.0, 0.0
    for i in range(n):
        pq += sums[i, 0] * rows[i, 1]
        qp += sums[i, 1] * rows[i, 0]
        for e in range(starts[i], starts[i + 1]):
            owner[columns[e]] = i
            leaving[columns[e]] = p[e]
        for s in range(ends[i], ends[i + 1]):
            if owner[source[s]] == i:
                trace += leaving[source[s]] * entering[s]
    return trace, pq, qp
