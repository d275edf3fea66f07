"""Symmetric n x n matrices of kernels or distances, known by blocks of rows: none is ever whole unless it is asked for.

Only entries below the diagonal are made; a constant near their mean is taken off, which no centred statistic sees and which
keeps float32 from losing digits to it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from consilience.numerics.arrays import Float32Array, Float64Array
from consilience.numerics.moments import FloatArray, Moments, working_dtype

#: Told the rows done and their number.
Step = Callable[[int, int], None]
#: inner: x.y; gaussian: exp(-|x - y|^2 / 2 sigma^2) - 1; distance: |x - y|; angle: 1 - x.y.
Entry = Literal["inner", "gaussian", "distance", "angle"]
#: Bytes of the blocks that one step over all layers holds.
BLOCK_BYTES = 128_000_000
#: Rows of a block: more make the product no faster, fewer make it slower.
_ROWS_MAX, _ROWS_MIN = 512, 64
#: Rows from which the median distance and the constant taken off are found.
SAMPLE_ROWS = 2048


@dataclass(frozen=True)
class PairMatrix:
    """A symmetric matrix whose entries follow from pairs of rows.

    Attributes
    ----------
    points : array of shape (n, d), float32, or float64 where the work is small
    norms : array of shape (n,), of the same type
        Squared lengths of the points.
    entry : what two rows make
    sigma : the width of a gaussian entry
    shift : the constant taken off every entry
    """

    points: FloatArray
    norms: FloatArray
    entry: Entry
    sigma: float = 1.0
    shift: float = 0.0

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.points)

    @property
    def diagonal(self) -> Float64Array:
        """The diagonal, less the shift like all else."""
        return self.norms.astype(np.float64) if self.entry == "inner" else np.full(self.n, -self.shift)

    def lower(self, start: int, stop: int) -> FloatArray:
        """Rows start to stop, columns 0 to stop: (stop - start, stop) entries, 0 on and above the diagonal."""
        block = self.points[start:stop] @ self.points[:stop].T
        self._fill(block, self.norms[start:stop, None], self.norms[None, :stop])
        square = block[:, start:]
        square[np.triu_indices(stop - start)] = 0.0
        return block

    def blocks(self, rows: int) -> Iterator[tuple[int, int]]:
        """Starts and stops of blocks of so many rows."""
        for start in range(0, self.n, rows):
            yield start, min(start + rows, self.n)

    def take(self, ids: npt.NDArray[np.intp]) -> "PairMatrix":
        """Return the same matrix of some of the rows, in the order given."""
        return replace(self, points=self.points[ids], norms=self.norms[ids])

    def whole(self) -> FloatArray:
        """The full (n, n) matrix with a diagonal of 0."""
        out = np.zeros((self.n, self.n), self.points.dtype)
        for start, stop in self.blocks(_ROWS_MAX):
            out[start:stop, :stop] = self.lower(start, stop)
        for start, stop in self.blocks(_ROWS_MAX):
            out[:start, start:stop] = out[start:stop, :start].T
            square = out[start:stop, start:stop]
            square += square.T.copy()
        return out

    def _fill(self, block: FloatArray, left: FloatArray, right: FloatArray) -> None:
        """Turn inner products into entries, in place."""
        if self.entry == "angle":
            np.subtract(1.0, block, out=block)
            np.maximum(block, 0.0, out=block)
        elif self.entry != "inner":
            block *= -2.0
            block += left
            block += right
            np.maximum(block, 0.0, out=block)
            if self.entry == "distance":
                np.sqrt(block, out=block)
            else:
                block *= -0.5 / self.sigma**2
                np.expm1(block, out=block)
        if self.shift:
            block -= self.shift


def pair_matrix(points: FloatArray, entry: Entry, sigma: float = 1.0, *, seed: int = 0) -> PairMatrix:
    """Make the matrix of one layer's points: rows centred for distances and inner products, of length 1 for angles.

    The shift is the mean entry of at most 2048 rows drawn with the seed; inner products of centred rows need none.
    """
    n, d = points.shape
    dtype = working_dtype(0.5 * n * n * d)
    cast = points.astype(dtype, copy=False)
    norms = np.einsum("ij,ij->i", cast, cast, dtype=np.float64).astype(dtype)
    matrix = PairMatrix(cast, norms, entry, sigma)
    if entry == "inner":
        return matrix
    sample = matrix.take(draw_rows(n, SAMPLE_ROWS // 4, seed))
    values = sample.lower(0, sample.n)
    pairs = sample.n * (sample.n - 1) / 2
    return replace(matrix, shift=float(values.sum(dtype=np.float64) / pairs))


def centre_rows(x: Float32Array, mean: Float64Array) -> FloatArray:
    """Points whose inner products are the centred linear kernel and whose distances are as before."""
    dtype = working_dtype(0.5 * len(x) * x.size)
    return np.subtract(x, mean.astype(dtype), dtype=dtype)


def median_distance(side: Moments, seed: int) -> float:
    """The median Euclidean distance between two different rows: over all pairs of at most 2048 rows drawn with the seed.

    Up to 2048 rows it is that of all pairs i < j. (Aristotelian's is the root of the median over all n^2 squared distances,
    those of rows to themselves included: smaller by about 1 / n of a distribution's width.)
    """
    rows = side.centred(draw_rows(side.n, SAMPLE_ROWS, seed))
    distances = replace(pair_matrix(rows, "distance"), shift=0.0).lower(0, len(rows))
    return float(np.median(distances[np.tril_indices(len(rows), -1)]))


def draw_rows(n: int, most: int, seed: int) -> npt.NDArray[np.intp]:
    """Give all rows, or so many of them drawn with the seed, in order."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


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


def find_sums(
    matrices: list[PairMatrix], step: Step | None = None
) -> tuple[list[MatrixSums], Float64Array]:
    """Find every matrix's sums and, in the same pass, the products of each with each.

    O(n^2 d) a matrix, in blocks of rows: each entry is made once. `step` is told the rows done, and their number.

    Returns
    -------
    sums of each, and an array of shape (L, L): sum_{i != j} K_s[i, j] K_t[i, j], accumulated in float64
    """
    n, count = matrices[0].n, len(matrices)
    rows = np.zeros((count, n))
    products = np.zeros((count, count))
    for start, stop in matrices[0].blocks(block_rows(n, count)):
        stack = np.empty((count, stop - start, stop))
        for index, matrix in enumerate(matrices):
            stack[index] = matrix.lower(start, stop)
        rows[:, start:stop] += stack.sum(axis=2)
        rows[:, :stop] += stack.sum(axis=1)
        flat = stack.reshape(count, -1)
        products += 2.0 * (flat @ flat.T)
        if step is not None:
            step(stop, n)
    return [_sums(matrix, rows[i], float(products[i, i])) for i, matrix in enumerate(matrices)], products


def _sums(matrix: PairMatrix, rows: Float64Array, square: float) -> MatrixSums:
    diagonal = matrix.diagonal
    inner = matrix.entry == "inner"
    noise = rounding_square(matrix.n, float(diagonal.mean()) if inner else matrix.shift, matrix.points.dtype)
    # The full rows of a centred linear kernel sum to 0: no rounding there.
    return MatrixSums(diagonal, -diagonal if inner else rows, square, noise)


def rounding_square(n: int, scale: float, dtype: npt.DTypeLike) -> float:
    """Sum of squares of n (n - 1) rounding errors of entries of a size: equal entries leave no more than this."""
    return n * (n - 1) * (8 * float(np.finfo(dtype).eps) * scale) ** 2


def block_rows(n: int, layers: int) -> int:
    """Rows of a block such that the blocks of all layers fit, in float64."""
    return max(_ROWS_MIN, min(_ROWS_MAX, BLOCK_BYTES // (8 * n * layers)))


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
    matrices: tuple[PairMatrix, PairMatrix], weights: tuple[Float64Array, Float64Array]
) -> tuple[PairRows, PairRows, PairRows]:
    """Find the row sums of K with L, K with K and L with L in one pass of blocks, O(n^2 (p + q))."""
    n = matrices[0].n
    pairs = ((0, 1), (0, 0), (1, 1))
    found = tuple(PairRows(np.zeros(n), np.zeros(n), np.zeros(n)) for _ in pairs)
    for start, stop in matrices[0].blocks(block_rows(n, 4)):
        blocks = [matrix.lower(start, stop).astype(np.float64, copy=False) for matrix in matrices]
        for (s, t), rows in zip(pairs, found, strict=True):
            product = blocks[s] * blocks[t]
            rows.product[start:stop] += product.sum(axis=1)
            rows.product[:stop] += product.sum(axis=0)
            _multiply(blocks[s], weights[t], rows.left, start, stop)
            _multiply(blocks[t], weights[s], rows.right, start, stop)
    return found[0], found[1], found[2]


def _multiply(block: Float64Array, weights: Float64Array, out: Float64Array, start: int, stop: int) -> None:
    """Add a lower block's share of matrix times weights."""
    out[start:stop] += block @ weights[:stop]
    out[:stop] += weights[start:stop] @ block


def triangle_share(matrix: PairMatrix) -> float:
    """tr U^3 / (tr U^2)^(3/2) of the U-centred matrix: 1 for one direction, near 0 for many equal ones.

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
