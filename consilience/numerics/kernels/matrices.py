"""Symmetric n x n matrices of kernels or distances, computed by blocks of rows and stored whole only on request.

Only entries below the diagonal are computed. A constant near their mean is subtracted, which changes no centred statistic and
keeps digits in float32.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Protocol

import numba as nb
import numpy as np
import numpy.typing as npt

from consilience.numerics.rows.arrays import Float32Array, Float64Array, IdArray
from consilience.numerics.rows.parallel import map_rows
from consilience.numerics.stats.nulls import Permutation
from consilience.numerics.subspaces.moments import CentredRows, FloatArray, RowProgress, centre, working_dtype

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
    # Sums may be in any order, so that the processor can add eight values at a time; nothing else is relaxed.
    fastmath={"reassoc", "contract"},
)
def sum_permuted_products(a: FloatArray, b: FloatArray, permutation: IdArray, start: int, stop: int) -> Float64Array:
    """Sum A_s[i, j] B[p(i), p(j)] over j < i for each matrix s of a, for rows i and n - 1 - i with start <= i < stop.

    Shapes (L, n, n), (n, n), (n,) to (L,). Each long row is paired with a short one, so that equal parts of 0 to (n + 1) / 2
    take equal work. A row of b is gathered once for all matrices of a.
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
    """Write centred ranks, ties sharing their mean, from sorted keys: a value's bits above those of its position.

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


#: inner: x.y; gaussian: exp(-|x - y|^2 / 2 sigma^2) - 1; distance: |x - y|; angle: 1 - x.y.
Entry = Literal["inner", "gaussian", "distance", "angle"]
#: Largest number of rows of a block: larger blocks are not faster.
BLOCK_ROWS_MAX = 512
#: Number of sampled rows for the median distance, and for the subtracted constant.
SAMPLE_ROWS, SHIFT_ROWS = 2048, 512


class LowerMatrix(Protocol):
    """Symmetric matrix that gives the entries below its diagonal by blocks of rows."""

    @property
    def n(self) -> int:
        """Number of rows."""

    @property
    def diagonal(self) -> Float64Array:
        """Diagonal (n,), less the constant subtracted from all entries."""

    @property
    def centred(self) -> bool:
        """True if its full rows sum to 0."""

    @property
    def noise(self) -> float:
        """Largest sum of squares that rounding can cause in a matrix of equal entries."""

    def lower(self, start: int, stop: int) -> FloatArray:
        """Return rows start to stop, columns 0 to stop: (stop - start, stop) entries, 0 on and above the diagonal."""


@dataclass(frozen=True)
class PairMatrix:
    """Symmetric matrix whose entries are computed from pairs of rows on demand.

    Attributes
    ----------
    points : array of shape (n, d), float32, or float64 if the work is small
    norms : array of shape (n,), of the same type
        Squared lengths of the points.
    entry : kind of entry, see `Entry`
    sigma : width of a gaussian entry
    shift : constant subtracted from every entry
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
        """Squared lengths for inner products, else 0 less the shift."""
        return self.norms.astype(np.float64) if self.centred else np.full(self.n, -self.shift)

    @property
    def centred(self) -> bool:
        """True for inner products of centred rows."""
        return self.entry == "inner"

    @property
    def noise(self) -> float:
        """Rounding of the matrix, from the size of an entry and the precision of the points."""
        return rounding_square(self.n, float(self.norms.mean()) if self.centred else self.shift, self.points.dtype)

    def lower(self, start: int, stop: int) -> FloatArray:
        """Return rows start to stop, columns 0 to stop."""
        block = self.points[start:stop] @ self.points[:stop].T
        self._fill(block, self.norms[start:stop, None], self.norms[None, :stop])
        block[:, start:][np.triu_indices(stop - start)] = 0.0
        return block

    def take(self, ids: npt.NDArray[np.intp]) -> "PairMatrix":
        """Return the same matrix of some of the rows, in the order given."""
        return replace(self, points=self.points[ids], norms=self.norms[ids])

    def store(self, out: FloatArray) -> "StoredMatrix":
        """Write the full matrix, with a diagonal of 0, to an (n, n) array."""
        for start, stop in blocks(self.n, BLOCK_ROWS_MAX):
            out[start:stop, :stop] = self.lower(start, stop)
        mirror(out)
        return StoredMatrix(out, self.diagonal, centred=self.centred, noise=self.noise)

    def whole(self) -> FloatArray:
        """Return the full (n, n) matrix with a diagonal of 0."""
        return self.store(np.empty((self.n, self.n), self.points.dtype)).entries

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


