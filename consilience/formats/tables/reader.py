"""Parquet and Arrow files: each column of lists is a layer; the columns `id` and `group` label the rows.

pyarrow is a large native library and the files are untrusted. It therefore runs in a sandboxed process that can only
read (`consilience.formats.sandbox`); only numbers and JSON come back, and they are checked here. This process never
imports pyarrow.

Before that process starts, the magic bytes and the footer at both ends of the file are checked. A response of the
process is any number of pieces, then an empty piece, then a JSON document: null, or the error that ended the response.
"""

import json
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np

from consilience import errors
from consilience.errors import ConsilienceError, MissingExtra, TooLarge, UnreadableFile
from consilience.formats.checks import check_limit, check_shape, combine_tensors, unpacked_limit
from consilience.formats.columns import parse_column
from consilience.formats.open_file import Array, FormatLimits, OpenFile, Tensor
from consilience.formats.sandbox import SandboxedProcess

PARQUET_MAGIC = b"PAR1"
ARROW_FILE_MAGIC = b"ARROW1"
#: First bytes of a message in a stream. (Streams from before Arrow 0.15 lack them and are not supported.)
ARROW_STREAM_MAGIC = b"\xff\xff\xff\xff"
#: Size limit of the metadata at the end of a file, which unpack to many times their size.
FOOTER_LIMIT_BYTES = 8 * 1024 * 1024
_STREAM_END = ARROW_STREAM_MAGIC + bytes(4)
_LENGTH_BYTES = 4


def check_parquet(descriptor: int, size: int) -> None:
    """Check the magic bytes at both ends and the footer's length. Raises UnreadableFile, TooLarge."""
    _check_magic("Parquet file", descriptor, size, PARQUET_MAGIC)


def check_arrow_file(descriptor: int, size: int) -> None:
    """Check an Arrow file in the same way as `check_parquet`."""
    _check_magic("Arrow file", descriptor, size, ARROW_FILE_MAGIC)


def check_arrow_stream(descriptor: int, size: int) -> None:
    """Check the first message and the end marker, without which a truncated stream would look complete."""
    if os.pread(descriptor, len(ARROW_STREAM_MAGIC), 0) != ARROW_STREAM_MAGIC:
        raise _missing_magic("Arrow stream", "start", os.pread(descriptor, 16, 0))
    tail = os.pread(descriptor, len(_STREAM_END), max(0, size - len(_STREAM_END)))
    if tail != _STREAM_END:
        raise _missing_magic("Arrow stream", "end", tail)


def _check_magic(what: str, descriptor: int, size: int, magic: bytes) -> None:
    head, tail = os.pread(descriptor, 16, 0), os.pread(descriptor, 16, max(0, size - 16))
    if not head.startswith(magic):
        raise _missing_magic(what, "start", head)
    if not tail.endswith(magic):
        raise _missing_magic(what, "end", tail)
    length = int.from_bytes(tail[: -len(magic)][-_LENGTH_BYTES:], "little")
    if length + len(magic) * 2 + _LENGTH_BYTES > size:
        raise UnreadableFile(
            f"The footer of the {what} claims {length} bytes, but the whole file has {size}.",
            value=f"{length} bytes expected, {size} found",
            hint="The file is truncated or damaged: write or send it again.",
        )
    if length > FOOTER_LIMIT_BYTES:
        raise TooLarge(
            f"The footer of the {what} has {length} bytes; the limit is {FOOTER_LIMIT_BYTES}.",
            value=length,
            limit=FOOTER_LIMIT_BYTES,
            hint="Write fewer, larger row groups or batches, and only the columns that hold embeddings.",
        )


def _missing_magic(what: str, end: str, found: bytes) -> UnreadableFile:
    return UnreadableFile(
        f"The file is not a complete {what}: the magic bytes at its {end} are missing.",
        value=found,
        hint="The file has another format, or is truncated or damaged: write or send it again.",
    )


_PROGRAM = "consilience.formats.tables.child"
_VARIABLES = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
_ERRORS: dict[str, type[ConsilienceError]] = {
    kind.code: kind
    for kind in (
        errors.BadItem,
        errors.InvalidRequest,
        errors.InvalidShape,
        errors.NonFiniteValues,
        errors.TooLarge,
        errors.UnknownView,
        errors.UnreadableFile,
        errors.UnsupportedDtype,
        errors.UnsupportedFormat,
    )
}


