"""Arrow's IPC files and streams, read batch by batch out of the mapped file.

Unlike Parquet's, these bytes are used as they lie there: every batch is validated before it is touched.
"""

import json
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import pyarrow as pa
from pyarrow import ipc, types
from pyarrow.parquet import ParquetFile

from consilience.errors import (
    InvalidRequest,
    InvalidShape,
    NonFiniteValues,
    TooLarge,
    UnreadableFile,
    UnsupportedDtype,
    UnsupportedFormat,
)

#: A file is a stream behind its mark, and a footer. Read as a stream nothing is copied, and columns can be chosen.
_STREAM_START = 8


class ArrowFile:
    """An IPC file in memory.

    Parameters
    ----------
    data : mmap
        The file.
    unpacked_limit : int
        Not needed: its batches name their rows before they are unpacked.
    """

    def __init__(self, data: mmap.mmap, unpacked_limit: int) -> None:  # noqa: ARG002 - all tables are made alike
        self._buffer = pa.py_buffer(data)
        file = ipc.open_file(self._buffer)
        self.schema, self._n = file.schema, int(file.count_rows())

    def count(self, index: int) -> int:  # noqa: ARG002 - the footer knows
        """By the footer, and the headers of the batches that it names."""
        return self._n

    def read(self, index: int, rows: int) -> Iterator[pa.Array]:
        """A column in pieces of at most so many rows."""
        stream = ipc.open_stream(pa.BufferReader(self._buffer.slice(_STREAM_START)), options=_options(index))
        done = 0
        for batch in stream:
            yield from _pieces(batch, self.schema.field(index), rows)
            done += batch.num_rows
            if done >= self._n:  # some writers put no mark between the stream and the footer
                return


class ArrowStream:
    """An IPC stream in memory.

    Parameters
    ----------
    data : mmap
        The file.
    unpacked_limit : int
        Bytes that it may unpack to: how many rows it has is seen only when they are unpacked.
    """

    def __init__(self, data: mmap.mmap, unpacked_limit: int) -> None:
        self._buffer, self._unpacked_limit = pa.py_buffer(data), unpacked_limit
        self.schema = ipc.open_stream(pa.BufferReader(self._buffer)).schema

    def count(self, index: int) -> int:
        """By the batches, of which only this column is unpacked."""
        n = unpacked = 0
        for batch in self._batches(index):
            n, unpacked = n + batch.num_rows, unpacked + batch.nbytes
            if unpacked > self._unpacked_limit:
                raise TooLarge(
                    f"The stream unpacks to more than {self._unpacked_limit} bytes.",
                    value=f"more than {self._unpacked_limit} bytes",
                    limit=self._unpacked_limit,
                )
        return n

    def read(self, index: int, rows: int) -> Iterator[pa.Array]:
        """A column in pieces of at most so many rows."""
        for batch in self._batches(index):
            yield from _pieces(batch, self.schema.field(index), rows)

    def _batches(self, index: int) -> Iterator[pa.RecordBatch]:
        source = pa.BufferReader(self._buffer)
        yield from ipc.open_stream(source, options=_options(index))
        if source.tell() != self._buffer.size:
            raise UnreadableFile(
                "The stream ends before the file does.",
                value=f"{source.tell()} of {self._buffer.size} bytes",
                hint="Send one stream, with nothing behind it.",
            )


def _options(index: int) -> ipc.IpcReadOptions:
    return ipc.IpcReadOptions(use_threads=False, included_fields=[index])


def _pieces(batch: pa.RecordBatch, field: pa.Field, rows: int) -> Iterator[pa.Array]:
    batch.validate(full=True)
    if batch.schema.names != [field.name] or batch.schema.field(0).type != field.type:
        raise UnreadableFile("The batches have other columns than the table.", value=batch.schema.names)
    column = batch.column(0)
    for start in range(0, len(column), rows):
        yield column.slice(start, rows)


DTYPES = {pa.float16(): "F16", pa.float32(): "F32", pa.float64(): "F64"}
ID_NAMES = ("id", "ids")
GROUP_NAMES = ("group", "groups")
#: Columns that an error lists.
_LISTED = 20


class Table(Protocol):
    """A file of columns."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""

    def count(self, index: int) -> int:
        """The rows, by the file's own word or by a look at this column."""

    def read(self, index: int, rows: int) -> Iterator[pa.Array]:
        """A column in pieces of at most so many rows; sound in memory, whatever the file holds."""


