"""Clamp thresholds: what is done to single values before any metric sees a row.

The `prh` profile is that of the reference implementation of The Platonic Representation Hypothesis: clamp every value to
[-t, t], t being the mean over rows of the row's 0.95 quantile of absolute values, then scale each row to length 1.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from consilience.numerics.arrays import BLOCK_ROWS, AnyArray, Float32Array, RowIndex
from consilience.numerics.threads import map_rows


class Matrix(Protocol):
    """Rows that can be read by blocks: an array in memory or a stored layer."""

    @property
    def name(self) -> str:
        """The layer's name."""

    @property
    def n(self) -> int:
        """Number of rows."""

    @property
    def dim(self) -> int:
        """Number of columns."""

    def rows(self, start: int, stop: int) -> AnyArray:
        """Rows start to stop as a (stop - start, dim) array of any float type."""

    def take(self, ids: RowIndex) -> AnyArray:
        """The rows of some ids as a (len(ids), dim) array, in the ids' order."""


def find_clamp(layers: Sequence[Matrix], quantile: float, scope: str) -> tuple[float, ...]:
    """Find the clamp threshold of each layer.

    t = mean_i quantile_q(|x_i|), the quantile (linearly interpolated) running over all features of row i: those of every
    layer together under scope "model" (one t for all), those of the layer alone under scope "layer".

    Parameters
    ----------
    layers : matrices of n rows each
        Under scope "model" all layers of the model, also those that are not scored.
    quantile : float in (0.5, 1]
    scope : "model" or "layer"

    References
    ----------
    platonic-rep at dcd76ba, ``remove_outliers`` with ``exact=False``.
    """
    if scope == "layer":
        return tuple(_mean_row_quantile([layer], quantile) for layer in layers)
    return (_mean_row_quantile(layers, quantile),) * len(layers)


def _mean_row_quantile(layers: Sequence[Matrix], quantile: float) -> float:
    n, total = layers[0].n, 0.0
    step, width = max(1, BLOCK_ROWS // len(layers)), sum(layer.dim for layer in layers)
    for start in range(0, n, step):
        find = partial(_find_row_quantiles, layers, quantile, start)
        found = map_rows(find, min(step, n - start), width)
        total += float(np.concatenate(found).sum(dtype=np.float64))
    return total / n


def _find_row_quantiles(layers: Sequence[Matrix], quantile: float, first: int, part: slice) -> Float32Array:
    """What `np.quantile` gives of each row's absolute values, by one selection: it would make four, and sort out NaN."""
    bits, dtype = _join_magnitudes([layer.rows(first + part.start, first + part.stop) for layer in layers])
    last = bits.shape[1] - 1
    place = quantile * last
    low = min(int(place), last)
    bits.partition(low, axis=1)
    around = np.stack([bits[:, low], bits[:, min(low + 1, last) :].min(axis=1)]).view(dtype).astype(np.float32)
    return np.asarray(np.quantile(around, place - low, axis=0), np.float32)


def _join_magnitudes(blocks: Sequence[AnyArray]) -> tuple[npt.NDArray[np.unsignedinteger[Any]], np.dtype[Any]]:
    """Absolute values side by side, as bits, which are ordered like them; and their type, of two bytes where all have it."""
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


def find_exact_clamp(layers: Sequence[Matrix], quantile: float, scope: str) -> tuple[float, ...]:
    """Find the clamp threshold of each layer as a quantile of all its values at once.

    t = element int(q * count), counted from 0, of the sorted absolute values: of all layers together under scope "model",
    of each layer under scope "layer".

    References
    ----------
    platonic-rep at dcd76ba, ``remove_outliers`` with ``exact=True``.
    """
    if scope == "layer":
        return tuple(_select([layer], quantile) for layer in layers)
    return (_select(layers, quantile),) * len(layers)


def _select(layers: Sequence[Matrix], quantile: float) -> float:
    """Find an order statistic without sorting: floats above 0 are ordered like their bits, counted 16 at a time."""
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


def _absolute_bits(layers: Sequence[Matrix]) -> Iterator[npt.NDArray[np.uint32]]:
    for layer in layers:
        for start in range(0, layer.n, BLOCK_ROWS):
            block = np.abs(layer.rows(start, min(start + BLOCK_ROWS, layer.n)).astype(np.float32))
            yield block.view(np.uint32).ravel()