class TableReader:
    """Process that reads one table; starts at the first request and ends with the context.

    Parameters
    ----------
    kind : str
        ``parquet``, ``arrow-file`` or ``arrow-stream``.
    descriptor : int
        The open file.
    unpacked_limit : int
        Bytes that the file may hold once unpacked.
    """

    def __init__(self, kind: str, descriptor: int, unpacked_limit: int) -> None:
        self._arguments = (str(descriptor), kind, str(unpacked_limit))
        self._descriptor = descriptor
        self._process: SandboxedProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the process immediately."""
        if self._process is not None:
            process, self._process = self._process, None
            process.close()

    def request(self, **request: object) -> Generator[bytes, None, None]:
        """Send a request and yield the pieces of the response.

        Raises the error that the process found in the file, UnreadableFile if the file made the process crash, TooLarge if
        the process needed too much memory or time, Unavailable if it cannot be started, MissingExtra.
        """
        completed = False
        try:
            process = self._process = self._process or self._start()
            process.send(json.dumps(request).encode())
            while piece := process.receive():
                yield piece
            error = json.loads(process.receive())
            completed = True
        finally:
            if not completed:  # the rest of the response is not read; the next request starts a new process
                self.close()
        if error is not None:
            raise _rebuild_error(error)

    def _start(self) -> SandboxedProcess:
        if find_spec("pyarrow") is None:
            raise MissingExtra(
                "Reading Parquet and Arrow needs pyarrow, which is not installed.",
                value="pyarrow",
                hint="Run: pip install 'consilience[parquet]'.",
            )
        return SandboxedProcess.start(_PROGRAM, self._arguments, descriptors=(self._descriptor,), variables=_VARIABLES)


def _rebuild_error(document: dict[str, Any]) -> ConsilienceError:
    """Rebuild the error that the other process described."""
    kind = _ERRORS.get(document.pop("code"), UnreadableFile)
    return kind(document.pop("detail"), **document)


HEADER_LIMIT_BYTES = 1024 * 1024
_DTYPES: dict[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "F64": np.dtype("<f8")}


@contextmanager
def open_parquet(path: Path, limits: FormatLimits) -> Iterator[OpenFile]:
    """Open a Parquet file: each column of float lists of equal length is a layer; other columns are ignored.

    `id` or `ids` and `group` or `groups` (strings or integers) are the rows' ids and groups.
    Raises UnreadableFile, UnsupportedFormat, UnsupportedDtype, InvalidShape, TooFewRows, InvalidRequest (ids, groups),
    TooLarge, and MissingExtra if pyarrow is not installed.
    """
    with _open_table("parquet", check_parquet, path, limits) as file:
        yield file


@contextmanager
def open_arrow_file(path: Path, limits: FormatLimits) -> Iterator[OpenFile]:
    """Open an Arrow IPC file (also Feather version 2); otherwise as `open_parquet`."""
    with _open_table("arrow-file", check_arrow_file, path, limits) as file:
        yield file


@contextmanager
def open_arrow_stream(path: Path, limits: FormatLimits) -> Iterator[OpenFile]:
    """Open an Arrow IPC stream; otherwise as `open_parquet`."""
    with _open_table("arrow-stream", check_arrow_stream, path, limits) as file:
        yield file


@contextmanager
def _open_table(
    kind: str, check_ends: Callable[[int, int], None], path: Path, limits: FormatLimits
) -> Iterator[OpenFile]:
    with path.open("rb", buffering=0) as file:
        packed = os.fstat(file.fileno()).st_size
        check_ends(file.fileno(), packed)
        allowed = unpacked_limit(packed, limits)
        with TableReader(kind, file.fileno(), allowed) as reader:
            header = _Header.parse(_read_json(reader.request(read="header"), HEADER_LIMIT_BYTES, "The table's header"))
            bare = combine_tensors(_tensors(reader, header, allowed, limits), limits)
            largest = min(limits.column_bytes, allowed)
            ids, groups = (_read_column(reader, name, largest) for name in (header.ids, header.groups))
            yield bare.with_columns(ids, groups, (header.ids or "ids", header.groups or "groups"))


@dataclass(frozen=True)
class _Header:
    """The table's header as the other process describes it; untrusted, because the process has read untrusted bytes."""

    n: int
    layers: tuple[tuple[str, int, str], ...]
    """Name, dim, dtype."""
    ids: str | None
    """The column's name."""
    groups: str | None

    @classmethod
    def parse(cls, document: Any) -> "_Header":
        layers = tuple((str(layer["name"]), int(layer["dim"]), str(layer["dtype"])) for layer in document["layers"])
        return cls(int(document["n"]), layers, document["ids"], document["groups"])


def _tensors(reader: TableReader, header: _Header, allowed: int, limits: FormatLimits) -> list[Tensor]:
    check_limit("layers", len(header.layers), limits.layers)
    tensors = []
    for index, (name, dim, dtype) in enumerate(header.layers):
        shape = (header.n, dim)
        check_shape(shape, f"Column {name!a}")
        tensors.append(
            Tensor(name, shape, _DTYPES[dtype], partial(_read_rows, reader, index, header.n, dim, _DTYPES[dtype]))
        )
    _check_unpacked(sum(prod(tensor.shape) * tensor.dtype.itemsize for tensor in tensors), allowed)
    return tensors


def _check_unpacked(total: int, allowed: int) -> None:
    """Check the declared size before any value is unpacked; `_read_rows` checks that the file keeps to it."""
    if total > allowed:
        raise TooLarge(
            f"The table's vectors unpack to {total} bytes; the limit for a file of this size is {allowed}.",
            value=total,
            limit=allowed,
            hint="Check that the vectors are embeddings (few repeat so much), or write the file without compression.",
        )


def _read_rows(reader: TableReader, index: int, n: int, dim: int, dtype: np.dtype[Any]) -> Iterator[Array]:
    done = 0
    for piece in reader.request(read="layer", index=index):
        rows = np.frombuffer(piece, dtype).reshape(-1, dim)
        done += len(rows)
        if done > n:
            break
        yield rows
    if done != n:
        raise UnreadableFile(
            f"The table's header declares {n} rows, but the table has {'more' if done > n else done}.",
            value=f"{n} rows expected",
            hint="The file is damaged: write or send it again.",
        )


def _read_column(reader: TableReader, name: str | None, limit: int) -> tuple[str, ...] | None:
    if name is None:
        return None
    values: list[object] = []
    for piece in _bounded(reader.request(read="labels", name=name), limit, f"The column `{name}`"):
        values += json.loads(piece)
    return parse_column(values, name)


def _read_json(pieces: Iterator[bytes], limit: int, what: str) -> Any:
    return json.loads(b"".join(_bounded(pieces, limit, what)))


def _bounded(pieces: Iterator[bytes], limit: int, what: str) -> Iterator[bytes]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > limit:
            raise TooLarge(
                f"{what} has more than {limit} bytes, the limit.", value=f"more than {limit} bytes", limit=limit
            )
        yield piece