@dataclass(frozen=True)
class ColumnLayout:
    """Indices of the columns that are read."""

    layers: tuple[int, ...]
    ids: int | None
    groups: int | None


def choose_layout(schema: pa.Schema) -> ColumnLayout:
    """Lists of floats are layers, `id` and `group` say what the rows are, and nothing else is read.

    Raises UnsupportedDtype (no list of floats; ids of another type), UnsupportedFormat (a name twice),
    InvalidRequest (`id` beside `ids`).
    """
    layers = tuple(index for index, field in enumerate(schema) if is_vector(field.type))
    if not layers:
        columns = ", ".join(f"{field.name}: {field.type}" for field in list(schema)[:_LISTED])
        raise UnsupportedDtype(
            "No column of the table holds lists of floats of 16, 32 or 64 bits.",
            value=ascii(columns)[1:-1],
            limit=list(DTYPES.values()),
            hint="Embeddings are a column of lists, all of one length: pyarrow.list_(pyarrow.float32(), 768); "
            "several layers are several columns.",
        )
    others = [index for index in range(len(schema)) if index not in layers]
    layout = ColumnLayout(layers, _choose_labels(schema, others, ID_NAMES), _choose_labels(schema, others, GROUP_NAMES))
    _refuse_duplicate_names(schema, layout)
    return layout


def is_vector(kind: pa.DataType) -> bool:
    """A list of floats, of fixed or of any size."""
    is_list = types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind)
    return is_list and kind.value_type in DTYPES


def describe_header(table: Table, layout: ColumnLayout) -> dict[str, Any]:
    """What the other process is told first."""
    fields = [table.schema.field(index) for index in layout.layers]
    ids, groups = (None if index is None else table.schema.field(index).name for index in (layout.ids, layout.groups))
    return {
        "n": table.count(layout.layers[0]),
        "layers": [
            {"name": field.name, "dim": find_dim(table, index), "dtype": DTYPES[field.type.value_type]}
            for index, field in zip(layout.layers, fields, strict=True)
        ],
        "ids": ids,
        "groups": groups,
    }


def find_dim(table: Table, index: int) -> int:
    """By the type; for lists of any size by the first row, against which the others are held as they are read."""
    kind = table.schema.field(index).type
    if types.is_fixed_size_list(kind):
        return int(kind.list_size)
    # A table without rows is refused for that, and not for its dimension.
    return next((len(piece[0]) if piece[0].is_valid else 1 for piece in table.read(index, 1)), 1)


def _choose_labels(schema: pa.Schema, others: list[int], names: tuple[str, ...]) -> int | None:
    found = [index for index in others if schema.field(index).name in names]
    if len(found) > 1:
        raise InvalidRequest(f"The table has several of the columns {' and '.join(names)}.", value=list(names))
    for index in found:
        field = schema.field(index)
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        if not _is_label(kind):
            raise UnsupportedDtype(
                f"The column `{field.name}` holds neither strings nor integers.",
                value=str(field.type),
                hint="Convert it to strings, or give it another name if it says nothing about the rows.",
            )
    return found[0] if found else None


def _is_label(kind: pa.DataType) -> bool:
    checks = (types.is_integer, types.is_string, types.is_large_string, types.is_string_view)
    return any(check(kind) for check in checks)


def _refuse_duplicate_names(schema: pa.Schema, layout: ColumnLayout) -> None:
    """Columns are asked for by name."""
    for index in (*layout.layers, layout.ids, layout.groups):
        if index is not None and schema.names.count(schema.field(index).name) > 1:
            raise UnsupportedFormat("Two columns have the same name.", value=ascii(schema.field(index).name))


#: What the metadata may hold; pyarrow's own limits are a hundred times as high.
STRING_LIMIT_BYTES = 4 * 1024 * 1024
CONTAINER_LIMIT = 100_000
DEPTH_LIMIT = 64


