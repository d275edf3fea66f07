"""Principal directions of a layer, the basis of every metric of fitted directions and rotations.

X = U S V' is computed exactly, once per layer, from the smaller of the d x d and the n x n second moment. Each metric scales
the same directions by its own weights (`ScaledDirections`), and a pair of layers then needs only the small matrix Z_A' Z_B:
permuting b's items permutes the rows of Z_B, and nothing is factorised again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np
from scipy.linalg import cholesky, eigh, solve_triangular

from consilience.limits import BLOCK_ROWS
from consilience.numerics.rows.arrays import Float32Array, Float64Array
from consilience.numerics.rows.parallel import LOCAL_EXECUTOR, Executor, block_rows, prefetch_blocks
from consilience.numerics.stats.nulls import Permutation
from consilience.numerics.subspaces.moments import (
    CentredRows,
    FloatArray,
    OwnMoments,
    PairSums,
    RowProgress,
    centre,
    find_moments,
    working_dtype,
)
from consilience.numerics.subspaces.moments import centre as subtract_mean

#: Bytes of cross-products that a layer keeps, so that several metrics share one pass.
CROSSES_BYTES = 64_000_000
_FLOAT64 = np.dtype(np.float64)


class CrossProductSource(Protocol):
    """Cross-products of a layer's rows, for `ScaledDirections` without scores."""

    @property
    def mean(self) -> Float64Array:
        """Mean row, shape (d,)."""

    @property
    def n(self) -> int:
        """Number of rows."""

    def cross(self, other: Self, permutation: Permutation | None = None) -> FloatArray:
        """Compute Xc'Yc with the paired rows of another layer."""


@dataclass
class StreamedLayer:
    """Layer whose rows are read by blocks and never all in memory."""

    rows: CentredRows
    executor: Executor = LOCAL_EXECUTOR
    _own: OwnMoments | None = None
    _crosses: dict[int, FloatArray] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.rows.n

    @property
    def mean(self) -> Float64Array:
        """Mean row."""
        return self.rows.mean

    @property
    def own(self) -> OwnMoments:
        """Moments of this layer alone."""
        if self._own is None:
            self._own = find_moments(self.rows, self.rows, own=(True, False), exact=True, executor=self.executor).a
        if self._own is None:
            raise AssertionError("The moments of the layer were requested and are missing.")
        return self._own

    def cross(self, other: "StreamedLayer", permutation: Permutation | None = None) -> FloatArray:
        """Compute Xc'Yc in one pass over both layers, together with the moments of each that are not known yet."""
        if permutation is not None:
            return find_moments(
                self.rows, other.rows, own=(False, False), order=permutation, exact=True, executor=self.executor
            ).cross
        if id(other) not in self._crosses:
            if id(self) in other._crosses:  # noqa: SLF001 - of its own kind
                return other._crosses[id(self)].T  # noqa: SLF001 - the same
            self.load_cross(other)
        return self._crosses[id(other)]

    def load_cross(self, other: "StreamedLayer", progress: RowProgress | None = None) -> None:
        """Compute and keep the cross-product, unless it is known."""
        if id(other) in self._crosses:
            return
        unknown = self._own is None, other._own is None  # noqa: SLF001 - of its own kind
        found = find_moments(self.rows, other.rows, own=unknown, exact=True, executor=self.executor, progress=progress)
        self._own, other._own = found.a or self._own, found.b or other._own  # noqa: SLF001 - the same
        if (1 + len(self._crosses)) * found.cross.nbytes > CROSSES_BYTES:
            self._crosses.clear()
        self._crosses[id(other)] = found.cross

    def blocks(self, step: int) -> Iterator[tuple[slice, FloatArray]]:
        """Yield all rows, centred, by blocks of `step` rows."""
        source, mean = self.rows.load(), self.mean

        def read(start: int, stop: int) -> FloatArray:
            return centre(source.read(start, stop), mean, _FLOAT64)

        return prefetch_blocks(read, slice(0, self.n), step)


