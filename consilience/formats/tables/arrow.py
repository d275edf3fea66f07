"""Parquet files, Arrow IPC files and Arrow IPC streams, read column by column with pyarrow.

The module runs in the sandboxed process only. It chooses the columns of a table by the types and names of its schema, and
turns their values into plain bytes (vectors) or JSON (labels). Arrow batches are used directly in the mapped file,
unlike Parquet pages: therefore every batch is validated before its values are read.
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

#: Position of the stream in an IPC file, which is magic bytes, a stream and a footer. Reading the stream copies nothing
#: and allows choosing columns.
_STREAM_START = 8


class ArrowFile:
    """An Arrow IPC file in memory.

    Parameters
    ----------
    data : mmap
        The file.
    unpacked_limit : int
        Unused: batches declare their number of rows before they are unpacked.
    """

    def __init__(self, data: mmap.mmap, unpacked_limit: int) -> None:  # noqa: ARG002 - all tables are made alike
        self._buffer = pa.py_buffer(data)
        file = ipc.open_file(self._buffer)
        self.schema, self._n = file.schema, int(file.count_rows())

    def count(self, index: int) -> int:  # noqa: ARG002 - the footer knows
        """Return the number of rows from the footer and the headers of its batches."""
        return self._n

    def read(self, index: int, rows: int) -> Iterator[pa.Array]:
        """Yield a column in pieces of at most `rows` rows."""
        stream = ipc.open_stream(pa.BufferReader(self._buffer.slice(_STREAM_START)), options=_options(index))
        done = 0
        for batch in stream:
            yield from _pieces(batch, self.schema.field(index), rows)
            done += batch.num_rows
            if done >= self._n:  # some writers put no end marker between the stream and the footer
                return


class ArrowStream:
    """An Arrow IPC stream in memory.

    Parameters
    ----------
    data : mmap
        The file.
    unpacked_limit : int
        Number of bytes that the stream may unpack to: its number of rows is known only after unpacking.
    """

    def __init__(self, data: mmap.mmap, unpacked_limit: int) -> None:
        self._buffer, self._unpacked_limit = pa.py_buffer(data), unpacked_limit
        self.schema = ipc.open_stream(pa.BufferReader(self._buffer)).schema

    def count(self, index: int) -> int:
        """Count the rows of all batches; only this column is unpacked."""
        n = unpacked = 0
        for batch in self._batches(index):
            n, unpacked = n + batch.num_rows, unpacked + batch.nbytes
            if unpacked > self._unpacked_limit:
                raise TooLarge(
                    f"The Arrow stream unpacks to more than {self._unpacked_limit} bytes, the limit for its size.",
                    value=f"more than {self._unpacked_limit} bytes",
                    limit=self._unpacked_limit,
                )
        return n

    def read(self, index: int, rows: int) -> Iterator[pa.Array]:
        """Yield a column in pieces of at most `rows` rows."""
        for batch in self._batches(index):
            yield from _pieces(batch, self.schema.field(index), rows)

    def _batches(self, index: int) -> Iterator[pa.RecordBatch]:
        source = pa.BufferReader(self._buffer)
        yield from ipc.open_stream(source, options=_options(index))
        if source.tell() != self._buffer.size:
            raise UnreadableFile(
                "The file has more bytes after the end of the Arrow stream.",
                value=f"{source.tell()} of {self._buffer.size} bytes",
                hint="Send a single stream with nothing after it.",
            )


def _options(index: int) -> ipc.IpcReadOptions:
    return ipc.IpcReadOptions(use_threads=False, included_fields=[index])


def _pieces(batch: pa.RecordBatch, field: pa.Field, rows: int) -> Iterator[pa.Array]:
    batch.validate(full=True)
    if batch.schema.names != [field.name] or batch.schema.field(0).type != field.type:
        raise UnreadableFile("A batch has different columns from the table.", value=batch.schema.names)
    column = batch.column(0)
    for start in range(0, len(column), rows):
        yield column.slice(start, rows)


DTYPES = {pa.float16(): "F16", pa.float32(): "F32", pa.float64(): "F64"}
ID_NAMES = ("id", "ids")
GROUP_NAMES = ("group", "groups")
#: Number of columns that an error lists.
_LISTED = 20


class Table(Protocol):
    """A file with columns."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""

    def count(self, index: int) -> int:
        """Return the number of rows, from the file's metadata or by reading this column."""

    def read(self, index: int, rows: int) -> Iterator[pa.Array]:
        """Yield a column in pieces of at most `rows` rows; memory-safe for any content of the file."""


@dataclass(frozen=True)
class ColumnLayout:
    """Indices of the columns that hold layers, ids and groups."""

    layers: tuple[int, ...]
    ids: int | None
    groups: int | None


def choose_layout(schema: pa.Schema) -> ColumnLayout:
    """Choose the columns: lists of floats are layers, `id` and `group` label the rows; the rest is ignored.

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
            hint="Store embeddings as a column of lists of equal length, for example pyarrow.list_(pyarrow.float32(), 768), "
            "and several layers as several columns.",
        )
    others = [index for index in range(len(schema)) if index not in layers]
    layout = ColumnLayout(layers, _choose_labels(schema, others, ID_NAMES), _choose_labels(schema, others, GROUP_NAMES))
    _refuse_duplicate_names(schema, layout)
    return layout


def is_vector(kind: pa.DataType) -> bool:
    """Return True for a list of floats, of fixed or variable size."""
    is_list = types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind)
    return is_list and kind.value_type in DTYPES


def describe_header(table: Table, layout: ColumnLayout) -> dict[str, Any]:
    """Return the table's header for the calling process."""
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
    """Return the dim by the column's type or, for lists of variable size, by the first row; later rows are checked."""
    kind = table.schema.field(index).type
    if types.is_fixed_size_list(kind):
        return int(kind.list_size)
    # For a table without rows, the error is about the rows and not about the dimension.
    return next((len(piece[0]) if piece[0].is_valid else 1 for piece in table.read(index, 1)), 1)


