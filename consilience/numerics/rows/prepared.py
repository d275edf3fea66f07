"""Prepared rows: in memory if they fit, else read and prepared block by block at every access.

A stored layer is never mapped: pages of a mapped file count as resident memory.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from consilience.limits import BLOCK_ROWS, BLOCK_VALUES
from consilience.numerics.rows.arrays import AnyArray, Float32Array, Float64Array, RowIndex, cached_rows
from consilience.numerics.rows.parallel import (
    LOCAL_EXECUTOR,
    Executor,
    block_rows,
    map_rows,
    prefetch_blocks,
    split_rows,
)


class RawRows(Protocol):
    """Unprepared rows that can be read by blocks: an array in memory or a stored layer."""

    @property
    def name(self) -> str:
        """Name of the layer."""

    @property
    def n(self) -> int:
        """Number of rows."""

    @property
    def dim(self) -> int:
        """Number of columns."""

    def rows(self, start: int, stop: int) -> AnyArray:
        """Return rows start to stop as a (stop - start, dim) array of any float type."""

    def take(self, ids: RowIndex) -> AnyArray:
        """Return the rows of some ids as a (len(ids), dim) array, in the ids' order."""


def find_clamp(layers: Sequence[RawRows], quantile: float, scope: str) -> tuple[float, ...]:
    """Compute the clamp threshold of each layer.

    t = mean_i quantile_q(|x_i|), the quantile (linearly interpolated) running over all features of row i: those of every
    layer together under scope "model" (one t for all), those of the layer alone under scope "layer".

    Parameters
    ----------
    layers : matrices of n rows each
        Under scope "model": all layers of the model, also those that are not scored.
    quantile : float in (0.5, 1]
    scope : "model" or "layer"

    References
    ----------
    platonic-rep at dcd76ba, ``remove_outliers`` with ``exact=False``.
    """
    if scope == "layer":
        return tuple(_mean_row_quantile([layer], quantile) for layer in layers)
    return (_mean_row_quantile(layers, quantile),) * len(layers)