@dataclass(frozen=True)
class SumsLayer:
    """One of the two layers of `PairSums`, which has no rows of its own."""

    sums: PairSums
    first: bool

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.sums.n

    @property
    def mean(self) -> Float64Array:
        """Mean row."""
        return self.sums.means[0 if self.first else 1]

    @property
    def square(self) -> FloatArray:
        """Xc'Xc."""
        centred = self.sums.about(self.sums.means)
        return centred.xx if self.first else centred.yy

    def cross(self, other: "SumsLayer", permutation: Permutation | None = None) -> FloatArray:
        """Compute Xc'Yc with the other of the two layers."""
        if permutation is not None or other.sums is not self.sums or other.first == self.first:
            raise AssertionError("The sums are of two layers whose rows are paired.")
        product = self.sums.about(self.sums.means).xy
        return product if self.first else product.T


_EPS32, _EPS64 = float(np.finfo(np.float32).eps), float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Spectrum:
    """Singular value decomposition of a layer's rows, truncated at its rank r.

    Attributes
    ----------
    n : int
        Number of rows.
    left : array of shape (n, r), float64
        U, orthonormal, the strongest direction first; None if rows are read by blocks.
    values : array of shape (r,), float64
        Singular values.
    mean : array of shape (d,), float64
        The row subtracted from every row; 0 if the rows are not centred.
    whitening : array of shape (d, r), float64
        (X - mean) @ whitening = U, for rows seen and unseen.
    products : source of cross-products if there is no `left`
    """

    n: int
    left: Float64Array | None
    values: Float64Array
    mean: Float64Array
    whitening: Float64Array
    products: CrossProductSource | None = None

    @property
    def rank(self) -> int:
        """Number of directions that the rows span."""
        return len(self.values)


@dataclass(frozen=True)
class ScaledDirections:
    """Directions of a layer, scaled by the weights of one metric: Z = U w.

    Attributes
    ----------
    n : int
        Number of rows.
    scores : array of shape (n, r), float64
        Z, with orthogonal columns; None if rows are read by blocks.
    weights : array of shape (r,), float64
        The length of each column of Z.
    values : array of shape (r,), float64
        The singular values of the rows along the same directions.
    mean, mapping : arrays of shape (d,) and (d, r), float64
        Z = (X - mean) @ mapping, for rows seen and unseen.
    products : source of cross-products if there are no scores
    """

    n: int
    scores: Float64Array | None
    weights: Float64Array
    values: Float64Array
    mean: Float64Array
    mapping: Float64Array
    products: CrossProductSource | None = None

    @property
    def rank(self) -> int:
        """Number of directions."""
        return len(self.weights)

    def project(self, rows: Float32Array) -> Float64Array:
        """Return the scores of other rows of the same layer: (m, d) to (m, r)."""
        return (rows - self.mean) @ self.mapping

    def sums(self) -> Float64Array:
        """Return the sum of each column of Z."""
        if self.scores is not None:
            return np.asarray(self.scores.sum(axis=0))
        return self.n * (self._products().mean - self.mean) @ self.mapping

    def leverages(self) -> Float64Array:
        """Return the squared length of each row of Z (n,): one pass if rows are read by blocks."""
        step = block_rows(len(self.mean))
        return np.concatenate([np.einsum("ij,ij->i", block, block) for block in self.blocks(step)])

    def blocks(self, step: int) -> Iterator[Float64Array]:
        """Yield Z by blocks of `step` rows, or all at once if it is in memory."""
        if self.scores is not None:
            yield self.scores
            return
        if isinstance(self.products, StreamedLayer):  # PairSums have no rows
            shift = (self.products.mean - self.mean) @ self.mapping
            for _, block in self.products.blocks(step):
                yield block @ self.mapping + shift

    @property
    def has_rows(self) -> bool:
        """True if Z can be read row by row."""
        return self.scores is not None or isinstance(self.products, StreamedLayer)

    def cross(self, other: "ScaledDirections", permutation: Permutation | None) -> Float64Array:
        """Compute Z_A' Z_B from the layers' moments; see `find_cross`."""
        own, others = self._products(), other._products()  # noqa: SLF001 - of its own kind
        product = own.cross(others, permutation) + self.n * np.outer(own.mean - self.mean, others.mean - other.mean)
        return np.asarray(self.mapping.T @ product @ other.mapping)

    def _products(self) -> CrossProductSource:
        if self.products is None:
            raise AssertionError("Scaled directions have neither scores nor a source of cross-products.")
        return self.products


