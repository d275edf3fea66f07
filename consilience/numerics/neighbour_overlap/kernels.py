"""Compiled loops over neighbour lists, with explicit signatures, cached by numba.

The kernels are serial and release the interpreter's lock: callers run several at once on threads, also in a forked process. An
id of -1 ends an incomplete list (see `lists.NeighbourLists.restricted`). Rows with such lists are left out of every mean, and
kernels that follow ids to other rows skip them.
"""

import numba as nb
import numpy as np
import numpy.typing as npt

from consilience.numerics.knn.order import inner_product
from consilience.numerics.rows.arrays import BoolArray, CountArray, Float32Array, Float64Array, IdArray

_IDS = nb.types.Array(nb.int32, 2, "C", readonly=True)
_STACK = nb.types.Array(nb.int32, 3, "C", readonly=True)
_LIST = nb.types.Array(nb.int32, 1, "C", readonly=True)


@nb.njit(nb.int64[:, ::1](_STACK, _STACK, _LIST, _LIST), cache=True, nogil=True)
def count_grid_overlaps(  # noqa: C901 - nested loops are what a kernel is
    a: IdArray, b: IdArray, permutation: IdArray, inverse: IdArray
) -> CountArray:
    """Count the overlaps of every layer pair at once, with b's rows permuted.

    total[s, t] = sum_i |N_As(i) & p^-1(N_Bt(p(i)))| for shapes (L_A, n, k) and (L_B, n, k).

    Each id carries one bit for each layer of a that lists it, so that a row costs k (L_A + L_B) steps and not k L_A L_B.
    """
    layers_a, n, k = a.shape
    layers_b = b.shape[0]
    total = np.zeros((layers_a, layers_b), np.int64)
    listed = np.zeros(n, np.uint64)
    for first in range(0, layers_a, 64):
        last = min(first + 64, layers_a)
        for i in range(n):
            for s in range(first, last):
                for t in range(k):
                    listed[a[s, i, t]] |= np.uint64(1) << np.uint64(s - first)
            row = permutation[i]
            for u in range(layers_b):
                for t in range(k):
                    bits = listed[inverse[b[u, row, t]]]
                    s = first
                    while bits:
                        if bits & np.uint64(1):
                            total[s, u] += 1
                        bits >>= np.uint64(1)
                        s += 1
            for s in range(first, last):
                for t in range(k):
                    listed[a[s, i, t]] = 0
    return total


@nb.njit(nb.int64(_IDS, nb.int64), cache=True, nogil=True)
def count_reciprocal(ids: IdArray, k: int) -> int:
    """Count the ordered pairs (i, j) with j in N(i) and i in N(j)."""
    total = 0
    for i in range(ids.shape[0]):
        for t in range(k):
            j = ids[i, t]
            for u in range(k):
                if ids[j, u] == i:
                    total += 1
                    break
    return total


_ITEMS = nb.types.Array(nb.int32, 1, "C", readonly=True)
_MASK = nb.types.Array(nb.boolean, 1, "C", readonly=True)
_SINGLES = nb.types.Array(nb.float32, 2, "C", readonly=True)
_ROWS = nb.float64[::1]
_LISTS = nb.types.Tuple((nb.int32[:, ::1], nb.float32[:, ::1], nb.boolean[::1]))  # type: ignore[no-untyped-call]  # numba is partly typed


@nb.njit(nb.int64(_IDS, _IDS, nb.int64, nb.int32[:, ::1], nb.int32[:, ::1]), cache=True, nogil=True)
def match_ranks(a: IdArray, b: IdArray, i: int, scratch: IdArray, matches: IdArray) -> int:
    """Write the ranks in both lists of each shared neighbour of row i, in b's order, and return how many there are.

    Parameters
    ----------
    scratch : array of shape (2, gallery), int32
        For each item the last row whose list in a held it, and at which rank; starts at -1.
    matches : array of shape (2, k), int32
        Ranks from 0: in a in the first row, in b in the second.
    """
    for t in range(a.shape[1]):
        scratch[0, a[i, t]] = i
        scratch[1, a[i, t]] = t
    found = 0
    for t in range(b.shape[1]):
        if scratch[0, b[i, t]] == i:
            matches[0, found] = scratch[1, b[i, t]]
            matches[1, found] = t
            found += 1
    return found


