"""Parquet: a row is an item, and the columns of strings and of pictures are its views. Read by a confined process."""

import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from consilience.contract.datasets import ViewKind
from consilience.errors import UnreadableFile
from consilience.formats.gate import unpacked_limit
from consilience.formats.items.item import ItemLimits, RawItem, RawItems, ViewChoice, ViewHeader, choose_views, kind_of
from consilience.formats.matrices import FormatLimits
from consilience.formats.tables import ends
from consilience.formats.tables.exchange import TableReader

HEADER_LIMIT_BYTES = 2**20
#: Before each value of a row: its bytes, or that it is missing.
LENGTH = struct.Struct("<I")
MISSING = 2**32 - 1


@contextmanager
def open_parquet_items(path: Path, choice: ViewChoice, limits: ItemLimits) -> Iterator[RawItems]:
    """Columns of strings are views of text or code by their names, columns of bytes are pictures; `id` is the id.

    A picture may also be a struct with the field `bytes`, as Hugging Face's datasets write it. Without `id` the rows are
    numbered from 0. Other columns are not read.
    Raises UnreadableFile, UnsupportedFormat (no view), InvalidRequest (a view that is not there), TooLarge, MissingExtra.
    """
    with path.open("rb", buffering=0) as file:
        packed = os.fstat(file.fileno()).st_size
        ends.check_parquet(file.fileno(), packed)
        allowed = unpacked_limit(packed, FormatLimits(unpacked_bytes=limits.unpacked_bytes))
        with TableReader("parquet", file.fileno(), allowed) as reader:
            columns = _read_columns(reader)
            views = choose_views({name: _kind(name, kind) for name, kind in columns["views"].items()}, choice, limits)

            def read() -> Iterator[RawItem]:
                names = [view.name for view in views]
                for piece in reader.ask(read="items", id=columns["id"], names=names):
                    yield from _unpack(piece, views, has_id=columns["id"] is not None)

            yield RawItems(views, read, packed)


def _read_columns(reader: TableReader) -> dict[str, Any]:
    """What the other process says about the table: the name of the id's column, and the others with what they hold."""
    document = json.loads(b"".join(reader.ask(read="item-columns")))
    views = {str(name): str(kind) for name, kind in document["views"].items()}
    return {"id": document["id"], "views": views}


def _kind(name: str, held: str) -> ViewKind:
    """Bytes are pictures whatever their name is, and strings are none."""
    if held == "bytes":
        return "image"
    return "code" if kind_of(name) == "code" else "text"


def _unpack(piece: bytes, views: tuple[ViewHeader, ...], *, has_id: bool) -> Iterator[RawItem]:
    """The rows of a piece. The process has read a stranger's bytes: what it sends is not trusted either."""
    values = list(_split(piece))
    width = len(views) + has_id
    if len(values) % width:
        raise UnreadableFile("The rows of the table cannot be read.", value=f"{len(values)} values")
    for start in range(0, len(values), width):
        row = values[start : start + width]
        # A row without its id is not one of a table without ids.
        item = (_text(row.pop(0)) or "") if has_id else None
        cells = (value if view.kind == "image" else _text(value) for view, value in zip(views, row, strict=True))
        yield RawItem(item, tuple(cells))


def _split(piece: bytes) -> Iterator[bytes | None]:
    at = 0
    while at + LENGTH.size <= len(piece):
        (length,) = LENGTH.unpack_from(piece, at)
        at += LENGTH.size
        if length == MISSING:
            yield None
            continue
        yield piece[at : at + length]
        at += length
    if at != len(piece):
        raise UnreadableFile("The rows of the table cannot be read.", value=f"{len(piece)} bytes")


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "surrogateescape")
