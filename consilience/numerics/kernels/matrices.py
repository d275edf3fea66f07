"""Symmetric n x n matrices of kernels or distances, known by blocks of rows: none is ever whole unless it is asked for.

Only entries below the diagonal are made; a constant near their mean is taken off, which no centred statistic sees and which
keeps float32 from losing digits to it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Protocol

import numba as nb
import numpy as np
import numpy.typing as npt

from consilience.numerics.rows.arrays import Float32Array, Float64Array, IdArray
from consilience.numerics.rows.parallel import map_rows
from consilience.numerics.stats.nulls import Permutation
from consilience.numerics.subspaces.moments import CentredRows, FloatArray, centre, working_dtype

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


#: inner: x.y; gaussian: exp(-|x - y|^2 / 2 sigma^2) - 1; distance: |x - y|; angle: 1 - x.y.
Entry = Literal["inner", "gaussian", "distance", "angle"]
#: Rows of a block: more make the product no faster.
BLOCK_ROWS_MAX = 512
#: Rows from which the median distance is found, and the constant taken off.
SAMPLE_ROWS, SHIFT_ROWS = 2048, 512


class LowerMatrix(Protocol):
    """A symmetric matrix that gives the entries below its diagonal by blocks of rows."""

    @property
    def n(self) -> int:
        """Number of rows."""

    @property
    def diagonal(self) -> Float64Array:
        """The diagonal (n,), less whatever constant is taken off all entries."""

    @property
    def centred(self) -> bool:
        """Whether its full rows sum to 0."""

    @property
    def noise(self) -> float:
        """Sum of the squares that rounding alone could make of equal entries."""

    def lower(self, start: int, stop: int) -> FloatArray:
        """Rows start to stop, columns 0 to stop: (stop - start, stop) entries, 0 on and above the diagonal."""


@dataclass(frozen=True)
class PairMatrix:
    """A symmetric matrix whose entries follow from pairs of rows, made when they are asked for.

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
        """Squared lengths, or 0 less the shift."""
        return self.norms.astype(np.float64) if self.centred else np.full(self.n, -self.shift)

    @property
    def centred(self) -> bool:
        """Inner products of centred rows are."""
        return self.entry == "inner"

    @property
    def noise(self) -> float:
        """From the size of an entry and the precision of the points."""
        return rounding_square(self.n, float(self.norms.mean()) if self.centred else self.shift, self.points.dtype)

    def lower(self, start: int, stop: int) -> FloatArray:
        """Rows start to stop, columns 0 to stop."""
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
        """The full (n, n) matrix with a diagonal of 0."""
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
    """A symmetric matrix that is kept: `entries` (n, n) has a diagonal of 0, whatever `diagonal` says."""

    entries: FloatArray
    diagonal: Float64Array
    centred: bool
    noise: float

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.entries)

    def lower(self, start: int, stop: int) -> FloatArray:
        """Rows start to stop, columns 0 to stop."""
        block = self.entries[start:stop, :stop].copy()
        block[:, start:][np.triu_indices(stop - start)] = 0.0
        return block


def mirror(entries: FloatArray) -> None:
    """Copy what lies below the diagonal of a square array to above it, and set the diagonal to 0."""
    for start, stop in blocks(len(entries), BLOCK_ROWS_MAX):
        entries[:start, start:stop] = entries[start:stop, :start].T
        below = np.tril(entries[start:stop, start:stop], -1)
        entries[start:stop, start:stop] = below + below.T


def blocks(n: int, rows: int) -> Iterator[tuple[int, int]]:
    """Starts and stops of blocks of so many rows."""
    for start in range(0, n, rows):
        yield start, min(start + rows, n)


def pair_matrix(points: FloatArray, entry: Entry, sigma: float = 1.0, *, seed: int = 0) -> PairMatrix:
    """Make the matrix of one layer's points: rows centred for distances and inner products, of length 1 for angles.

    The shift is the mean entry of at most 512 rows drawn with the seed; inner products of centred rows need none.
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
    """Points whose inner products are the centred linear kernel and whose distances are as before."""
    return centre(x, mean, working_dtype(0.5 * len(x) * x.size))


def median_distance(side: CentredRows, seed: int) -> float:
    """The median Euclidean distance between two different rows: over all pairs of at most 2048 rows drawn with the seed.

    Up to 2048 rows it is that of all pairs i < j. (Aristotelian's is the root of the median over all n^2 squared distances,
    those of rows to themselves included: smaller by about 1 / n of a distribution's width.)
    """
    rows = side.take(draw_rows(side.n, SAMPLE_ROWS, seed))
    distances = replace(pair_matrix(rows, "distance"), shift=0.0).lower(0, len(rows))
    return float(np.median(distances[np.tril_indices(len(rows), -1)]))


def draw_rows(n: int, most: int, seed: int) -> npt.NDArray[np.intp]:
    """Give all rows, or so many of them drawn with the seed, in order."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def rounding_square(n: int, scale: float, dtype: npt.DTypeLike) -> float:
    """Sum of squares of n (n - 1) rounding errors of entries of a size: equal entries leave no more than this."""
    return n * (n - 1) * (8 * float(np.finfo(dtype).eps) * scale) ** 2


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
    return np.asarray(relabelled_products(a, b, order, rows.start, rows.stop))


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