def find_spectrum(
    x: Float32Array, *, centre: bool = True, zscore: bool = False, leading: int | None = None
) -> Spectrum:
    """Decompose a layer's rows exactly: O(n d min(n, d)), by the n x n instead of the d x d matrix if n < d.

    The rank is the number of singular values above both the effect of rounding the rows to float32, eps |X| (n^-1/2 + d^-1/2),
    and the resolution of the second moment, sqrt(max(n, d) eps) of the largest. Nothing is added to the diagonal.

    Parameters
    ----------
    x : array of shape (n, d), float32
    centre : bool
        Subtract the mean row.
    zscore : bool
        Divide columns by their standard deviations; constant columns are left out.
    leading : int, optional
        Compute only this number of the strongest directions, in a fraction of the time.

    Examples
    --------
    >>> find_spectrum(np.array([[0, 3], [0, 5], [0, 4], [0, 4]], dtype=np.float32)).values.round(6).tolist()
    [1.414214]
    """
    n, d = x.shape
    mean = x.mean(axis=0, dtype=np.float64) if centre else np.zeros(d)
    rows = x - mean
    sizes = _find_lengths(x)
    scale = _column_scale(rows, sizes) if zscore else np.ones(d)
    rows *= scale
    rounding = _EPS32 * float(np.linalg.norm(sizes * scale)) * (n**-0.5 + d**-0.5)
    if d <= n:
        left, values, mapping = _by_columns(
            rows, rounding, _find_basis(_second_moment(x, mean, scale, leading), leading)
        )
    else:
        left, values, mapping = _by_rows(rows, rounding, _find_basis(rows @ rows.T, leading))
    return Spectrum(n, left, values, mean, scale[:, None] * mapping)


def decompose_moments(
    products: CrossProductSource,
    square: FloatArray,
    *,
    centre: bool = True,
    zscore: bool = False,
    leading: int | None = None,
) -> Spectrum:
    """Decompose a layer of n >= d rows from its second moment alone: O(d^3), without scores.

    The result is that of `find_spectrum`, except that directions far weaker than the strongest one are orthogonal only to
    eps (s_1 / s)^2.

    Parameters
    ----------
    products : CrossProductSource of the rows
    square : array of shape (d, d), float64
        Xc'Xc.
    """
    n, mean = products.n, products.mean
    lengths = np.sqrt(np.maximum(np.diagonal(square), 0.0))
    sizes = np.sqrt(lengths**2 + n * mean**2)
    varies = lengths > _EPS32 * sizes
    if not centre:
        square = square + n * np.outer(mean, mean)
    scale = np.where(varies, np.sqrt(n) / np.where(varies, lengths, 1.0), 0.0) if zscore else np.ones(len(mean))
    rounding = _EPS32 * float(np.linalg.norm(sizes * scale)) * (n**-0.5 + len(mean) ** -0.5)
    gram = square * np.outer(scale, scale)
    basis = _find_basis(gram.copy(), leading)
    values = np.sqrt(np.maximum(np.einsum("ij,ij->j", basis, gram @ basis), 0.0))
    kept = _order(values, rounding, n)
    whitening = scale[:, None] * basis[:, kept] / values[kept]
    return Spectrum(n, None, values[kept], mean if centre else np.zeros(len(mean)), whitening, products)


def _find_lengths(columns: Float32Array | Float64Array) -> Float64Array:
    """Return the lengths of columns, in one pass: `np.linalg.norm` would allocate two more arrays of that size."""
    return np.asarray(np.sqrt(np.einsum("ij,ij->j", columns, columns, dtype=np.float64)))


def _column_scale(rows: Float64Array, sizes: Float64Array) -> Float64Array:
    """Return 1 / standard deviation of each column, 0 for a column that varies only by rounding."""
    lengths = _find_lengths(rows)
    varies = lengths > _EPS32 * sizes
    return np.where(varies, np.sqrt(len(rows)) / np.where(varies, lengths, 1.0), 0.0)


def _find_basis(gram: Float64Array, leading: int | None) -> Float64Array:
    """Return eigenvectors, the strongest first: all, or the leading ones."""
    size = len(gram)
    if leading is None or leading >= size:
        _, basis = eigh(gram, driver="evd", overwrite_a=True, check_finite=False)
    else:
        _, basis = eigh(gram, subset_by_index=(size - leading, size - 1), overwrite_a=True, check_finite=False)
    return np.asarray(basis[:, ::-1])


