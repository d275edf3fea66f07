"""Compiled loops over neighbour lists, with explicit signatures, kept in numba's cache.

The kernels are serial and release the interpreter's lock: a caller runs several at once with threads, which a forked process
can do. An id of -1 marks a list that ran out (see `lists.Lists.within`): it stands in rows that are left out of every mean, and
the kernels that read a row's neighbours from elsewhere skip it.
"""

import numba as nb
import numpy as np
import numpy.typing as npt

from consilience.numerics.rows.arrays import Float32Array, Float64Array, IdArray

BoolArray = npt.NDArray[np.bool_]
CountArray = npt.NDArray[np.int64]

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
    """Share of k that both lists hold."""
    n, k = a.shape
    scratch, matches = np.full((2, gallery), -1, np.int32), np.empty((2, k), np.int32)
    scores = np.empty(n)
    for i in range(n):
        scores[i] = match_ranks(a, b, i, scratch, matches) / k
    return scores


@nb.njit(_ROWS(_IDS, _IDS, nb.int64), cache=True, nogil=True)
def jaccard_rows(a: IdArray, b: IdArray, gallery: int) -> Float64Array:
    """Shared neighbours over all neighbours: m / (2k - m)."""
    n, k = a.shape
    scratch, matches = np.full((2, gallery), -1, np.int32), np.empty((2, k), np.int32)
    scores = np.empty(n)
    for i in range(n):
        shared = match_ranks(a, b, i, scratch, matches)
        scores[i] = shared / (2 * k - shared)
    return scores


@nb.njit(_ROWS(_IDS, _IDS, nb.int64), cache=True, nogil=True)
def rank_rows(a: IdArray, b: IdArray, gallery: int) -> Float64Array:
    """Sum over shared neighbours of 2 / ((1 + |r_A - r_B|)(r_A + r_B)), ranks from 1, over H_m; 0 where m = 0."""
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
    """Length of the longest common subsequence.

    An id stands once in a list, so it is the longest increasing run of a's ranks in b's order: O(k + m log m) a row by
    patience sorting, where `tails[l]` is the least rank that ends a run of length l + 1.
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
    """One minus the Levenshtein distance over k.

    Edits keep a chain of shared ids, rising in both lists; between two kept ids that lie x and y apart, max(x, y) - 1 edits
    are needed. The cheapest chain is found over the m shared ids, in O(k + m^2) a row and not O(k^2).
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
    """1 where some j in N_B(i) has i in N_A(j), else 0: each edge j to i of a is looked up in b until one is found."""
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
    """Cosine of the similarities in both spaces to the union of both lists; NaN where one side's are all 0.

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


@nb.njit(nb.float32[:, ::1](_SINGLES, _ITEMS, _IDS), cache=True, nogil=True, fastmath={"reassoc", "contract"})
def inner_products(rows: Float32Array, left: IdArray, right: IdArray) -> Float32Array:
    """Inner products of row left[i] with rows right[i, t], accumulated in float64; shapes (n, d), (m,), (m, k) to (m, k)."""
    d = rows.shape[1]
    products = np.empty(right.shape, np.float32)
    for i in range(right.shape[0]):
        x = rows[left[i]]
        for t in range(right.shape[1]):
            y = rows[right[i, t]]
            total = 0.0
            for c in range(d):
                total += np.float64(x[c]) * np.float64(y[c])
            products[i, t] = total
    return products


@nb.njit(_ROWS(_SINGLES, _ITEMS), cache=True, nogil=True, fastmath={"reassoc", "contract"})
def mean_similarities(rows: Float32Array, items: IdArray) -> Float64Array:
    """Mean inner product of each of some rows with all of them, itself included: x_i . mean(x); (n, d), (m,) to (m,)."""
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
    """Restrict lists longer than k to the kept rows, which are numbered anew: the first k kept ids of each.

    Returns
    -------
    ids, similarities : (kept rows, k); what is missing where a list runs out is id -1 with similarity 0
    complete : (kept rows,), False where it does
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


#: Rows by galleries: 1 where the item is in the gallery.
Membership = npt.NDArray[np.uint16]

_FLAGS = nb.types.Array(nb.uint16, 2, "C", readonly=True)
_COUNTS = nb.types.UniTuple(nb.int64[::1], 2)  # type: ignore[no-untyped-call]  # numba is partly typed


@nb.njit(nb.void(_LIST, _FLAGS, nb.int64, nb.uint16[:, ::1], nb.uint16[::1]), cache=True, nogil=True)
def take_first(ids: IdArray, kept: Membership, k: int, taken: Membership, counts: Membership) -> None:
    """Mark, for every gallery, the first k neighbours of a row that are in it; count them."""
    counts[:] = 0
    for t in range(len(ids)):
        flags = kept[ids[t]]
        for part in range(kept.shape[1]):
            taken[t, part] = flags[part] * (counts[part] < k)
            counts[part] += taken[t, part]


@nb.njit(_COUNTS(_IDS, _IDS, _FLAGS, nb.int64), cache=True, nogil=True)
def overlap_in_parts(a: IdArray, b: IdArray, kept: Membership, k: int) -> tuple[CountArray, CountArray]:
    """Overlaps of the first k kept neighbours of all rows, for every gallery.

    Parameters
    ----------
    a, b : arrays of shape (n, width), int32
    kept : array of shape (n, parts), uint16

    Returns
    -------
    overlaps : (parts,), summed over the kept rows of which both lists have k kept neighbours
    rows : (parts,), how many these are
    """
    n, width = a.shape
    parts = kept.shape[1]
    taken_a, taken_b = np.empty((width, parts), np.uint16), np.empty((b.shape[1], parts), np.uint16)
    counts_a, counts_b, shared = np.empty(parts, np.uint16), np.empty(parts, np.uint16), np.empty(parts, np.uint16)
    place = np.full(n, -1, np.int32)
    overlaps, rows = np.zeros(parts, np.int64), np.zeros(parts, np.int64)
    for i in range(n):
        take_first(a[i], kept, k, taken_a, counts_a)
        take_first(b[i], kept, k, taken_b, counts_b)
        for t in range(b.shape[1]):
            place[b[i, t]] = t
        shared[:] = 0
        for t in range(width):
            other = place[a[i, t]]
            if other >= 0:
                for part in range(parts):
                    shared[part] += taken_a[t, part] & taken_b[other, part]
        for part in range(parts):
            whole = kept[i, part] * (counts_a[part] == k) * (counts_b[part] == k)
            overlaps[part] += shared[part] * whole
            rows[part] += whole
        for t in range(b.shape[1]):
            place[b[i, t]] = -1
    return overlaps, rows


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
