"""Linear kernels without their n x n matrices: every sum that centred statistics need, from the features."""

import numpy as np

from consilience.numerics.arrays import BLOCK_ROWS, Float64Array
from consilience.numerics.moments import Dtype, FloatArray, Moments, find_cross, working_dtype
from consilience.numerics.pair_sums import MatrixSums, PairRows
from consilience.numerics.pairwise import rounding_square
from consilience.numerics.permutations import Permutation


def linear_sums(side: Moments) -> MatrixSums:
    """Sums of the centred linear kernel of one layer, O(n d^2): its diagonal are the norms, its full row sums are 0."""
    square = linear_product(side, side)
    noise = rounding_square(side.n, float(side.norms.mean()), working_dtype(float(side.n) * side.dim**2))
    return MatrixSums(side.norms, -side.norms, square, noise)


def linear_product(a: Moments, b: Moments, permutation: Permutation | None = None) -> float:
    """sum_{i != j} K[i, j] L[p(i), p(j)] = |Xc'Yc|^2 - sum_i |x_i|^2 |y_p(i)|^2, O(n p q)."""
    cross = find_cross(a, b, permutation)
    other = b.norms if permutation is None else b.norms[permutation]
    return float(np.vdot(cross, cross)) - float(a.norms @ other)


def linear_pair_rows(a: Moments, b: Moments, weights: tuple[Float64Array, Float64Array]) -> PairRows:
    """Row sums of K with L, weighted by (w_K, w_L), O(n p q)."""
    dtype = working_dtype(float(a.n) * a.dim * b.dim)
    cross = find_cross(a, b).astype(dtype)
    pull_a, pull_b = _weighted_sum(a, weights[1], dtype), _weighted_sum(b, weights[0], dtype)
    product, left, right = (np.empty(a.n) for _ in range(3))
    for start in range(0, a.n, BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        of_a, of_b = a.centred(rows, dtype), b.centred(rows, dtype)
        product[rows] = np.einsum("ij,ij->i", of_a @ cross, of_b, dtype=np.float64)
        left[rows], right[rows] = of_a @ pull_a, of_b @ pull_b
    return PairRows(product - a.norms * b.norms, left - a.norms * weights[1], right - b.norms * weights[0])


def _weighted_sum(side: Moments, weights: Float64Array, dtype: Dtype) -> FloatArray:
    """Xc' w, by blocks."""
    total = np.zeros(side.dim)
    for start in range(0, side.n, BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        total += weights[rows].astype(dtype) @ side.centred(rows, dtype)
    return total.astype(dtype)
