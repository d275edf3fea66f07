"""Rows of a table as dataset items: an id, strings, and images as bytes."""

import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyarrow import types

from consilience.errors import InvalidRequest, TooLarge, UnsupportedDtype
from consilience.formats.sandbox import PIECE_LIMIT_BYTES
from consilience.formats.tables.arrow import ID_NAMES, Table

Value = bytes | memoryview | None

#: Rows of one batch; fewer for images, because a whole batch is held in memory.
ROWS = 256
ROWS_WITH_IMAGES = 16
#: Size from which a piece of rows is sent.
PIECE_BYTES = 2**18
#: Length prefix of a value, as `consilience.formats.items.files` reads it.
LENGTH = struct.Struct("<I")
MISSING = LENGTH.pack(2**32 - 1)


def describe_columns(schema: pa.Schema) -> dict[str, Any]:
    """Describe the id column, and each column that can be a view with its content: `text` or `bytes`.

    Raises UnsupportedDtype (ids of another type), InvalidRequest (`id` beside `ids`).
    """
    found = [field for field in schema if field.name in ID_NAMES]
    if len(found) > 1:
        raise InvalidRequest(
            f"The table has more than one of the columns `{ID_NAMES[0]}` and `{ID_NAMES[1]}`.",
            value=list(ID_NAMES),
            hint="Keep one of them.",
        )
    for field in found:
        if not _is_text(field.type) and not types.is_integer(_inner(field.type)):
            raise UnsupportedDtype(
                f"The column `{field.name}` holds neither strings nor integers.",
                value=str(field.type),
                hint="Convert the column to strings or integers.",
            )
    views = {field.name: held for field in schema if field.name not in ID_NAMES and (held := _content_kind(field.type))}
    return {"id": found[0].name if found else None, "views": views}


def read_items(table: Table, id_name: str | None, names: list[str]) -> Iterator[memoryview]:
    """Yield pieces of some rows: the id of each row, if any, then the named columns, each value after its length."""
    contents = describe_columns(table.schema)["views"]
    rows = ROWS_WITH_IMAGES if "bytes" in (contents[name] for name in names) else ROWS
    columns = [*([id_name] if id_name is not None else []), *names]
    piece = bytearray()
    for values in zip(*(_values(table, name, rows) for name in columns), strict=True):
        for value in values:
            piece += MISSING if value is None else LENGTH.pack(len(value))
            piece += value or b""
        if len(piece) >= PIECE_BYTES:
            yield memoryview(piece)
            piece = bytearray()
    if piece:
        yield memoryview(piece)


def _values(table: Table, name: str, rows: int) -> Iterator[Value]:
    for array in table.read(table.schema.get_field_index(name), rows):
        for value in array:
            yield _value(value["bytes"] if types.is_struct(value.type) and value.is_valid else value)


def _value(value: pa.Scalar) -> Value:
    """Return bytes without a copy, since they can be large; any other value as text."""
    if not value.is_valid:
        return None
    if _is_bytes(value.type):
        buffer = value.as_buffer()
        if buffer.size > PIECE_LIMIT_BYTES:
            raise TooLarge(
                f"An image of the table has {buffer.size} bytes; the limit is {PIECE_LIMIT_BYTES}.",
                value=f"{buffer.size} bytes",
                limit=PIECE_LIMIT_BYTES,
            )
        return memoryview(buffer)
    return str(value.as_py()).encode("utf-8", "surrogateescape")


def _content_kind(kind: pa.DataType) -> str | None:
    if _is_text(kind):
        return "text"
    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return "bytes" if index >= 0 and _is_bytes(kind.field(index).type) else None
    return "bytes" if _is_bytes(kind) else None


def _inner(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    inner = _inner(kind)
    return any(check(inner) for check in (types.is_string, types.is_large_string, types.is_string_view))


def _is_bytes(kind: pa.DataType) -> bool:
    return any(check(kind) for check in (types.is_binary, types.is_large_binary, types.is_binary_view))