def _by_columns(
    rows: Float64Array, rounding: float, basis: Float64Array
) -> tuple[Float64Array, Float64Array, Float64Array]:
    scores = rows @ basis
    lengths = _find_lengths(scores)
    kept = _order(lengths, rounding, len(rows))
    values = lengths[kept]
    left, mapping = scores[:, kept] / values, basis[:, kept] / values
    # Directions far weaker than the strongest one are orthogonal only to eps (s_1 / s)^2: a second step makes it eps.
    overlap = left.T @ left
    if np.abs(overlap - np.eye(len(values))).max(initial=0.0) > 1e-14:
        root = cholesky(overlap, lower=True, check_finite=False)
        left = solve_triangular(root, left.T, lower=True, check_finite=False).T
        mapping = solve_triangular(root, mapping.T, lower=True, check_finite=False).T
    return np.ascontiguousarray(left), values, np.ascontiguousarray(mapping)


def _second_moment(x: Float32Array, mean: Float64Array, scale: Float64Array, leading: int | None) -> Float64Array:
    """Compute X'X; if only leading directions are needed, large ones as in `moments`: float32 blocks summed in float64."""
    n, d = x.shape
    dtype = np.dtype(np.float64) if leading is None else working_dtype(float(n) * d * d)
    total = np.zeros((d, d))
    for start in range(0, n, BLOCK_ROWS):
        block = subtract_mean(x[start : start + BLOCK_ROWS], mean, dtype)
        block *= scale.astype(dtype)
        total += block.T @ block
    return total


def _by_rows(
    rows: Float64Array, rounding: float, basis: Float64Array
) -> tuple[Float64Array, Float64Array, Float64Array]:
    loadings = rows.T @ basis
    lengths = _find_lengths(loadings)
    kept = _order(lengths, rounding, rows.shape[1])
    values = lengths[kept]
    return np.ascontiguousarray(basis[:, kept]), values, loadings[:, kept] / values**2


def _order(lengths: Float64Array, rounding: float, longest: int) -> Permutation:
    """Return the columns above the cutoff, the longest first."""
    cut = max(rounding, np.sqrt(longest * _EPS64) * float(lengths.max(initial=0.0)))
    order = np.argsort(-lengths, kind="stable")
    return np.asarray(order[lengths[order] > cut])


def scale_directions(spectrum: Spectrum, weights: Float64Array | None = None) -> ScaledDirections:
    """Scale a layer's leading directions by weights of shape (<= r,); None keeps U unscaled (whitened)."""
    s = spectrum
    if weights is None:
        return ScaledDirections(s.n, s.left, np.ones(s.rank), s.values, s.mean, s.whitening, s.products)
    kept = len(weights)
    scores = None if s.left is None else s.left[:, :kept] * weights
    return ScaledDirections(s.n, scores, weights, s.values[:kept], s.mean, s.whitening[:, :kept] * weights, s.products)


def find_cross(a: ScaledDirections, b: ScaledDirections, permutation: Permutation | None = None) -> Float64Array:
    """Compute Z_A' Z_B of shape (r_A, r_B), with row i of a paired with row p(i) of b."""
    if a.scores is None or b.scores is None:
        return a.cross(b, permutation)
    return np.asarray(a.scores.T @ (b.scores if permutation is None else b.scores[permutation]))


def singular_values(cross: Float64Array, *, approximate: bool = False) -> Float64Array:
    """Return the singular values of a small matrix.

    `approximate` takes the square roots of the eigenvalues of the smaller Gram matrix if that is faster: values below 1e-8 of
    the largest then have an error of up to that size. Used for the draws of a null distribution, never for a score.
    """
    if not approximate or min(cross.shape) <= 64:
        return np.asarray(np.linalg.svd(cross, compute_uv=False), dtype=np.float64)
    gram = cross @ cross.T if cross.shape[0] <= cross.shape[1] else cross.T @ cross
    found = eigh(gram, eigvals_only=True, driver="evd", overwrite_a=True, check_finite=False)
    return np.asarray(np.sqrt(np.maximum(found[::-1], 0.0)))