@dataclass(frozen=True)
class StoredMatrix:
    """Symmetric matrix in memory: `entries` (n, n) has zeros on its diagonal, the true diagonal is in `diagonal`."""

    entries: FloatArray
    diagonal: Float64Array
    centred: bool
    noise: float

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.entries)

    def lower(self, start: int, stop: int) -> FloatArray:
        """Return rows start to stop, columns 0 to stop."""
        block = self.entries[start:stop, :stop].copy()
        block[:, start:][np.triu_indices(stop - start)] = 0.0
        return block


def mirror(entries: FloatArray) -> None:
    """Copy the entries below the diagonal of a square array to above it, and set the diagonal to 0."""
    for start, stop in blocks(len(entries), BLOCK_ROWS_MAX):
        entries[:start, start:stop] = entries[start:stop, :start].T
        below = np.tril(entries[start:stop, start:stop], -1)
        entries[start:stop, start:stop] = below + below.T


def blocks(n: int, rows: int) -> Iterator[tuple[int, int]]:
    """Yield starts and stops of blocks of `rows` rows."""
    for start in range(0, n, rows):
        yield start, min(start + rows, n)


def pair_matrix(points: FloatArray, entry: Entry, sigma: float = 1.0, *, seed: int = 0) -> PairMatrix:
    """Create the matrix of one layer's points: rows centred for distances and inner products, of length 1 for angles.

    The shift is the mean entry of at most 512 rows drawn with the seed; it is 0 for inner products of centred rows.
    """
    n, d = points.shape
    dtype = working_dtype(0.5 * n * n * d)
    cast = points.astype(dtype, copy=False)
    norms = np.einsum("ij,ij->i", cast, cast).astype(dtype, copy=False)
    matrix = PairMatrix(cast, norms, entry, sigma)
    if entry == "inner":
        return matrix
    sample = matrix.take(draw_rows(n, SHIFT_ROWS, seed))
    values = sample.lower(0, sample.n)
    pairs = sample.n * (sample.n - 1) / 2
    return replace(matrix, shift=float(values.sum(dtype=np.float64) / pairs))


def centre_rows(x: Float32Array, mean: Float64Array) -> FloatArray:
    """Return points whose inner products are the centred linear kernel and whose distances are unchanged."""
    return centre(x, mean, working_dtype(0.5 * len(x) * x.size))


def median_distance(side: CentredRows, seed: int) -> float:
    """Return the median Euclidean distance of two different rows, over all pairs of at most 2048 rows drawn with the seed.

    Up to 2048 rows, the median is over all pairs i < j. (The Aristotelian code takes the root of the median over all n^2
    squared distances, including those of rows to themselves: smaller by about 1 / n of the width of the distribution.)
    """
    rows = side.take(draw_rows(side.n, SAMPLE_ROWS, seed))
    distances = replace(pair_matrix(rows, "distance"), shift=0.0).lower(0, len(rows))
    return float(np.median(distances[np.tril_indices(len(rows), -1)]))


