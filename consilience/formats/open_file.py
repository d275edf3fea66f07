"""Parsed upload: layers over the same n rows, read block by block."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Protocol, Self

import ml_dtypes
import numpy as np

from consilience.contract.embeddings import DTYPE_BYTES, LayerDtype
from consilience.errors import InvalidRequest, NonFiniteValues
from consilience.formats.columns import check_length

Array = np.ndarray[Any, np.dtype[Any]]

#: NumPy dtypes of a layer's rows in memory and in the store, all little-endian.
NUMPY_DTYPES: dict[LayerDtype, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("<f4"),
}
#: Target size of the block of a file that is in memory; a block holds at least one row.
BLOCK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class FormatLimits:
    """Limits of an upload. The service publishes its values under `/v1/info`."""

    rows: int = 50_000_000
    dim: int = 65_536
    layers: int = 1024
    #: Bytes of a JSON document, which needs several times its size in memory to be parsed.
    inline_bytes: int = 8 * 1024 * 1024
    #: Bytes that a compressed file may hold once unpacked.
    unpacked_bytes: int = 8 * 1024**3
    #: Bytes of the `id` or the `group` column of a table, as JSON.
    column_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True)
class LayerHeader:
    """Name, shape (n, dim) and stored dtype of one layer (F64 becomes F32)."""

    name: str
    n: int
    dim: int
    dtype: LayerDtype

    @property
    def bytes(self) -> int:
        """Number of bytes of the layer's rows in the store."""
        return self.n * self.dim * DTYPE_BYTES[self.dtype]


class LayerSource(Protocol):
    """Layers over the same n rows that can be stored, from any source."""

    @property
    def layers(self) -> tuple[LayerHeader, ...]:
        """Headers of the layers."""

    def blocks(self) -> Iterator[tuple[int, Array]]:
        """Yield each layer's rows in order, as (index into `layers`, rows (b, dim)), C-order and in the layer's dtype."""


@dataclass(frozen=True)
class Tensor:
    """An array in a file: one layer (n, d), or L layers (n, L, d).

    `read` yields blocks of whole rows, in order, in the file's own dtype; it can be called again. `offset` is the position of
    the first value in the file if the values are contiguous there in C order, else None.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Iterator[Array]]
    offset: int | None = None

    @property
    def row_bytes(self) -> int:
        """Number of bytes of one row, over all layers."""
        return prod(self.shape[1:]) * self.dtype.itemsize


@dataclass(frozen=True)
class OpenFile:
    """Layers that have passed the checks of `consilience.formats.checks`; their values are checked while they are read."""

    layers: tuple[LayerHeader, ...]
    tensors: tuple[Tensor, ...]
    ids: tuple[str, ...] | None = None
    """The item id of each row, if the file has ids."""
    groups: tuple[str, ...] | None = None
    """The group of each row, if the file has groups."""

    @property
    def n(self) -> int:
        """Number of rows of every layer."""
        return self.layers[0].n

    def with_columns(
        self, ids: tuple[str, ...] | None, groups: tuple[str, ...] | None, names: tuple[str, str] = ("ids", "groups")
    ) -> Self:
        """Return the file with ids and groups that were sent separately; `names` are their names in errors.

        Raises InvalidRequest if a column does not have n entries, or if the file contains the column too.
        """
        return replace(
            self,
            ids=self._choose_column(self.ids, ids, names[0]),
            groups=self._choose_column(self.groups, groups, names[1]),
        )

    def _choose_column(
        self, own: tuple[str, ...] | None, given: tuple[str, ...] | None, name: str
    ) -> tuple[str, ...] | None:
        if given is None:
            return own
        if own is not None:
            raise InvalidRequest(
                f"`{name}` is given twice: inside the file and beside it.", hint="Send it once.", pointer=f"/{name}"
            )
        check_length(given, self.n, name)
        return given

    def blocks(self) -> Iterator[tuple[int, Array]]:
        """Yield each layer's rows in order, as (index into `layers`, rows (b, dim)).

        Rows are C-order and little-endian in the layer's dtype. The layers of one (n, L, d) tensor alternate, so that the
        file is read once. About 8 MB are in memory at a time, for files of any size.
        Raises NonFiniteValues at the first NaN or infinity, UnreadableFile if the file ends early.
        """
        index = 0
        for tensor in self.tensors:
            headers = self.layers[index : index + (tensor.shape[1] if len(tensor.shape) == 3 else 1)]
            for start, block in _with_start_rows(tensor.read()):
                stacked = block.reshape(len(block), len(headers), -1)
                converted = _convert(stacked, headers, start)
                for offset in range(len(headers)):
                    yield index + offset, np.ascontiguousarray(converted[:, offset])
            index += len(headers)


def _with_start_rows(blocks: Iterator[Array]) -> Iterator[tuple[int, Array]]:
    """Yield each block with the number of its first row."""
    start = 0
    for block in blocks:
        yield start, block
        start += len(block)


def _convert(block: Array, headers: tuple[LayerHeader, ...], start: int) -> Array:
    """Convert a block to the stored dtype, after a check of every value."""
    _check_finite(block, block, headers, start, "The values contain NaN or infinity.")
    with np.errstate(over="ignore", under="ignore"):  # an overflow is refused below, by its position
        converted = block.astype(NUMPY_DTYPES[headers[0].dtype], copy=False)
    if converted.dtype.itemsize < block.dtype.itemsize:
        _check_finite(
            converted, block, headers, start, "A value is too large for float32; float64 is stored as float32."
        )
    return converted


def _check_finite(block: Array, source: Array, headers: tuple[LayerHeader, ...], start: int, detail: str) -> None:
    finite = np.isfinite(block)
    if not finite.all():
        row, layer, column = (int(i) for i in np.argwhere(~finite)[0])
        value = float(source[row, layer, column])
        raise NonFiniteValues(
            detail,
            value=f"row {start + row}, column {column} of layer {headers[layer].name}: {value}",
            hint="Remove or replace these rows, on both sides of a comparison.",
        )