class ParquetTable:
    """A Parquet file in memory.

    Parameters
    ----------
    data : mmap
        The file.
    unpacked_limit : int
        Not needed: the number of rows is known before anything is unpacked.
    """

    def __init__(self, data: mmap.mmap, unpacked_limit: int) -> None:  # noqa: ARG002 - all tables are made alike
        self._file = ParquetFile(
            pa.BufferReader(pa.py_buffer(data)),
            thrift_string_size_limit=STRING_LIMIT_BYTES,
            thrift_container_size_limit=CONTAINER_LIMIT,
            schema_depth_limit=DEPTH_LIMIT,
            pre_buffer=False,
            page_checksum_verification=True,
            arrow_extensions_enabled=False,
        )
        self.schema = self._file.schema_arrow

    def count(self, index: int) -> int:  # noqa: ARG002 - the metadata knows
        """By the metadata."""
        return int(self._file.metadata.num_rows)

    def read(self, index: int, rows: int) -> Iterator[pa.Array]:
        """A column in pieces of at most so many rows."""
        field = self.schema.field(index)
        for batch in self._file.iter_batches(rows, columns=[field.name], use_threads=False):
            # A name is also asked for as the start of a path: `a` finds `a.b` too.
            if batch.schema.names != [field.name] or batch.schema.field(0).type != field.type:
                raise UnsupportedFormat("Columns have names that cannot be told apart.", value=batch.schema.names)
            yield batch.column(0)


#: Bytes of one piece of vectors, as far as whole rows allow.
PIECE_BYTES = 4 * 1024 * 1024
#: Rows of one piece, whatever their size: the first row may be a short one by mistake.
PIECE_ROWS = 8192


def read_vectors(table: Table, index: int) -> Iterator[memoryview]:
    """The rows of a column of lists, C-order, in its own dtype.

    Raises InvalidShape (a row that is missing, or of another length), NonFiniteValues (a value that is missing).
    """
    field, dim, start = table.schema.field(index), find_dim(table, index), 0
    row_bytes = max(1, dim * field.type.value_type.bit_width // 8)
    for array in table.read(index, min(PIECE_ROWS, max(1, PIECE_BYTES // row_bytes))):
        if len(array):  # an empty piece would end the answer
            yield _vectors(array, dim, start, field.name)
        start += len(array)


def read_labels(table: Table, index: int) -> Iterator[bytes]:
    """A JSON list of the labels of some thousand rows, again and again; null where one is missing."""
    for array in table.read(index, PIECE_ROWS):
        yield json.dumps(_labels(array), ensure_ascii=False).encode()


def _vectors(array: pa.Array, dim: int, start: int, name: str) -> memoryview:
    if array.null_count:
        row = start + _first_null(array)
        raise InvalidShape(
            f"Row {row} of the column {name!a} is missing.",
            value=f"row {row} of {name}: null",
            hint="Leave the row out, on both sides of a comparison.",
        )
    values = _entries(array, dim, start, name)
    if values.null_count:
        row, column = divmod(_first_null(values), dim)
        raise NonFiniteValues(
            f"A value of the column {name!a} is missing.",
            value=f"row {start + row}, column {column} of layer {name}: null",
            hint="Remove or replace these rows, on both sides of a comparison.",
        )
    width = values.type.bit_width // 8
    return memoryview(values.buffers()[1])[values.offset * width : (values.offset + len(values)) * width]


def _entries(array: pa.Array, dim: int, start: int, name: str) -> pa.Array:
    """The entries of all the rows, one after the other; `flatten` would load half of pyarrow."""
    if types.is_fixed_size_list(array.type):
        return array.values.slice(array.offset * dim, len(array) * dim)
    offsets = array.offsets.to_pylist()
    if offsets == [offsets[0] + dim * row for row in range(len(offsets))]:
        return array.values.slice(offsets[0], len(array) * dim)
    row, found = next((row, b - a) for row, (a, b) in enumerate(pairwise(offsets)) if b - a != dim)
    raise InvalidShape(
        f"Row {start + row} of the column {name!a} is ragged: {found} entries, where the first row has {dim}.",
        value=f"{found} entries",
        limit=dim,
    )


def _first_null(array: pa.Array) -> int:
    """Its place, by halves: counting nulls is fast, looking at single values is not."""
    start, stop = 0, len(array)
    while stop - start > 1:
        middle = (start + stop) // 2
        if array.slice(start, middle - start).null_count:
            stop = middle
        else:
            start = middle
    return start


def _labels(array: pa.Array) -> list[object]:
    if types.is_dictionary(array.type):
        words = array.dictionary.to_pylist()
        return [None if code is None else words[code] for code in array.indices.to_pylist()]
    return list(array.to_pylist())
