"""Openers of files with dataset items, for every format; `open_items` is the entry point.

A Parquet file is read by a sandboxed process: each row is an item, and the columns of strings and images are its views.
"""

import json
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from consilience.contract.datasets import ViewKind
from consilience.errors import UnreadableFile, UnsupportedFormat
from consilience.formats.checks import unpacked_limit
from consilience.formats.items import archives
from consilience.formats.items.archives import open_archive
from consilience.formats.items.checks import check_items
from consilience.formats.items.item import (
    ItemLimits,
    OpenItems,
    RawItem,
    RawItems,
    ViewChoice,
    ViewHeader,
    choose_views,
    kind_by_name,
)
from consilience.formats.items.lines import open_jsonl
from consilience.formats.open_file import FormatLimits
from consilience.formats.tables import reader
from consilience.formats.tables import reader as ends
from consilience.formats.tables.reader import TableReader

HEADER_LIMIT_BYTES = 2**20
#: Length prefix of each value in a piece of rows, and its value for a missing one.
LENGTH = struct.Struct("<I")
MISSING = 2**32 - 1


@contextmanager
def open_parquet_items(path: Path, choice: ViewChoice, limits: ItemLimits) -> Iterator[RawItems]:
    """Open a Parquet file: string columns are views of text or code by their names, byte columns are image views.

    An image may also be a struct with the field `bytes`, as Hugging Face's datasets write it. The column `id` has the ids;
    without it the rows are numbered from 0. Other columns are ignored.
    Raises UnreadableFile, UnsupportedFormat (no view), InvalidRequest (a view that does not exist), TooLarge, MissingExtra.
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
                for piece in reader.request(read="items", id=columns["id"], names=names):
                    yield from _unpack(piece, views, has_id=columns["id"] is not None)

            yield RawItems(views, read, packed)


def _read_columns(reader: TableReader) -> dict[str, Any]:
    """Ask the process for the id column's name, and for the other columns with their content types."""
    document = json.loads(b"".join(reader.request(read="item-columns")))
    views = {str(name): str(kind) for name, kind in document["views"].items()}
    return {"id": document["id"], "views": views}


def _kind(name: str, held: str) -> ViewKind:
    """Return the kind of a view: byte columns are always images, string columns never are."""
    if held == "bytes":
        return "image"
    return "code" if kind_by_name(name) == "code" else "text"


def _unpack(piece: bytes, views: tuple[ViewHeader, ...], *, has_id: bool) -> Iterator[RawItem]:
    """Yield the rows of a piece, which is untrusted because the process has read untrusted bytes."""
    values = list(_split(piece))
    width = len(views) + has_id
    if len(values) % width:
        raise UnreadableFile("The process that reads the table returned invalid rows.", value=f"{len(values)} values")
    for start in range(0, len(values), width):
        row = values[start : start + width]
        # An empty id marks a row without its id in a table that has an id column.
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
        raise UnreadableFile("The process that reads the table returned invalid rows.", value=f"{len(piece)} bytes")


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "surrogateescape")


#: The media types of uploads and the format that each names.
MEDIA_TYPES: dict[str, str] = {
    "application/jsonl": "jsonl",
    "application/x-ndjson": "jsonl",
    "application/vnd.apache.parquet": "parquet",
    "application/zip": "zip",
    "application/x-tar": "tar",
}
#: Generic media type: the format is detected by the first bytes.
UNNAMED_MEDIA_TYPE = "application/octet-stream"

_Opener = Callable[[Path, ViewChoice, ItemLimits], AbstractContextManager[RawItems]]
_OPENERS: dict[str, _Opener] = {
    "jsonl": open_jsonl,
    "parquet": open_parquet_items,
    "zip": partial(open_archive, archives.open_zip),
    "tar": partial(open_archive, archives.open_tar),
}


@contextmanager
def open_items(
    path: Path, media_type: str | None, choice: ViewChoice = None, limits: ItemLimits | None = None
) -> Iterator[OpenItems]:
    """Open the items of a file; for None or application/octet-stream the format is detected by the bytes.

    Parameters
    ----------
    path : Path
    media_type : str or None
        One of MEDIA_TYPES.
    choice : mapping, optional
        The views to read, by name, with their kinds; by default from the file's names and types.
    limits : ItemLimits, optional

    Raises
    ------
    UnsupportedFormat, UnreadableFile, InvalidRequest, TooLarge, MissingExtra
        An error of the file, when it is opened. Errors of the items, BadItem too, are raised when they are read.
    """
    limits = limits or ItemLimits()
    name = detect_format(path) if media_type in (None, UNNAMED_MEDIA_TYPE) else MEDIA_TYPES.get(media_type)
    if name is None:
        raise UnsupportedFormat(
            f"The media type {str(media_type)[:100]!a} is not supported for datasets.",
            value=media_type,
            limit=[*MEDIA_TYPES, UNNAMED_MEDIA_TYPE],
            hint=f"Send one of {', '.join(MEDIA_TYPES)} as Content-Type.",
        )
    with _OPENERS[name](path, choice, limits) as raw:
        yield check_items(raw, limits)


def detect_format(path: Path) -> str:
    """Return the format's name by the first bytes. Raises UnreadableFile (empty), UnsupportedFormat."""
    with path.open("rb") as file:
        head = file.read(archives.BLOCK)
    if not head:
        raise UnreadableFile("The file is empty.", value="0 bytes")
    if head.startswith(reader.PARQUET_MAGIC):
        return "parquet"
    if head.startswith(archives.ZIP_MAGIC):
        return "zip"
    if head[archives.TAR_MAGIC_AT :].startswith(archives.TAR_MAGIC):
        return "tar"
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        return "jsonl"
    raise UnsupportedFormat(
        "The file has none of the supported formats: JSON lines, Parquet, zip, tar.",
        value=head[:16],
        hint="Send one JSON object per line, or images in a zip or an uncompressed tar with a manifest.jsonl.",
    )
