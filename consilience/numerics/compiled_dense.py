"""Compiled loops over symmetric n x n matrices: what relabelling costs, and ranks with their ties."""

import numba as nb
import numpy as np
import numpy.typing as npt

from consilience.numerics.arrays import Float64Array, IdArray
from consilience.numerics.moments import FloatArray

KeyArray = npt.NDArray[np.uint64]

_LIST = nb.types.Array(nb.int32, 1, "C", readonly=True)
_KEYS = nb.types.Array(nb.uint64, 1, "C", readonly=True)
_RANKS = nb.types.Array(nb.float32, 1, "C")


def _stack(kind: nb.types.Type) -> nb.types.Type:
    return nb.types.Array(kind, 3, "C", readonly=True)


def _square(kind: nb.types.Type) -> nb.types.Type:
    return nb.types.Array(kind, 2, "C", readonly=True)


@nb.njit(
    [nb.float64[::1](_stack(kind), _square(kind), _LIST, nb.int64, nb.int64) for kind in (nb.float32, nb.float64)],
    cache=True,
    nogil=True,
    # Sums may be taken in any order, which lets the processor take eight at a time; nothing else is loosened.
    fastmath={"reassoc", "contract"},
)
def relabelled_products(a: FloatArray, b: FloatArray, permutation: IdArray, start: int, stop: int) -> Float64Array:
    """Sum A_s[i, j] B[p(i), p(j)] over j < i for each matrix s of a, for rows i and n - 1 - i with start <= i < stop.

    Shapes (L, n, n), (n, n), (n,) to (L,). A long row comes with a short one, so that equal parts of 0 to (n + 1) / 2 are equal
    work. A row of b is gathered once for all matrices of a.
    """
    layers, n = a.shape[:2]
    total = np.zeros(layers)
    gathered = np.empty(n, b.dtype)
    for first in range(start, stop):
        for i in (first, n - 1 - first):
            row = permutation[i]
            for j in range(i):
                gathered[j] = b[row, permutation[j]]
            for s in range(layers):
                part = 0.0
                for j in range(i):
                    part += np.float64(a[s, i, j]) * np.float64(gathered[j])
                total[s] += part
            if 2 * first == n - 1:
                break
    return total


@nb.njit(nb.void(_KEYS, _RANKS), cache=True, nogil=True)
def rank_sorted(keys: KeyArray, ranks: npt.NDArray[np.float32]) -> None:
    """Write centred ranks, ties sharing their mean: keys hold a value's bits above its position's, ascending.

    ranks[position] = rank - (m + 1) / 2, exact in float32 up to m = 2^24 values.
    """
    m = len(keys)
    start = 0
    while start < m:
        stop = start + 1
        value = keys[start] >> np.uint64(32)
        while stop < m and keys[stop] >> np.uint64(32) == value:
            stop += 1
        rank = np.float32(0.5 * (start + stop - m))
        for position in range(start, stop):
            ranks[keys[position] & np.uint64(0xFFFFFFFF)] = rank
        start = stop
