"""Centred linear kernels that are kept: half of each matrix, in float32, and the sums that every score of it needs."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from consilience.numerics import compiled_packed
from consilience.numerics.arrays import Float32Array, Float64Array
from consilience.numerics.pair_sums import MatrixSums, PairRows
from consilience.numerics.pairwise import BLOCK_ROWS_MAX, PairMatrix, blocks

#: What stands before the entries in a file: rows, noise and share of triangles.
_HEAD = 3


@dataclass(frozen=True)
class PackedKernel:
    """A matrix of inner products of centred rows.

    Attributes
    ----------
    entries : array of shape (n (n - 1) / 2,), float32
        Those below the diagonal, row after row.
    diagonal : array of shape (n,), float64
    noise : see `pair_sums.MatrixSums`
    triangles : see `pair_sums.triangle_share`
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
        """Make every entry of a centred matrix once; without a share of triangles, it is that of all rows."""
        n = matrix.n
        entries = np.empty(n * (n - 1) // 2, np.float32)
        for start, stop in blocks(n, BLOCK_ROWS_MAX):
            compiled_packed.pack(matrix.lower(start, stop), start, entries)
        diagonal = matrix.diagonal
        squares = compiled_packed.product_rows(entries, entries, n)
        chains = compiled_packed.weighted_rows(entries, -diagonal)
        share = _find_triangles(entries, -diagonal) if triangles is None else triangles
        return cls(entries, diagonal, matrix.noise, share, squares, chains)

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.diagonal)

    @property
    def sums(self) -> MatrixSums:
        """The full rows of a centred matrix sum to 0."""
        return MatrixSums(self.diagonal, -self.diagonal, float(self.squares.sum()), self.noise)

    def own_rows(self, *, debiased: bool) -> PairRows:
        """Row sums of the matrix with itself; weighted with full rows, which sum to 0, the chains are 0."""
        chains = self.chains if debiased else np.zeros(self.n)
        return PairRows(self.squares, chains, chains)

    def rows_with(self, other: "PackedKernel", *, debiased: bool) -> PairRows:
        """Row sums of the matrix with another one, O(n^2)."""
        product = compiled_packed.product_rows(self.entries, other.entries, self.n)
        if not debiased:
            return PairRows(product, np.zeros(self.n), np.zeros(self.n))
        left = compiled_packed.weighted_rows(self.entries, -other.diagonal)
        return PairRows(product, left, compiled_packed.weighted_rows(other.entries, -self.diagonal))

    def to_bytes(self) -> bytes:
        """Write it for a cache, exactly."""
        head = np.array([self.n, self.noise, self.triangles], "<f8")
        numbers = np.concatenate([head, self.diagonal, self.squares, self.chains]).astype("<f8")
        return numbers.tobytes() + self.entries.astype("<f4", copy=False).tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote."""
        n = int(np.frombuffer(data, "<f8", 1)[0])
        numbers = np.frombuffer(data, "<f8", _HEAD + 3 * n)
        diagonal, squares, chains = numbers[_HEAD:].reshape(3, n)
        entries = np.frombuffer(data, "<f4", offset=numbers.nbytes)
        return cls(entries, diagonal, float(numbers[1]), float(numbers[2]), squares, chains)


def _find_triangles(entries: Float32Array, rows: Float64Array) -> float:
    """As `pair_sums.triangle_share` has it."""
    centred, square = compiled_packed.u_centre(entries, rows)
    # A symmetric matrix times its transpose is half of the work of any other product.
    return float(np.vdot(centred @ centred.T, centred)) / square**1.5 if square > 0 else 0.0
