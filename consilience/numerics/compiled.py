"""The loops that numpy cannot say, compiled by numba with explicit signatures and kept in its cache.

`python -m consilience.numerics.compiled` fills the cache, so that no user waits for the compiler. The kernels are serial and
release the interpreter's lock: a caller runs several at once with threads, which a forked process can do.
"""

import numba as nb
import numpy as np
import numpy.typing as npt

from consilience.numerics.arrays import IdArray

BoolArray = npt.NDArray[np.bool_]
CountArray = npt.NDArray[np.int64]

_IDS = nb.types.Array(nb.int32, 2, "C", readonly=True)
_STACK = nb.types.Array(nb.int32, 3, "C", readonly=True)
_LIST = nb.types.Array(nb.int32, 1, "C", readonly=True)
_MASK = nb.types.Array(nb.boolean, 1, "C", readonly=True)


@nb.njit(nb.int32[::1](_IDS, _IDS, nb.int64), cache=True, nogil=True)
def count_overlaps(a: IdArray, b: IdArray, k: int) -> IdArray:
    """Count |N_A(i) & N_B(i)| for each row i over the first k ids of each list; shapes (n, >= k) to (n,)."""
    n = a.shape[0]
    counts = np.zeros(n, np.int32)
    owner = np.full(n, -1, np.int32)
    for i in range(n):
        for t in range(k):
            owner[a[i, t]] = i
        for t in range(k):
            if owner[b[i, t]] == i:
                counts[i] += 1
    return counts


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


@nb.njit(nb.float64(_IDS, _IDS, nb.int64, _MASK), cache=True, nogil=True)
def mean_overlap_within(  # noqa: C901 - nested loops are what a kernel is
    a: IdArray, b: IdArray, k: int, kept: BoolArray
) -> float:
    """Mean overlap (share of k) when the gallery and the queries are the kept rows alone.

    The lists must be longer than k: the neighbours among the kept rows are the first k kept ids of each list. A row whose
    list runs out before k is left out of the mean; -1 where every row is.
    """
    n, width = a.shape
    owner = np.full(n, -1, np.int32)
    shared = 0
    rows = 0
    for i in range(n):
        if not kept[i]:
            continue
        found_a = 0
        for t in range(width):
            if kept[a[i, t]]:
                owner[a[i, t]] = i
                found_a += 1
                if found_a == k:
                    break
        found_b = 0
        hits = 0
        for t in range(b.shape[1]):
            if kept[b[i, t]]:
                if owner[b[i, t]] == i:
                    hits += 1
                found_b += 1
                if found_b == k:
                    break
        if found_a == k and found_b == k:
            shared += hits
            rows += 1
    return shared / (rows * k) if rows else -1.0
