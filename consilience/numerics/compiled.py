"""The loops that numpy cannot say, compiled by numba with explicit signatures and kept in its cache.

`python -m consilience.numerics.compiled` fills the cache, that of `compiled_*.py` too, so that no user waits for the compiler.
The kernels are serial and release the interpreter's lock: a caller runs several at once with threads, which a forked process
can do.
"""

from importlib import import_module
from pathlib import Path

import numba as nb
import numpy as np
import numpy.typing as npt

from consilience.numerics.arrays import IdArray

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


if __name__ == "__main__":
    # Kernels with signatures are compiled, or found in the cache, as their module is imported.
    for path in sorted(Path(__file__).parent.glob("compiled_*.py")):
        import_module(f"consilience.numerics.{path.stem}")
