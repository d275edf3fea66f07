"""Requests about one table and the responses to them, in the sandboxed process.

The other end is `consilience.formats.tables.reader.TableReader`.
"""

import json
import mmap
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from consilience.errors import ConsilienceError, TooLarge, UnreadableFile
from consilience.formats.sandbox import PIECE_LIMIT_BYTES, release_pages
from consilience.formats.tables.arrow import (
    ArrowFile,
    ArrowStream,
    ParquetTable,
    Table,
    choose_layout,
    describe_header,
    read_labels,
    read_vectors,
)
from consilience.formats.tables.items import describe_columns, read_items

REQUEST_LIMIT_BYTES = 65_536
_TABLES: dict[str, Callable[[mmap.mmap, int], Table]] = {
    "parquet": ParquetTable,
    "arrow-file": ArrowFile,
    "arrow-stream": ArrowStream,
}

Piece = bytes | memoryview


def serve_requests(channel: Connection, kind: str, data: mmap.mmap, unpacked_limit: int) -> None:
    """Serve requests until the other end closes the channel."""
    reader = ChildTableReader(kind, data, unpacked_limit)
    with suppress(EOFError, ConnectionError):
        while request := channel.recv_bytes(REQUEST_LIMIT_BYTES):
            _send(channel, reader.respond(json.loads(request)))


class ChildTableReader:
    """Reader of one table that responds to requests.

    Parameters
    ----------
    kind : str
        ``parquet``, ``arrow-file`` or ``arrow-stream``.
    data : mmap
        The file.
    unpacked_limit : int
        Number of bytes that the file may unpack to.
    """

    def __init__(self, kind: str, data: mmap.mmap, unpacked_limit: int) -> None:
        self._kind, self._data, self._unpacked_limit = kind, data, unpacked_limit
        self._opened: Table | None = None

    def respond(self, request: dict[str, Any]) -> Iterator[Piece]:
        """Yield the response piece by piece; memory mapped for one piece is released before the next."""
        for piece in self._read(request):
            yield piece
            release_pages(self._data)

    def _read(self, request: dict[str, Any]) -> Iterator[Piece]:
        # Opened here and not earlier, so that an error in the file becomes part of the response.
        table = self._opened = self._opened or _TABLES[self._kind](self._data, self._unpacked_limit)
        match request:
            case {"read": "item-columns"}:
                yield json.dumps(describe_columns(table.schema)).encode()
            case {"read": "items", "id": str() | None as name, "names": list(names)}:
                yield from read_items(table, name, names)
            case _:
                yield from self._read_layers(table, request)

    def _read_layers(self, table: Table, request: dict[str, Any]) -> Iterator[Piece]:
        layout = choose_layout(table.schema)
        match request:
            case {"read": "header"}:
                yield json.dumps(describe_header(table, layout)).encode()
            case {"read": "layer", "index": int(index)}:
                yield from read_vectors(table, layout.layers[index])
            case {"read": "labels", "name": str(name)}:
                yield from read_labels(table, table.schema.get_field_index(name))


def _send(channel: Connection, pieces: Iterator[Piece]) -> None:
    error = None
    try:
        for piece in pieces:
            _check_size(piece)
            channel.send_bytes(piece)
    except ConnectionError:  # the other end is closed: the caller ends this process
        raise
    except Exception as caught:  # noqa: BLE001 - of pyarrow, which raises a dozen unrelated classes on damaged bytes
        error = _describe(caught)
    channel.send_bytes(b"")
    channel.send_bytes(json.dumps(error).encode())


def _check_size(piece: Piece) -> None:
    if len(piece) > PIECE_LIMIT_BYTES:
        raise TooLarge(
            f"A row of the table has {len(piece)} bytes; the limit is {PIECE_LIMIT_BYTES}.",
            value=f"{len(piece)} bytes",
            limit=PIECE_LIMIT_BYTES,
        )


def _describe(error: Exception) -> dict[str, Any]:
    if isinstance(error, MemoryError):
        error = TooLarge(
            "Reading the table needs more memory than is allowed for a file of this size.",
            hint="Write smaller row groups or batches (some thousand rows each), or write the file without compression.",
        )
    if not isinstance(error, ConsilienceError):
        reason = str(error).partition("\n")[0]
        error = UnreadableFile(
            "The table cannot be read.", value=reason, hint="The file is damaged: write or send it again."
        )
    fields = ("code", "detail", "value", "limit", "hint", "pointer")
    return {field: getattr(error, field) for field in fields}
