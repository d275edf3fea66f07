"""Compiled row scores of neighbour lists: every kernel gives one number a row, for two (n, k) arrays of ids below `gallery`.

An id of -1 marks a list that ran out (see `lists.Lists.within`): it stands in rows that are left out of every mean, and the
kernels that look at a row's neighbours from elsewhere skip it.
"""

import numba as nb
import numpy as np

from consilience.numerics.arrays import Float32Array, Float64Array, IdArray
from consilience.numerics.compiled import BoolArray

_IDS = nb.types.Array(nb.int32, 2, "C", readonly=True)
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