def _mean_row_quantile(layers: Sequence[RawRows], quantile: float) -> float:
    n, total = layers[0].n, 0.0
    step, width = max(1, BLOCK_ROWS // len(layers)), sum(layer.dim for layer in layers)
    for start in range(0, n, step):
        find = partial(_find_row_quantiles, layers, quantile, start)
        found = map_rows(find, min(step, n - start), width)
        total += float(np.concatenate(found).sum(dtype=np.float64))
    return total / n


def _find_row_quantiles(layers: Sequence[RawRows], quantile: float, first: int, part: slice) -> Float32Array:
    """Return `np.quantile` of each row's absolute values, by one selection; numpy would make four and search for NaN."""
    bits, dtype = _join_magnitudes([layer.rows(first + part.start, first + part.stop) for layer in layers])
    last = bits.shape[1] - 1
    position = quantile * last
    low = min(int(position), last)
    bits.partition(low, axis=1)
    around = np.stack([bits[:, low], bits[:, min(low + 1, last) :].min(axis=1)]).view(dtype).astype(np.float32)
    return np.asarray(np.quantile(around, position - low, axis=0), np.float32)


def _join_magnitudes(blocks: Sequence[AnyArray]) -> tuple[npt.NDArray[np.unsignedinteger[Any]], np.dtype[Any]]:
    """Join absolute values as bits, which have the same order, and return their type: two bytes if all blocks have it."""
    dtypes = {block.dtype for block in blocks}
    halves = len(dtypes) == 1 and blocks[0].dtype.itemsize == 2
    dtype, word = (blocks[0].dtype, np.uint16) if halves else (np.dtype(np.float32), np.uint32)
    bits = np.empty((len(blocks[0]), sum(block.shape[1] for block in blocks)), word)
    done = 0
    for block in blocks:
        stop = done + block.shape[1]
        np.bitwise_and(
            block.astype(dtype, copy=False).view(word), word(np.iinfo(word).max >> 1), out=bits[:, done:stop]
        )
        done = stop
    return bits, dtype


def find_exact_clamp(layers: Sequence[RawRows], quantile: float, scope: str) -> tuple[float, ...]:
    """Compute the clamp threshold of each layer as a quantile of all its values at once.

    t = element int(q * count), counted from 0, of the sorted absolute values: of all layers together under scope "model",
    of each layer under scope "layer".

    References
    ----------
    platonic-rep at dcd76ba, ``remove_outliers`` with ``exact=True``.
    """
    if scope == "layer":
        return tuple(_select([layer], quantile) for layer in layers)
    return (_select(layers, quantile),) * len(layers)


def _select(layers: Sequence[RawRows], quantile: float) -> float:
    """Return an order statistic without sorting: positive floats have the order of their bits, counted 16 at a time."""
    count = sum(layer.n * layer.dim for layer in layers)
    rank = min(int(quantile * count), count - 1)
    high = np.zeros(1 << 16, dtype=np.int64)
    for bits in _absolute_bits(layers):
        high += np.bincount(bits >> 16, minlength=1 << 16)
    top = int(np.searchsorted(np.cumsum(high), rank, side="right"))
    rank -= int(high[:top].sum())
    low = np.zeros(1 << 16, dtype=np.int64)
    for bits in _absolute_bits(layers):
        low += np.bincount(bits[bits >> 16 == top] & 0xFFFF, minlength=1 << 16)
    bottom = int(np.searchsorted(np.cumsum(low), rank, side="right"))
    return float(np.uint32(top << 16 | bottom).view(np.float32))


def _absolute_bits(layers: Sequence[RawRows]) -> Iterator[npt.NDArray[np.uint32]]:
    for layer in layers:
        for start in range(0, layer.n, BLOCK_ROWS):
            block = np.abs(layer.rows(start, min(start + BLOCK_ROWS, layer.n)).astype(np.float32))
            yield block.view(np.uint32).ravel()


#: Cost of preparing or reading a value, in steps of a kernel.
STEPS_PER_VALUE = 4


class Rows(Protocol):
    """Prepared rows of one layer, (n, d) float32, in memory or not."""

    @property
    def n(self) -> int:
        """Number of rows."""

    @property
    def dim(self) -> int:
        """Number of columns."""

    def read(self, start: int, stop: int) -> Float32Array:
        """Return rows start to stop, (stop - start, d), C order; callers must not write to them."""

    def take(self, ids: RowIndex) -> Float32Array:
        """Return the rows of some ids, (m, d), C order, in the ids' order."""


def blocks(rows: Rows, step: int | None = None) -> Iterator[tuple[int, Float32Array]]:
    """Yield all rows: the first row's id and a block of at most `step` rows (by default 16 MB)."""
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
        """Return a copy of the rows of some ids."""
        return self.array[ids]


@dataclass(frozen=True)
class PreparedRows:
    """Rows of a layer with their values clamped to [-clamp, clamp], the mean row subtracted, and scaled to length 1.

    Each requested step is applied, in this order. The object holds no rows and can be sent to another process.

    Attributes
    ----------
    layer : source of the rows
    clamp : threshold; None for no clamping
    mean : array of shape (d,), float32, the mean of the clamped rows; None for no centring
    normalise : whether rows are scaled to length 1; a row of zeros has no direction and stays zero
    """

    layer: RawRows
    clamp: float | None = None
    mean: Float32Array | None = None
    normalise: bool = True

    @classmethod
    def of(cls, layer: RawRows, *, clamp: float | None = None, centre: bool = False, normalise: bool = True) -> Self:
        """Create prepared rows; to centre them, compute the mean in one pass over the layer."""
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
        """Read and prepare rows start to stop."""
        out = np.empty((stop - start, self.dim), np.float32)
        self._fill(out, self.layer.rows(start, stop))
        return out

    def take(self, ids: RowIndex) -> Float32Array:
        """Read and prepare the rows of some ids."""
        out = np.empty((len(ids), self.dim), np.float32)
        self._fill(out, self.layer.take(ids))
        return out

    def load(self) -> ArrayRows:
        """Read and prepare all rows once."""
        out = np.empty((self.n, self.dim), np.float32)
        for start in range(0, self.n, BLOCK_ROWS):
            rows = out[start : start + BLOCK_ROWS]
            map_rows(partial(self._fill_part, rows, start), len(rows), STEPS_PER_VALUE * self.dim)
        return ArrayRows(out)

    def _fill_part(self, rows: Float32Array, first: int, part: slice) -> None:
        self._fill(rows[part], self.layer.rows(first + part.start, first + part.stop))

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
                scale_to_unit(block)


@dataclass(frozen=True)
class ScaledRows:
    """Rows times a power of two, which changes no digit of the mantissa: see `scaled`."""

    rows: Rows
    exponent: int

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.rows.n

    @property
    def dim(self) -> int:
        """Number of columns."""
        return self.rows.dim

    def read(self, start: int, stop: int) -> Float32Array:
        """Return rows start to stop."""
        return np.ldexp(self.rows.read(start, stop), self.exponent)

    def take(self, ids: RowIndex) -> Float32Array:
        """Return the rows of some ids."""
        return np.ldexp(self.rows.take(ids), self.exponent)


def scaled(rows: Rows, exponent: int) -> Rows:
    """Multiply rows by 2 to the exponent, so that products stay in float32's range: see `graph.scale_exponent`."""
    return ScaledRows(rows, exponent) if exponent else rows


def scale_to_unit(block: Float32Array) -> None:
    """Scale each row to length 1 in place; lengths are float64, which can hold the square of every float32."""
    lengths = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))[:, None]
    block /= np.where(lengths == 0, 1, lengths)