@nb.njit(_ROWS(_IDS, _IDS, nb.int64), cache=True, nogil=True)
def overlap_rows(a: IdArray, b: IdArray, gallery: int) -> Float64Array:
    """Compute the share of k ids that are in both lists."""
    n, k = a.shape
    scratch, matches = np.full((2, gallery), -1, np.int32), np.empty((2, k), np.int32)
    scores = np.empty(n)
    for i in range(n):
        scores[i] = match_ranks(a, b, i, scratch, matches) / k
    return scores


@nb.njit(_ROWS(_IDS, _IDS, nb.int64), cache=True, nogil=True)
def jaccard_rows(a: IdArray, b: IdArray, gallery: int) -> Float64Array:
    """Compute the shared neighbours over all neighbours: m / (2k - m)."""
    n, k = a.shape
    scratch, matches = np.full((2, gallery), -1, np.int32), np.empty((2, k), np.int32)
    scores = np.empty(n)
    for i in range(n):
        shared = match_ranks(a, b, i, scratch, matches)
        scores[i] = shared / (2 * k - shared)
    return scores


@nb.njit(_ROWS(_IDS, _IDS, nb.int64), cache=True, nogil=True)
def rank_rows(a: IdArray, b: IdArray, gallery: int) -> Float64Array:
    """Sum 2 / ((1 + |r_A - r_B|)(r_A + r_B)) over shared neighbours, ranks from 1, and divide by H_m; 0 if m = 0."""
    n, k = a.shape
    scratch, matches = np.full((2, gallery), -1, np.int32), np.empty((2, k), np.int32)
    scores = np.zeros(n)
    for i in range(n):
        harmonic = 0.0
        for m in range(match_ranks(a, b, i, scratch, matches)):
            first, second = matches[0, m], matches[1, m]
            scores[i] += 2.0 / ((1 + abs(first - second)) * (first + second + 2))
            harmonic += 1.0 / (m + 1)
        if harmonic > 0:
            scores[i] /= harmonic
    return scores


@nb.njit(_ROWS(_IDS, _IDS, nb.int64), cache=True, nogil=True)
def lcs_rows(a: IdArray, b: IdArray, gallery: int) -> Float64Array:
    """Compute the length of the longest common subsequence.

    Ids in a list are unique, so it is the longest increasing subsequence of a's ranks in b's order: O(k + m log m) per row by
    patience sorting, with `tails[l]` the least rank that ends a subsequence of length l + 1.
    """
    n, k = a.shape
    scratch, matches = np.full((2, gallery), -1, np.int32), np.empty((2, k), np.int32)
    tails = np.empty(k, np.int32)
    scores = np.empty(n)
    for i in range(n):
        length = 0
        for m in range(match_ranks(a, b, i, scratch, matches)):
            low, high = 0, length
            while low < high:
                middle = (low + high) // 2
                if tails[middle] < matches[0, m]:
                    low = middle + 1
                else:
                    high = middle
            tails[low] = matches[0, m]
            length = max(length, low + 1)
        scores[i] = length
    return scores


@nb.njit(_ROWS(_IDS, _IDS, nb.int64), cache=True, nogil=True)
def edit_rows(a: IdArray, b: IdArray, gallery: int) -> Float64Array:
    """Compute one minus the Levenshtein distance over k.

    Edits keep a chain of shared ids with increasing ranks in both lists; between two kept ids at distances x and y,
    max(x, y) - 1 edits are needed. The cheapest chain over the m shared ids takes O(k + m^2) per row instead of O(k^2).
    """
    n, k = a.shape
    scratch, matches = np.full((2, gallery), -1, np.int32), np.empty((2, k), np.int32)
    costs = np.empty(k, np.int32)
    scores = np.empty(n)
    for i in range(n):
        least = k
        for m in range(match_ranks(a, b, i, scratch, matches)):
            first, second = matches[0, m], matches[1, m]
            cost = max(first, second)
            for earlier in range(m):
                if matches[0, earlier] < first:
                    gap = max(first - matches[0, earlier], second - matches[1, earlier]) - 1
                    cost = min(cost, costs[earlier] + gap)
            costs[m] = cost
            least = min(least, cost + k - 1 - min(first, second))
        scores[i] = 1.0 - least / k
    return scores


@nb.njit(_ROWS(_IDS, _IDS), cache=True, nogil=True)
def cycle_rows(a: IdArray, b: IdArray) -> Float64Array:
    """Return 1 for each i with some j in N_B(i) and i in N_A(j), else 0: edges j to i of a are looked up in b."""
    n, k = a.shape
    scores = np.zeros(n)
    for j in range(n):
        for t in range(k):
            i = a[j, t]
            if i < 0 or scores[i] > 0:
                continue
            for u in range(k):
                if b[i, u] == j:
                    scores[i] = 1.0
                    break
    return scores