def _choose_labels(schema: pa.Schema, others: list[int], names: tuple[str, ...]) -> int | None:
    found = [index for index in others if schema.field(index).name in names]
    if len(found) > 1:
        raise InvalidRequest(
            f"The table has more than one of the columns `{names[0]}` and `{names[1]}`.",
            value=list(names),
            hint="Keep one of them.",
        )
    for index in found:
        field = schema.field(index)
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        if not _is_label(kind):
            raise UnsupportedDtype(
                f"The column `{field.name}` holds neither strings nor integers.",
                value=str(field.type),
                hint="Convert the column to strings, or rename it if it does not label the rows.",
            )
    return found[0] if found else None


def _is_label(kind: pa.DataType) -> bool:
    checks = (types.is_integer, types.is_string, types.is_large_string, types.is_string_view)
    return any(check(kind) for check in checks)


def _refuse_duplicate_names(schema: pa.Schema, layout: ColumnLayout) -> None:
    """Refuse duplicate names among the chosen columns, because pyarrow reads columns by name."""
    for index in (*layout.layers, layout.ids, layout.groups):
        if index is not None and schema.names.count(schema.field(index).name) > 1:
            raise UnsupportedFormat(
                f"Two columns of the table have the same name: {schema.field(index).name[:100]!a}.",
                value=ascii(schema.field(index).name),
                hint="Give each column a name of its own.",
            )


#: Limits of the metadata; pyarrow's own limits are a hundred times as high.
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
        Unused: the number of rows is known before anything is unpacked.
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
        """Return the number of rows from the metadata."""
        return int(self._file.metadata.num_rows)

    def read(self, index: int, rows: int) -> Iterator[pa.Array]:
        """Yield a column in pieces of at most `rows` rows."""
        field = self.schema.field(index)
        for batch in self._file.iter_batches(rows, columns=[field.name], use_threads=False):
            # pyarrow takes a name as the start of a path too: `a` also selects `a.b`.
            if batch.schema.names != [field.name] or batch.schema.field(0).type != field.type:
                raise UnsupportedFormat(
                    "The table has columns whose names are ambiguous, such as `a` and `a.b`.",
                    value=batch.schema.names,
                    hint="Rename one of the columns.",
                )
            yield batch.column(0)


#: Target size of one piece of vectors; a piece holds at least one row.
PIECE_BYTES = 4 * 1024 * 1024
#: Largest number of rows of one piece, in case the first row is too short by mistake.
PIECE_ROWS = 8192


def read_vectors(table: Table, index: int) -> Iterator[memoryview]:
    """Yield the rows of a column of lists, C-order, in the column's dtype.

    Raises InvalidShape (a missing row, or one of another length), NonFiniteValues (a missing value).
    """
    field, dim, start = table.schema.field(index), find_dim(table, index), 0
    row_bytes = max(1, dim * field.type.value_type.bit_width // 8)
    for array in table.read(index, min(PIECE_ROWS, max(1, PIECE_BYTES // row_bytes))):
        if len(array):  # an empty piece would end the response
            yield _vectors(array, dim, start, field.name)
        start += len(array)


def read_labels(table: Table, index: int) -> Iterator[bytes]:
    """Yield JSON lists of the labels of some thousand rows each; missing labels are null."""
    for array in table.read(index, PIECE_ROWS):
        yield json.dumps(_labels(array), ensure_ascii=False).encode()


def _vectors(array: pa.Array, dim: int, start: int, name: str) -> memoryview:
    if array.null_count:
        row = start + _first_null(array)
        raise InvalidShape(
            f"Row {row} of the column {name!a} is missing (null).",
            value=f"row {row} of {name}: null",
            hint="Remove the row, on both sides of a comparison.",
        )
    values = _entries(array, dim, start, name)
    if values.null_count:
        row, column = divmod(_first_null(values), dim)
        raise NonFiniteValues(
            f"The column {name!a} has a missing value (null).",
            value=f"row {start + row}, column {column} of layer {name}: null",
            hint="Remove or replace these rows, on both sides of a comparison.",
        )
    width = values.type.bit_width // 8
    return memoryview(values.buffers()[1])[values.offset * width : (values.offset + len(values)) * width]


def _entries(array: pa.Array, dim: int, start: int, name: str) -> pa.Array:
    """Return the concatenated entries of all rows; `flatten` would load half of pyarrow."""
    if types.is_fixed_size_list(array.type):
        return array.values.slice(array.offset * dim, len(array) * dim)
    offsets = array.offsets.to_pylist()
    if offsets == [offsets[0] + dim * row for row in range(len(offsets))]:
        return array.values.slice(offsets[0], len(array) * dim)
    row, count = next((row, b - a) for row, (a, b) in enumerate(pairwise(offsets)) if b - a != dim)
    raise InvalidShape(
        f"Row {start + row} of the column {name!a} has {count} entries, but the first row has {dim}.",
        value=f"{count} entries",
        limit=dim,
    )


def _first_null(array: pa.Array) -> int:
    """Return the index of the first null by bisection: counting nulls is fast, reading single values is not."""
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
        labels = array.dictionary.to_pylist()
        return [None if code is None else labels[code] for code in array.indices.to_pylist()]
    return list(array.to_pylist())