@dataclass(frozen=True)
class LoadedRows(ArrayRows):
    """Prepared rows in memory, which are pickled as their origin: another process reads them again."""

    origin: PreparedRows

    def __reduce__(self) -> tuple[Callable[[PreparedRows], PreparedRows], tuple[PreparedRows]]:
        """Pickle the origin only."""
        return _restore, (self.origin,)


def _restore(origin: PreparedRows) -> PreparedRows:
    return origin


@dataclass(frozen=True)
class RowStatistics:
    """Statistics of all rows of a layer, from one pass.

    Attributes
    ----------
    zero_rows : number of rows of zeros
    constant : whether all rows are equal
    largest : largest absolute value
    mean : array of shape (d,), float64, the mean row
    """

    zero_rows: int
    constant: bool
    largest: float
    mean: Float64Array = field(compare=False, default_factory=lambda: np.empty(0))

    def to_bytes(self) -> bytes:
        """Serialise the statistics for a cache, exactly: float64 holds every count and value."""
        return np.array([self.zero_rows, self.constant, self.largest, *self.mean], "<f8").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the bytes of `to_bytes`."""
        zero_rows, constant, largest, *mean = np.frombuffer(data, "<f8").tolist()
        return cls(int(zero_rows), bool(constant), largest, np.array(mean))


@dataclass(frozen=True)
class _StatisticsTask:
    """Some rows of a layer and its first row, the origin of sums: so equal rows have exactly their mean."""

    rows: Rows
    span: slice
    origin: Float32Array


def find_row_statistics(rows: Rows, executor: Executor = LOCAL_EXECUTOR) -> RowStatistics:
    """Compute the statistics of a layer in one pass."""
    origin = rows.read(0, 1)[0]
    tasks = [_StatisticsTask(rows, span, origin) for span in split_rows(rows.n, rows.dim)]
    zero_rows, constant, largest, total = 0, True, 0.0, np.zeros(rows.dim)
    for found in executor.map(_find_part_statistics, tasks):
        zero_rows += found.zero_rows
        constant = constant and found.constant
        largest = max(largest, found.largest)
        total += found.mean
    return RowStatistics(zero_rows, constant, largest, origin + total / rows.n)


def _find_part_statistics(task: _StatisticsTask) -> RowStatistics:
    """Compute the statistics of some rows; `mean` is the sum of the differences from the origin."""
    zero_rows, constant, largest = 0, True, 0.0
    total, origin = np.zeros(task.rows.dim), task.origin.astype(np.float64)
    step = cached_rows(task.rows.dim)

    def add_columns(block: Float32Array, columns: slice) -> float:
        """Threads take columns, so that sums do not depend on their number."""
        largest = 0.0
        for start in range(0, len(block), step):
            found = block[start : start + step, columns]
            total[columns] += (found - origin[columns]).sum(axis=0)
            largest = max(largest, float(found.max()), -float(found.min()))
        return largest

    for _, block in prefetch_blocks(task.rows.read, task.span, block_rows(task.rows.dim)):
        suspects = block[block[:, 0] == 0]
        zero_rows += int((~suspects.any(axis=1)).sum())
        constant = constant and bool((block[0] == task.origin).all() and (block == task.origin).all())
        largest = max(largest, *map_rows(partial(add_columns, block), task.rows.dim, STEPS_PER_VALUE * len(block)))
    return RowStatistics(zero_rows, constant, largest, total)