@nb.njit(_ROWS(_IDS, _SINGLES, _SINGLES, _IDS, _SINGLES, _SINGLES, nb.int64), cache=True, nogil=True)
def second_order_rows(  # noqa: PLR0917 - compiled code takes no keywords
    a: IdArray,
    a_in_a: Float32Array,
    a_in_b: Float32Array,
    b: IdArray,
    b_in_a: Float32Array,
    b_in_b: Float32Array,
    gallery: int,
) -> Float64Array:
    """Compute the cosine of the similarities in both spaces to the union of both lists; NaN if one side's are all 0.

    `a_in_b` holds the similarities in space b to the ids that a lists, and so on.
    """
    n, k = a.shape
    owner = np.full(gallery, -1, np.int32)
    scores = np.empty(n)
    for i in range(n):
        dot, square_a, square_b = 0.0, 0.0, 0.0
        for t in range(k):
            owner[a[i, t]] = i
            x, y = np.float64(a_in_a[i, t]), np.float64(a_in_b[i, t])
            dot, square_a, square_b = dot + x * y, square_a + x * x, square_b + y * y
        for t in range(k):
            if owner[b[i, t]] != i:
                x, y = np.float64(b_in_a[i, t]), np.float64(b_in_b[i, t])
                dot, square_a, square_b = dot + x * y, square_a + x * x, square_b + y * y
        defined = square_a > 0 and square_b > 0
        scores[i] = min(1.0, max(-1.0, dot / np.sqrt(square_a * square_b))) if defined else np.nan
    return scores


@nb.njit(nb.float32[:, ::1](_SINGLES, _ITEMS, _IDS), cache=True, nogil=True)
def inner_products(rows: Float32Array, left: IdArray, right: IdArray) -> Float32Array:
    """Compute inner products of row left[i] with rows right[i, t] in float64: shapes (n, d), (m,), (m, k) to (m, k)."""
    products = np.empty(right.shape, np.float32)
    for i in range(right.shape[0]):
        for t in range(right.shape[1]):
            products[i, t] = inner_product(rows, left[i], rows, right[i, t])
    return products


@nb.njit(_ROWS(_SINGLES, _ITEMS), cache=True, nogil=True, fastmath={"reassoc", "contract"})
def mean_similarities(rows: Float32Array, items: IdArray) -> Float64Array:
    """Compute the mean inner product of each of some rows with all of them, x_i . mean(x): (n, d), (m,) to (m,)."""
    d = rows.shape[1]
    mean = np.zeros(d)
    for item in items:
        for c in range(d):
            mean[c] += np.float64(rows[item, c])
    mean /= len(items)
    means = np.empty(len(items))
    for i in range(len(items)):
        x = rows[items[i]]
        total = 0.0
        for c in range(d):
            total += np.float64(x[c]) * mean[c]
        means[i] = total
    return means


@nb.njit(_LISTS(_IDS, _SINGLES, _MASK, nb.int64), cache=True, nogil=True)
def restrict(
    ids: IdArray, similarities: Float32Array, kept: BoolArray, k: int
) -> tuple[IdArray, Float32Array, BoolArray]:
    """Restrict lists longer than k to the kept rows, renumbered: the first k kept ids of each.

    Returns
    -------
    ids, similarities : (kept rows, k); an incomplete list ends with id -1 and similarity 0
    complete : (kept rows,), False for an incomplete list
    """
    n, width = ids.shape
    number = np.full(n, -1, np.int32)
    m = 0
    for i in range(n):
        if kept[i]:
            number[i] = m
            m += 1
    out, values = np.full((m, k), -1, np.int32), np.zeros((m, k), np.float32)
    complete = np.zeros(m, np.bool_)
    for i in range(n):
        row, found = number[i], 0
        if row < 0:
            continue
        for t in range(width):
            if number[ids[i, t]] >= 0:
                out[row, found] = number[ids[i, t]]
                values[row, found] = similarities[i, t]
                found += 1
                if found == k:
                    complete[row] = True
                    break
    return out, values, complete


#: Array of shape (rows, galleries): 1 if the item is in the gallery.
Membership = npt.NDArray[np.uint16]

_FLAGS = nb.types.Array(nb.uint16, 2, "C", readonly=True)
_COUNTS = nb.types.UniTuple(nb.int64[::1], 2)  # type: ignore[no-untyped-call]  # numba is partly typed


