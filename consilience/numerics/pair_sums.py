"""What centred statistics need to know of symmetric n x n matrices: sums over entries, found by blocks of rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from consilience.numerics import compiled_dense
from consilience.numerics.arrays import Float64Array, IdArray
from consilience.numerics.moments import FloatArray
from consilience.numerics.pairwise import BLOCK_ROWS_MAX, LowerMatrix, PairMatrix, blocks
from consilience.numerics.permutations import Permutation
from consilience.numerics.threads import map_rows

#: Told the rows done and their number.
Step = Callable[[int, int], None]
#: Bytes of the blocks that one step over all layers holds.
BLOCK_BYTES = 128_000_000
#: Fewer rows make the product of a block slower.
_ROWS_MIN = 64


@dataclass(frozen=True)
class MatrixSums:
    """What centred statistics need to know of one symmetric matrix.

    Attributes
    ----------
    diagonal : array of shape (n,), float64
    rows : array of shape (n,), float64
        Sums of each row without the diagonal.
    square : float
        Sum of the squares of all entries off the diagonal, each pair counted twice.
    noise : float
        What rounding alone could make of such a sum, had every entry the same value.
    """

    diagonal: Float64Array
    rows: Float64Array
    square: float
    noise: float = 0.0

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @property
    def total(self) -> float:
        """Sum of all entries off the diagonal."""
        return float(self.rows.sum())


def find_sums(matrices: Sequence[LowerMatrix], step: Step | None = None) -> tuple[list[MatrixSums], Float64Array]:
    """Find every matrix's sums and, in the same pass, the products of each with each.

    O(n^2 d) a matrix, in blocks of rows: each entry is made once. `step` is told the rows done, and their number.

    Returns
    -------
    sums of each, and an array of shape (L, L): sum_{i != j} K_s[i, j] K_t[i, j], accumulated in float64
    """
    n, count = matrices[0].n, len(matrices)
    rows = np.zeros((count, n))
    products = np.zeros((count, count))
    for start, stop in blocks(n, block_rows(n, count)):
        stack = np.empty((count, stop - start, stop))
        for index, matrix in enumerate(matrices):
            stack[index] = matrix.lower(start, stop)
        rows[:, start:stop] += stack.sum(axis=2)
        rows[:, :stop] += stack.sum(axis=1)
        flat = stack.reshape(count, -1)
        products += 2.0 * (flat @ flat.T)
        if step is not None:
            step(stop, n)
    squares = np.diagonal(products).tolist()
    return [
        # The full rows of a centred matrix sum to 0: no rounding there.
        MatrixSums(matrix.diagonal, -matrix.diagonal if matrix.centred else row, square, matrix.noise)
        for matrix, row, square in zip(matrices, rows, squares, strict=True)
    ], products


def relabel(a: FloatArray, b: FloatArray, permutation: Permutation) -> Float64Array:
    """Sum A_s[i, j] B_t[p(i), p(j)] over i != j for all kept matrices of both sides, on all threads: O(n^2) a pair.

    Shapes (L_A, n, n) and (L_B, n, n), of one type, to (L_A, L_B).
    """
    layers, n = a.shape[:2]
    order = permutation.astype(np.int32)
    columns = []
    for other in b:
        task = partial(_relabel_rows, a, other, order)
        columns.append(sum(map_rows(task, (n + 1) // 2, n * (1 + layers))))
    return 2.0 * np.array(columns).T


def _relabel_rows(a: FloatArray, b: FloatArray, order: IdArray, rows: slice) -> Float64Array:
    return np.asarray(compiled_dense.relabelled_products(a, b, order, rows.start, rows.stop))


def block_rows(n: int, layers: int) -> int:
    """Rows of a block such that the blocks of all layers fit, in float64."""
    return max(_ROWS_MIN, min(BLOCK_ROWS_MAX, BLOCK_BYTES // (8 * n * layers)))


@dataclass(frozen=True)
class PairRows:
    """The row sums of which statistics without one row are made; all without the diagonal.

    Attributes
    ----------
    product : array of shape (n,), float64
        sum_i K[j, i] L[j, i].
    left, right : arrays of shape (n,), float64
        K w_L and L w_K, with each matrix's row sums (and diagonals, as `find_pair_rows` is told) for weights.
    """

    product: Float64Array
    left: Float64Array
    right: Float64Array


def find_pair_rows(
    matrices: tuple[LowerMatrix, LowerMatrix], weights: tuple[Float64Array, Float64Array]
) -> tuple[PairRows, PairRows, PairRows]:
    """Find the row sums of K with L, K with K and L with L in one pass of blocks, O(n^2 (p + q))."""
    n = matrices[0].n
    pairs = ((0, 1), (0, 0), (1, 1))
    found = tuple(PairRows(np.zeros(n), np.zeros(n), np.zeros(n)) for _ in pairs)
    for start, stop in blocks(n, block_rows(n, 4)):
        lower = [matrix.lower(start, stop).astype(np.float64, copy=False) for matrix in matrices]
        for (s, t), rows in zip(pairs, found, strict=True):
            product = lower[s] * lower[t]
            rows.product[start:stop] += product.sum(axis=1)
            rows.product[:stop] += product.sum(axis=0)
            _multiply(lower[s], weights[t], rows.left, start, stop)
            _multiply(lower[t], weights[s], rows.right, start, stop)
    return found[0], found[1], found[2]


def _multiply(block: Float64Array, weights: Float64Array, out: Float64Array, start: int, stop: int) -> None:
    """Add a lower block's share of matrix times weights."""
    out[start:stop] += block @ weights[:stop]
    out[:stop] += weights[start:stop] @ block


def triangle_share(matrix: PairMatrix) -> float:
    """Share of triangles: tr U^3 / (tr U^2)^(3/2) of the U-centred matrix: 1 for one direction, near 0 for many equal ones.

    Of all rows given; pass a sample of a large matrix, of which it is an estimate.
    """
    a = matrix.whole().astype(np.float64, copy=False)
    n = len(a)
    rows = a.sum(axis=1)
    a -= rows[:, None] / (n - 2)
    a -= rows / (n - 2)
    a += rows.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(a, 0.0)
    square = float(np.vdot(a, a))
    a = a.astype(np.float32)
    return float(np.vdot(a @ a, a)) / square**1.5 if square > 0 else 0.0
