"""The values of a column: vectors as plain bytes, labels as JSON."""

import json
from collections.abc import Iterator
from itertools import pairwise

import pyarrow as pa
from pyarrow import types

from consilience.errors import InvalidShape, NonFiniteValues
from consilience.formats.tables.layout import Table, find_dim

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
