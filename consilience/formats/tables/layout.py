"""Which columns of a table are what, by the types and names of its schema."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
from pyarrow import types

from consilience.errors import InvalidRequest, UnsupportedDtype, UnsupportedFormat

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
class Layout:
    """Indices of the columns that are read."""

    layers: tuple[int, ...]
    ids: int | None
    groups: int | None


def choose_layout(schema: pa.Schema) -> Layout:
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
    layout = Layout(layers, _choose_labels(schema, others, ID_NAMES), _choose_labels(schema, others, GROUP_NAMES))
    _refuse_twins(schema, layout)
    return layout


def is_vector(kind: pa.DataType) -> bool:
    """A list of floats, of fixed or of any size."""
    is_list = types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind)
    return is_list and kind.value_type in DTYPES


def describe_header(table: Table, layout: Layout) -> dict[str, Any]:
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


def _refuse_twins(schema: pa.Schema, layout: Layout) -> None:
    """Columns are asked for by name."""
    for index in (*layout.layers, layout.ids, layout.groups):
        if index is not None and schema.names.count(schema.field(index).name) > 1:
            raise UnsupportedFormat("Two columns have the same name.", value=ascii(schema.field(index).name))
