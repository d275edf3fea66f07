"""A parsed upload: layers over the same n rows, read block by block."""

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

#: How the rows of a layer look in memory and in the store: little-endian.
NUMPY_DTYPES: dict[LayerDtype, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("<f4"),
}
#: Bytes of a file that are in memory at once, as far as whole rows allow.
BLOCK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class FormatLimits:
    """What an upload may hold. The service publishes its own values under `/v1/info`."""

    rows: int = 50_000_000
    dim: int = 65_536
    layers: int = 1024
    #: Bytes of a JSON document: it is parsed in memory, at several times its size.
    inline_bytes: int = 8 * 1024 * 1024
    #: Bytes that a compressed file may hold once unpacked.
    unpacked_bytes: int = 8 * 1024**3
    #: Bytes of the `id` or the `group` column of a table, as JSON.
    column_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True)
class LayerHeader:
    """One layer's name, its shape (n, dim) and the dtype in which it is kept (F64 becomes F32)."""

    name: str
    n: int
    dim: int
    dtype: LayerDtype

    @property
    def bytes(self) -> int:
        """What its rows have in the store."""
        return self.n * self.dim * DTYPE_BYTES[self.dtype]


class LayerSource(Protocol):
    """Layers over the same n rows that can be stored, whatever they come from."""

    @property
    def layers(self) -> tuple[LayerHeader, ...]:
        """What each is, and how it is kept."""

    def blocks(self) -> Iterator[tuple[int, Array]]:
        """Each layer's rows in order, as (index into `layers`, rows (b, dim)), C-order and in the layer's dtype."""


@dataclass(frozen=True)
class Tensor:
    """An array as it lies in a file: one layer (n, d), or L layers (n, L, d).

    `read` yields blocks of whole rows, in order, in the file's own dtype; it can be called again. `offset` is the position of
    the first value in the file where all values lie there one after the other in C order.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Iterator[Array]]
    offset: int | None = None

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, all its layers together."""
        return prod(self.shape[1:]) * self.dtype.itemsize


@dataclass(frozen=True)
class OpenFile:
    """Layers that have passed the gate of `consilience.formats.checks`; their values are checked as they are read."""

    layers: tuple[LayerHeader, ...]
    tensors: tuple[Tensor, ...]
    ids: tuple[str, ...] | None = None
    """Which item each row is, where it was said."""
    groups: tuple[str, ...] | None = None
    """Which rows belong together, where it was said."""

    @property
    def n(self) -> int:
        """The rows of every layer."""
        return self.layers[0].n

    def with_columns(
        self, ids: tuple[str, ...] | None, groups: tuple[str, ...] | None, names: tuple[str, str] = ("ids", "groups")
    ) -> Self:
        """The same file with ids and groups from beside it; `names` are what an error calls them.

        Raises InvalidRequest where one has not n entries, or stands in the file as well.
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
            raise InvalidRequest(f"The file has `{name}` inside, and they stand beside it too.", pointer=f"/{name}")
        check_length(given, self.n, name)
        return given

    def blocks(self) -> Iterator[tuple[int, Array]]:
        """Each layer's rows in order, as (index into `layers`, rows (b, dim)).

        Rows are C-order and little-endian in the layer's dtype. The layers of one (n, L, d) tensor take turns,
        so that the file is read once. About 8 MB are in memory at a time, whatever the file's size.
        Raises NonFiniteValues at the first NaN or infinity, UnreadableFile where the file ends early.
        """
        index = 0
        for tensor in self.tensors:
            headers = self.layers[index : index + (tensor.shape[1] if len(tensor.shape) == 3 else 1)]
            for start, block in _with_start_rows(tensor.read()):
                stacked = block.reshape(len(block), len(headers), -1)
                kept = _convert(stacked, headers, start)
                for offset in range(len(headers)):
                    yield index + offset, np.ascontiguousarray(kept[:, offset])
            index += len(headers)


def _with_start_rows(blocks: Iterator[Array]) -> Iterator[tuple[int, Array]]:
    """Each block with the number of its first row."""
    start = 0
    for block in blocks:
        yield start, block
        start += len(block)


def _convert(block: Array, headers: tuple[LayerHeader, ...], start: int) -> Array:
    """The block in the dtype that is kept, after a look at every value."""
    _check_finite(block, block, headers, start, "The values hold NaN or infinity.")
    with np.errstate(over="ignore", under="ignore"):  # an overflow is refused on the next line, by its position
        kept = block.astype(NUMPY_DTYPES[headers[0].dtype], copy=False)
    if kept.dtype.itemsize < block.dtype.itemsize:
        _check_finite(kept, block, headers, start, "A value is too large for float32, in which float64 is kept.")
    return kept


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
