"""Prepared rows: in memory where they fit, else read and prepared block by block whenever they are asked for.

A stored layer is never mapped: pages of a mapped file count as resident memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from consilience.numerics.arrays import BLOCK_ROWS, AnyArray, Float32Array, RowIndex, cached_rows
from consilience.numerics.preparation import Matrix

#: Values of a block that is read ahead of a long computation: 16 MB as float32.
BLOCK_VALUES = 1 << 22


class Rows(Protocol):
    """The prepared rows of one layer, (n, d) float32, wherever they are."""

    @property
    def n(self) -> int:
        """Number of rows."""

    @property
    def dim(self) -> int:
        """Number of columns."""

    def read(self, start: int, stop: int) -> Float32Array:
        """Rows start to stop, (stop - start, d), C order; not to be written to."""

    def take(self, ids: RowIndex) -> Float32Array:
        """The rows of some ids, (m, d), C order, in the ids' order."""


def blocks(rows: Rows, step: int | None = None) -> Iterator[tuple[int, Float32Array]]:
    """Go over all rows: the first row's id, and a block of at most `step` rows (by default 16 MB of them)."""
    step = step or max(1, BLOCK_VALUES // rows.dim)
    for start in range(0, rows.n, step):
        yield start, rows.read(start, min(start + step, rows.n))


@dataclass(frozen=True)
class ArrayRows:
    """Rows in memory."""

    array: Float32Array

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.array)

    @property
    def dim(self) -> int:
        """Number of columns."""
        return int(self.array.shape[1])

    def read(self, start: int, stop: int) -> Float32Array:
        """Rows start to stop: a view."""
        return self.array[start:stop]

    def take(self, ids: RowIndex) -> Float32Array:
        """The rows of some ids: a copy."""
        return self.array[ids]


@dataclass(frozen=True)
class PreparedRows:
    """Rows of a layer with their values clamped to [-clamp, clamp], the mean row subtracted, and scaled to length 1.

    Each step where asked, in this order. It holds no rows and can be sent to another process.

    Attributes
    ----------
    layer : where the rows are
    clamp : threshold, None for none
    mean : array of shape (d,), float32, the mean of the clamped rows; None for no centring
    normalise : whether rows are scaled to length 1; a row of zeros has no direction and stays zero
    """

    layer: Matrix
    clamp: float | None = None
    mean: Float32Array | None = None
    normalise: bool = True

    @classmethod
    def of(cls, layer: Matrix, *, clamp: float | None = None, centre: bool = False, normalise: bool = True) -> Self:
        """Find the mean, where rows are to be centred: one pass over the layer."""
        if not centre:
            return cls(layer, clamp, None, normalise)
        raw = cls(layer, clamp, None, normalise=False)
        total = np.zeros(layer.dim)
        for _, block in blocks(raw, BLOCK_ROWS):
            total += block.sum(axis=0, dtype=np.float64)
        return cls(layer, clamp, (total / layer.n).astype(np.float32), normalise)

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.layer.n

    @property
    def dim(self) -> int:
        """Number of columns."""
        return self.layer.dim

    def read(self, start: int, stop: int) -> Float32Array:
        """Rows start to stop, read and prepared."""
        out = np.empty((stop - start, self.dim), np.float32)
        self._fill(out, self.layer.rows(start, stop))
        return out

    def take(self, ids: RowIndex) -> Float32Array:
        """The rows of some ids, read and prepared."""
        out = np.empty((len(ids), self.dim), np.float32)
        self._fill(out, self.layer.take(ids))
        return out

    def load(self) -> ArrayRows:
        """All rows, read once."""
        out = np.empty((self.n, self.dim), np.float32)
        for start in range(0, self.n, BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, self.n)
            self._fill(out[start:stop], self.layer.rows(start, stop))
        return ArrayRows(out)

    def _fill(self, out: Float32Array, raw: AnyArray) -> None:
        step = cached_rows(self.dim)
        for start in range(0, len(out), step):
            block = out[start : start + step]
            block[:] = raw[start : start + step]
            if self.clamp is not None:
                np.clip(block, -self.clamp, self.clamp, out=block)
            if self.mean is not None:
                block -= self.mean
            if self.normalise:
                _scale_to_unit(block)


def _scale_to_unit(block: Float32Array) -> None:
    """Scale each row to length 1 in place; lengths are float64, in which the square of every float32 has room."""
    lengths = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))[:, None]
    block /= np.where(lengths == 0, 1, lengths)


@dataclass(frozen=True)
class Scan:
    """What makes a layer unfit for scoring.

    Attributes
    ----------
    zero_rows : number of rows of zeros
    constant : whether all rows are equal
    largest : the largest absolute value
    """

    zero_rows: int
    constant: bool
    largest: float


def scan(rows: Rows) -> Scan:
    """Look at every row once."""
    first = rows.read(0, 1)[0]
    zero_rows, constant, largest = 0, True, 0.0
    for _, block in blocks(rows):
        suspects = block[block[:, 0] == 0]
        zero_rows += int((~suspects.any(axis=1)).sum())
        constant = constant and bool((block[0] == first).all() and (block == first).all())
        largest = max(largest, float(block.max()), -float(block.min()))
    return Scan(zero_rows, constant, largest)