def draw_rows(n: int, most: int, seed: int) -> npt.NDArray[np.intp]:
    """Return all row numbers or, if there are more than `most`, a sorted sample drawn with the seed."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def rounding_square(n: int, scale: float, dtype: npt.DTypeLike) -> float:
    """Bound the sum of squares of n (n - 1) rounding errors of entries of a given size."""
    return n * (n - 1) * (8 * float(np.finfo(dtype).eps) * scale) ** 2


#: Bytes of the blocks that one step over all layers holds.
BLOCK_BYTES = 128_000_000
#: Smallest number of rows of a block: smaller blocks are slower.
_ROWS_MIN = 64


@dataclass(frozen=True)
class MatrixSums:
    """Sums of one symmetric matrix, for centred statistics.

    Attributes
    ----------
    diagonal : array of shape (n,), float64
    rows : array of shape (n,), float64
        Sums of each row without the diagonal.
    square : float
        Sum of the squares of all entries off the diagonal, each pair counted twice.
    noise : float
        Largest value of such a sum that rounding can cause in a matrix of equal entries.
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
    matrices: Sequence[LowerMatrix], progress: RowProgress | None = None
) -> tuple[list[MatrixSums], Float64Array]:
    """Compute the sums of every matrix and, in the same pass, the products of all pairs of matrices.

    O(n^2 d) per matrix, in blocks of rows: each entry is computed once. `progress` is called with the number of rows done and
    the total.

    Returns
    -------
    sums of each matrix, and an array of shape (L, L): sum_{i != j} K_s[i, j] K_t[i, j], accumulated in float64
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
        if progress is not None:
            progress(stop, n)
    squares = np.diagonal(products).tolist()
    return [
        # The full rows of a centred matrix sum to 0 exactly.
        MatrixSums(matrix.diagonal, -matrix.diagonal if matrix.centred else row, square, matrix.noise)
        for matrix, row, square in zip(matrices, rows, squares, strict=True)
    ], products


def permuted_products(a: FloatArray, b: FloatArray, permutation: Permutation) -> Float64Array:
    """Sum A_s[i, j] B_t[p(i), p(j)] over i != j for all stored matrices of both sides, on all threads: O(n^2) per pair.

    Shapes (L_A, n, n) and (L_B, n, n), of one type, to (L_A, L_B).
    """
    layers, n = a.shape[:2]
    order = permutation.astype(np.int32)
    columns = []
    for other in b:
        task = partial(_sum_permuted_rows, a, other, order)
        columns.append(sum(map_rows(task, (n + 1) // 2, n * (1 + layers))))
    return 2.0 * np.array(columns).T


def _sum_permuted_rows(a: FloatArray, b: FloatArray, order: IdArray, rows: slice) -> Float64Array:
    return np.asarray(sum_permuted_products(a, b, order, rows.start, rows.stop))


def block_rows(n: int, layers: int) -> int:
    """Return the number of rows of a block such that the blocks of all layers fit, in float64."""
    return max(_ROWS_MIN, min(BLOCK_ROWS_MAX, BLOCK_BYTES // (8 * n * layers)))


@dataclass(frozen=True)
class ProductRowSums:
    """Row sums of products of two matrices, without their diagonals, for statistics with one row left out.

    Attributes
    ----------
    product : array of shape (n,), float64
        sum_i K[j, i] L[j, i].
    left, right : arrays of shape (n,), float64
        K w_L and L w_K, with weights from each matrix's row sums (and diagonals): see `cka.jackknife_weights`.
    """

    product: Float64Array
    left: Float64Array
    right: Float64Array


def find_product_row_sums(
    matrices: tuple[LowerMatrix, LowerMatrix], weights: tuple[Float64Array, Float64Array]
) -> tuple[ProductRowSums, ProductRowSums, ProductRowSums]:
    """Compute the row sums of K with L, K with K and L with L in one pass of blocks, O(n^2 (p + q))."""
    n = matrices[0].n
    pairs = ((0, 1), (0, 0), (1, 1))
    found = tuple(ProductRowSums(np.zeros(n), np.zeros(n), np.zeros(n)) for _ in pairs)
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
    """Add the part of a lower block in the product of matrix and weights."""
    out[start:stop] += block @ weights[:stop]
    out[:stop] += weights[start:stop] @ block


def triangle_share(matrix: PairMatrix) -> float:
    """Return tr U^3 / (tr U^2)^(3/2) of the U-centred matrix: 1 for one direction, near 0 for many equal ones.

    Computed from all given rows; for a large matrix, pass a sample to estimate it.
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
