"""Linear kernels: the sums of centred statistics from the features, without n x n matrices, or from a packed matrix."""

from dataclasses import dataclass
from functools import partial
from typing import Self

import numba as nb
import numpy as np

from consilience.numerics.kernels.matrices import (
    BLOCK_ROWS_MAX,
    MatrixSums,
    PairMatrix,
    ProductRowSums,
    blocks,
    rounding_square,
)
from consilience.numerics.rows.arrays import Float32Array, Float64Array
from consilience.numerics.rows.parallel import LOCAL_EXECUTOR, Executor, block_rows, prefetch_blocks, split_rows
from consilience.numerics.rows.prepared import Rows
from consilience.numerics.stats.nulls import Permutation
from consilience.numerics.subspaces.moments import (
    CentredRows,
    Dtype,
    FloatArray,
    OwnMoments,
    PairMoments,
    RowProgress,
    centre,
    working_dtype,
)

_BLOCK = nb.types.Array(nb.float32, 2, "A", readonly=True)
_ENTRIES = nb.types.Array(nb.float32, 1, "C", readonly=True)
_CENTRED = nb.types.Tuple((nb.float32[:, ::1], nb.float64))  # type: ignore[no-untyped-call]  # numba is partly typed
_WEIGHTS = nb.types.Array(nb.float64, 1, "C", readonly=True)


@nb.njit(nb.void(_BLOCK, nb.int64, nb.float32[::1]), cache=True, nogil=True)
def pack_lower_triangle(block: Float32Array, start: int, out: Float32Array) -> None:
    """Write the entries below the diagonal of a block of rows, starting at row `start`, to a packed lower triangle."""
    for i in range(block.shape[0]):
        row = start + i
        first = row * (row - 1) // 2
        for j in range(row):
            out[first + j] = block[i, j]


@nb.njit(nb.float64[::1](_ENTRIES, _ENTRIES, nb.int64), cache=True, nogil=True, fastmath={"reassoc", "contract"})
def product_rows(k: Float32Array, l: Float32Array, n: int) -> Float64Array:  # noqa: E741 - K and L are the literature's names
    """Compute the row sums of the products of two matrices' entries off the diagonal: sum_j K[i, j] L[i, j]."""
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
    """Multiply a matrix, with a diagonal of 0, by a vector: sum_j K[i, j] w[j]."""
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
    """Return the full U-centred matrix, with a diagonal of 0, of a matrix with given row sums; and its sum of squares."""
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


def linear_sums(own: OwnMoments) -> MatrixSums:
    """Compute the sums of the centred linear kernel of one layer: the norms are its diagonal, its full row sums are 0."""
    n, d = len(own.norms), len(own.square)
    square = float(np.vdot(own.square, own.square)) - float(own.norms @ own.norms)
    noise = rounding_square(n, float(own.norms.mean()), working_dtype(float(n) * d**2))
    return MatrixSums(own.norms, -own.norms, square, noise)


def linear_product(
    cross: FloatArray, norms: tuple[Float64Array, Float64Array], permutation: Permutation | None = None
) -> float:
    """Compute sum_{i != j} K[i, j] L[p(i), p(j)] = |Xc'Yc|^2 - sum_i |x_i|^2 |y_p(i)|^2, with Xc'Yc under the same p."""
    of_a, of_b = norms
    return float(np.vdot(cross, cross)) - float(of_a @ (of_b if permutation is None else of_b[permutation]))


@dataclass(frozen=True)
class _Product:
    """Operands of row sums of products of K = Xc Xc' and L = Yc Yc' in one pass over the rows.

    Attributes
    ----------
    sides : which of the two layers X and Y are (0 or 1)
    cross : Xc'Yc
    pulls : Xc' and Yc' times the norms of the other layer
    """

    sides: tuple[int, int]
    cross: FloatArray
    pulls: tuple[FloatArray, FloatArray]

    @property
    def dtype(self) -> Dtype:
        return self.cross.dtype

    def row_sums(self, x: FloatArray, y: FloatArray) -> tuple[Float64Array, Float64Array, Float64Array]:
        """Return x_i' (Xc'Yc) y_i, and each kernel times the norms of the other layer."""
        product = np.einsum("ij,ij->i", x @ self.cross, y, dtype=np.float64)
        return product, (x @ self.pulls[0]).astype(np.float64), (y @ self.pulls[1]).astype(np.float64)


@dataclass(frozen=True)
class _Task:
    """Task: some rows of a pair of layers, and the requested products."""

    rows: tuple[Rows, Rows]
    means: tuple[Float64Array, Float64Array]
    products: tuple[_Product, ...]
    span: slice


def linear_product_row_sums(
    a: CentredRows,
    b: CentredRows,
    moments: PairMoments,
    *,
    debiased: bool,
    executor: Executor = LOCAL_EXECUTOR,
    progress: RowProgress | None = None,
) -> tuple[ProductRowSums, ProductRowSums, ProductRowSums]:
    """Compute the row sums of K with L, K with K and L with L, weighted for the jackknife: O(n (p + q)^2), one pass.

    The weights are row sums: without the diagonal for debiased statistics (-|x_i|^2), else with it (0).

    Parameters
    ----------
    moments : PairMoments of a and b, with those of each alone
    progress : callable, optional
        Called with the number of rows done and the total.
    """
    if moments.a is None or moments.b is None:
        raise AssertionError("The moments of each layer alone are needed too.")
    weight = -1.0 if debiased else 0.0
    crosses = (((0, 1), moments.cross), ((0, 0), moments.a.square), ((1, 1), moments.b.square))
    products = tuple(_prepare(sides, cross, moments, a.n) for sides, cross in crosses)
    sums = np.empty((len(products), 3, a.n))
    todo = [
        _Task((a.load(), b.load()), (a.mean, b.mean), products, span) for span in split_rows(a.n, max(a.dim, b.dim))
    ]
    for part, found in zip(todo, executor.map(_multiply, todo), strict=True):
        sums[:, :, part.span] = found
        if progress is not None:
            progress(part.span.stop, a.n)
    norms = moments.a.norms, moments.b.norms
    rows = []
    for (s, t), (product, left, right) in zip((sides for sides, _ in crosses), sums, strict=True):
        diagonal = norms[s] * norms[t]
        # Both chains include the diagonal terms k_i w_i, which must be subtracted.
        rows.append(ProductRowSums(product - diagonal, weight * (left - diagonal), weight * (right - diagonal)))
    return rows[0], rows[1], rows[2]