@nb.njit(nb.void(_LIST, _FLAGS, nb.int64, nb.uint16[:, ::1], nb.uint16[::1]), cache=True, nogil=True)
def take_first(ids: IdArray, kept: Membership, k: int, taken: Membership, counts: Membership) -> None:
    """Mark and count, for every gallery, the first k neighbours of a row that are in it."""
    counts[:] = 0
    for t in range(len(ids)):
        flags = kept[ids[t]]
        for g in range(kept.shape[1]):
            taken[t, g] = flags[g] * (counts[g] < k)
            counts[g] += taken[t, g]


@nb.njit(_COUNTS(_IDS, _IDS, _FLAGS, nb.int64), cache=True, nogil=True)
def overlap_in_galleries(a: IdArray, b: IdArray, kept: Membership, k: int) -> tuple[CountArray, CountArray]:
    """Count the overlaps of the first k kept neighbours of all rows, for every gallery.

    Parameters
    ----------
    a, b : arrays of shape (n, width), int32
    kept : array of shape (n, galleries), uint16

    Returns
    -------
    overlaps : (galleries,), summed over the kept rows with k kept neighbours in both lists
    rows : (galleries,), number of these rows
    """
    n, width = a.shape
    galleries = kept.shape[1]
    taken_a, taken_b = np.empty((width, galleries), np.uint16), np.empty((b.shape[1], galleries), np.uint16)
    counts_a, counts_b, shared = (
        np.empty(galleries, np.uint16),
        np.empty(galleries, np.uint16),
        np.empty(galleries, np.uint16),
    )
    position = np.full(n, -1, np.int32)
    overlaps, rows = np.zeros(galleries, np.int64), np.zeros(galleries, np.int64)
    for i in range(n):
        take_first(a[i], kept, k, taken_a, counts_a)
        take_first(b[i], kept, k, taken_b, counts_b)
        for t in range(b.shape[1]):
            position[b[i, t]] = t
        shared[:] = 0
        for t in range(width):
            other = position[a[i, t]]
            if other >= 0:
                for g in range(galleries):
                    shared[g] += taken_a[t, g] & taken_b[other, g]
        for g in range(galleries):
            whole = kept[i, g] * (counts_a[g] == k) * (counts_b[g] == k)
            overlaps[g] += shared[g] * whole
            rows[g] += whole
        for t in range(b.shape[1]):
            position[b[i, t]] = -1
    return overlaps, rows


_DOUBLES = nb.types.Array(nb.float64, 2, "C", readonly=True)
_EDGES = nb.types.Tuple((nb.int64[::1], nb.int32[::1], nb.float64[::1], nb.float64[::1]))  # type: ignore[no-untyped-call]  # numba is partly typed
_SUMS = nb.types.UniTuple(nb.float64, 3)  # type: ignore[no-untyped-call]  # the same
_STARTS = nb.types.Array(nb.int64, 1, "C", readonly=True)
_COLUMNS = nb.types.Array(nb.int32, 1, "C", readonly=True)
_VALUES = nb.types.Array(nb.float64, 1, "C", readonly=True)

#: Edges in both graphs, row by row: start of each row (n + 1), columns, and both values of each edge.
Edges = tuple[CountArray, IdArray, Float64Array, Float64Array]


@nb.njit(_EDGES(_IDS, _DOUBLES, _IDS, _DOUBLES, nb.int64), cache=True, nogil=True)
def share_edges(a: IdArray, values_a: Float64Array, b: IdArray, values_b: Float64Array, gallery: int) -> Edges:
    """Find the edges (i, j) with j in both N_A(i) and N_B(i), and their values P_ij and Q_ij.

    Ids are below `gallery`; an id of -1 is skipped.
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
    """Return the value of the reverse edge for each edge, 0 if there is none.

    Edge e leads from item sources[e] to the item whose edges are in row rows[e].
    """
    found = np.zeros(len(sources))
    for e in range(len(sources)):
        for s in range(starts[rows[e]], starts[rows[e] + 1]):
            if columns[s] == sources[e]:
                found[e] = values[s]
                break
    return found


@nb.njit(_SUMS(_STARTS, _COLUMNS, _VALUES, _VALUES), cache=True, nogil=True)
def edge_products(starts: CountArray, columns: IdArray, p: Float64Array, q: Float64Array) -> tuple[float, float, float]:
    """Compute tr(PQ) = sum_ij P_ij Q_ji, 1'PQ1 and 1'QP1 of two matrices over the same edges: O(n + edges).

    For the trace, the edges that enter i come from the transpose and are looked up among those that leave i.
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
