"""Parquet and Arrow: each column of lists is a layer; the columns `id` and `group` say which item each row is.

Their reader is a large native library, and the files come from strangers: it runs in a process of its own, which may
do nothing but read (`confinement`), and only numbers and JSON come out of it, to be checked here. Nothing in this
process imports pyarrow.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from consilience.errors import TooLarge, UnreadableFile
from consilience.formats.columns import parse_column
from consilience.formats.gate import check_limit, check_shape, gather, unpacked_limit
from consilience.formats.matrices import Array, FormatLimits, OpenFile, Tensor
from consilience.formats.tables import ends
from consilience.formats.tables.exchange import TableReader

HEADER_LIMIT_BYTES = 1024 * 1024
_DTYPES: dict[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "F64": np.dtype("<f8")}


@contextmanager
def open_parquet(path: Path, limits: FormatLimits) -> Iterator[OpenFile]:
    """Each column of lists of floats, all of one length, is a layer of its name; other columns are not read.

    `id` or `ids` and `group` or `groups` (strings or integers) are the rows' ids and groups.
    Raises UnreadableFile, UnsupportedFormat, UnsupportedDtype, InvalidShape, TooFewRows, InvalidRequest (ids, groups),
    TooLarge, and MissingExtra where pyarrow is not installed.
    """
    with _open_table("parquet", ends.check_parquet, path, limits) as file:
        yield file


@contextmanager
def open_arrow_file(path: Path, limits: FormatLimits) -> Iterator[OpenFile]:
    """An Arrow IPC file, which is also Feather version 2; otherwise as `open_parquet`."""
    with _open_table("arrow-file", ends.check_arrow_file, path, limits) as file:
        yield file


@contextmanager
def open_arrow_stream(path: Path, limits: FormatLimits) -> Iterator[OpenFile]:
    """An Arrow IPC stream; otherwise as `open_parquet`."""
    with _open_table("arrow-stream", ends.check_arrow_stream, path, limits) as file:
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
            header = _Header.parse(_read_json(reader.ask(read="header"), HEADER_LIMIT_BYTES, "The table's header"))
            bare = gather(_tensors(reader, header, allowed, limits), limits)
            largest = min(limits.column_bytes, allowed)
            ids, groups = (_read_column(reader, name, largest) for name in (header.ids, header.groups))
            yield bare.with_columns(ids, groups, (header.ids or "ids", header.groups or "groups"))


@dataclass(frozen=True)
class _Header:
    """What the other process says about the table. It has read a stranger's bytes, so this is not trusted either."""

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
    """Before a value is unpacked; that there are no more than the header says is seen while they are read."""
    if total > allowed:
        raise TooLarge(
            f"The table's vectors unpack to {total} bytes, a file of this size may unpack to {allowed}.",
            value=total,
            limit=allowed,
            hint="Vectors that repeat so much are no embeddings; or write the file without compression.",
        )


def _read_rows(reader: TableReader, index: int, n: int, dim: int, dtype: np.dtype[Any]) -> Iterator[Array]:
    done = 0
    for piece in reader.ask(read="layer", index=index):
        rows = np.frombuffer(piece, dtype).reshape(-1, dim)
        done += len(rows)
        if done > n:
            break
        yield rows
    if done != n:
        raise UnreadableFile(
            f"The table should have {n} rows by its header and has {'more' if done > n else done}.",
            value=f"{n} rows expected",
            hint="The file is damaged: write or send it again.",
        )


def _read_column(reader: TableReader, name: str | None, limit: int) -> tuple[str, ...] | None:
    if name is None:
        return None
    values: list[object] = []
    for piece in _bounded(reader.ask(read="labels", name=name), limit, f"The column `{name}`"):
        values += json.loads(piece)
    return parse_column(values, name)


def _read_json(pieces: Iterator[bytes], limit: int, what: str) -> Any:
    return json.loads(b"".join(_bounded(pieces, limit, what)))


def _bounded(pieces: Iterator[bytes], limit: int, what: str) -> Iterator[bytes]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > limit:
            raise TooLarge(f"{what} has more than {limit} bytes.", value=f"more than {limit} bytes", limit=limit)
        yield piece
