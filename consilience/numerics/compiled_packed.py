"""Compiled sums over symmetric matrices of which only the entries below the diagonal are kept, row after row."""

import numba as nb
import numpy as np

from consilience.numerics.arrays import Float32Array, Float64Array

_BLOCK = nb.types.Array(nb.float32, 2, "A", readonly=True)
_ENTRIES = nb.types.Array(nb.float32, 1, "C", readonly=True)
_CENTRED = nb.types.Tuple((nb.float32[:, ::1], nb.float64))  # type: ignore[no-untyped-call]  # numba is partly typed
_WEIGHTS = nb.types.Array(nb.float64, 1, "C", readonly=True)


@nb.njit(nb.void(_BLOCK, nb.int64, nb.float32[::1]), cache=True, nogil=True)
def pack(block: Float32Array, start: int, out: Float32Array) -> None:
    """Write the entries below the diagonal of a block of rows from row `start` on to where they belong."""
    for i in range(block.shape[0]):
        row = start + i
        first = row * (row - 1) // 2
        for j in range(row):
            out[first + j] = block[i, j]


@nb.njit(nb.float64[::1](_ENTRIES, _ENTRIES, nb.int64), cache=True, nogil=True, fastmath={"reassoc", "contract"})
def product_rows(k: Float32Array, l: Float32Array, n: int) -> Float64Array:  # noqa: E741 - K and L are the literature's names
    """Row sums of the products of two matrices' entries off the diagonal: sum_j K[i, j] L[i, j]."""
    out = np.zeros(n)
    for i in range(n):
        first = i * (i - 1) // 2
        row = 0.0
        for j in range(i):
            product = np.float64(k[first + j]) * np.float64(l[first + j])
            row += product
            out[j] += product
        out[i] += row
    return out


@nb.njit(nb.float64[::1](_ENTRIES, _WEIGHTS), cache=True, nogil=True, fastmath={"reassoc", "contract"})
def weighted_rows(k: Float32Array, weights: Float64Array) -> Float64Array:
    """The matrix, with a diagonal of 0, times a vector: sum_j K[i, j] w[j]."""
    n = len(weights)
    out = np.zeros(n)
    for i in range(n):
        first = i * (i - 1) // 2
        row, weight = 0.0, weights[i]
        for j in range(i):
            entry = np.float64(k[first + j])
            row += entry * weights[j]
            out[j] += entry * weight
        out[i] += row
    return out


@nb.njit(_CENTRED(_ENTRIES, _WEIGHTS), cache=True, nogil=True, fastmath={"reassoc", "contract"})
def u_centre(k: Float32Array, rows: Float64Array) -> tuple[Float32Array, float]:
    """The whole U-centred matrix, its diagonal 0, of one with these row sums; and the sum of its squares."""
    n = len(rows)
    out = np.zeros((n, n), np.float32)
    means = rows / (n - 2)
    mean = rows.sum() / ((n - 1) * (n - 2))
    square = 0.0
    for i in range(n):
        first = i * (i - 1) // 2
        for j in range(i):
            entry = np.float64(k[first + j]) - means[i] - means[j] + mean
            square += entry * entry
            out[i, j] = entry
    for i in range(n):
        for j in range(i + 1, n):
            out[i, j] = out[j, i]
    return out, 2 * square
