"""Symmetric n x n matrices of kernels or distances, known by blocks of rows: none is ever whole unless it is asked for.

Only entries below the diagonal are made; a constant near their mean is taken off, which no centred statistic sees and which
keeps float32 from losing digits to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from consilience.numerics.arrays import Float32Array, Float64Array
from consilience.numerics.moments import CentredRows, FloatArray, centre, working_dtype

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