def _prepare(sides: tuple[int, int], cross: FloatArray, moments: PairMoments, n: int) -> _Product:
    dtype = working_dtype(float(n) * cross.size)
    s, t = sides
    pulls = moments.chains[s][:, t].astype(dtype), moments.chains[t][:, s].astype(dtype)
    return _Product(sides, cross.astype(dtype), pulls)


def _multiply(task: _Task) -> Float64Array:
    """Compute the row sums of each product: (products, 3, rows of the task)."""
    start = task.span.start
    sums = np.empty((len(task.products), 3, task.span.stop - start))
    step = block_rows(max(len(mean) for mean in task.means))
    for block, rows in prefetch_blocks(partial(_read, task), task.span, step):
        local = slice(block.start - start, block.stop - start)
        for index, product in enumerate(task.products):
            s, t = product.sides
            sums[index, :, local] = product.row_sums(rows[s][product.dtype], rows[t][product.dtype])
    return sums


def _read(task: _Task, start: int, stop: int) -> list[dict[Dtype, FloatArray]]:
    """Read a block of both layers, centred, in every type that a product needs."""
    dtypes = {product.dtype for product in task.products}
    raw = [(rows.read(start, stop), mean) for rows, mean in zip(task.rows, task.means, strict=True)]
    return [{dtype: centre(block, mean, dtype) for dtype in dtypes} for block, mean in raw]


#: Number of values in the header: rows, noise and share of triangles.
_HEAD = 3


@dataclass(frozen=True)
class PackedKernel:
    """Matrix of inner products of centred rows, stored as its packed lower triangle.

    Attributes
    ----------
    entries : array of shape (n (n - 1) / 2,), float32
        Entries below the diagonal, row by row.
    diagonal : array of shape (n,), float64
    noise : see `matrices.MatrixSums`
    triangles : see `matrices.triangle_share`
    squares : array of shape (n,), float64
        Row sums of the squares of entries off the diagonal.
    chains : array of shape (n,), float64
        The matrix without its diagonal times its own row sums.
    """

    entries: Float32Array
    diagonal: Float64Array
    noise: float
    triangles: float
    squares: Float64Array
    chains: Float64Array

    @classmethod
    def of(cls, matrix: PairMatrix, triangles: float | None = None) -> Self:
        """Pack a centred matrix, computing every entry once; without a share of triangles, compute that of all rows."""
        n = matrix.n
        entries = np.empty(n * (n - 1) // 2, np.float32)
        for start, stop in blocks(n, BLOCK_ROWS_MAX):
            pack_lower_triangle(matrix.lower(start, stop), start, entries)
        diagonal = matrix.diagonal
        squares = product_rows(entries, entries, n)
        chains = weighted_rows(entries, -diagonal)
        share = _find_triangles(entries, -diagonal) if triangles is None else triangles
        return cls(entries, diagonal, matrix.noise, share, squares, chains)

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.diagonal)

    @property
    def sums(self) -> MatrixSums:
        """Sums of the matrix; the full rows of a centred matrix sum to 0."""
        return MatrixSums(self.diagonal, -self.diagonal, float(self.squares.sum()), self.noise)

    def own_row_sums(self, *, debiased: bool) -> ProductRowSums:
        """Return the row sums of the matrix with itself; weighted by full row sums, which are 0, the chains are 0."""
        chains = self.chains if debiased else np.zeros(self.n)
        return ProductRowSums(self.squares, chains, chains)

    def row_sums_with(self, other: "PackedKernel", *, debiased: bool) -> ProductRowSums:
        """Compute the row sums of the matrix with another one, O(n^2)."""
        product = product_rows(self.entries, other.entries, self.n)
        if not debiased:
            return ProductRowSums(product, np.zeros(self.n), np.zeros(self.n))
        left = weighted_rows(self.entries, -other.diagonal)
        return ProductRowSums(product, left, weighted_rows(other.entries, -self.diagonal))

    def to_bytes(self) -> bytes:
        """Serialise the matrix for a cache, exactly."""
        head = np.array([self.n, self.noise, self.triangles], "<f8")
        numbers = np.concatenate([head, self.diagonal, self.squares, self.chains]).astype("<f8")
        return numbers.tobytes() + self.entries.astype("<f4", copy=False).tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the bytes of `to_bytes`."""
        n = int(np.frombuffer(data, "<f8", 1)[0])
        numbers = np.frombuffer(data, "<f8", _HEAD + 3 * n)
        diagonal, squares, chains = numbers[_HEAD:].reshape(3, n)
        entries = np.frombuffer(data, "<f4", offset=numbers.nbytes)
        return cls(entries, diagonal, float(numbers[1]), float(numbers[2]), squares, chains)


def _find_triangles(entries: Float32Array, rows: Float64Array) -> float:
    """Compute `matrices.triangle_share` of a packed matrix."""
    centred, square = u_centre(entries, rows)
    # The product of a matrix and its transpose takes half of the work of other products.
    return float(np.vdot(centred @ centred.T, centred)) / square**1.5 if square > 0 else 0.0
