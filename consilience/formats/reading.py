"""Reading of rows from bytes, block by block, and digests of stored content.

Files are not memory-mapped, so that resident memory stays small for files of any size. Digests depend only on the content,
so that equal content has the same digest everywhere.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from math import prod
from typing import Any, Protocol

import numpy as np

from consilience.contract.embeddings import LayerDtype
from consilience.errors import UnreadableFile
from consilience.formats.open_file import BLOCK_BYTES, Array


def start_hash(n: int, dim: int, dtype: LayerDtype) -> "hashlib._Hash":
    """Return the hash of a layer's header line, to be updated with its rows."""
    return hashlib.sha256(canonical_json({"dtype": dtype, "shape": [n, dim]}) + b"\n")


def canonical_json(value: object) -> bytes:
    """Return canonical JSON, the form that digests are computed from."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


#: Fills a buffer with the bytes of a tensor from a position on.
Fill = Callable[[memoryview, int], None]


class Stream(Protocol):
    """A source of bytes in order."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""


def fill_at(descriptor: int, offset: int) -> Fill:
    """Return a Fill for an open file whose tensor starts at `offset`; for any order of positions, and thread-safe."""

    def fill(buffer: memoryview, position: int) -> None:
        done = 0
        while done < len(buffer):
            count = os.preadv(descriptor, [buffer[done:]], offset + position + done)
            if count == 0:
                raise _truncated(len(buffer) - done)
            done += count

    return fill


def fill_from(stream: Stream, piece_bytes: int) -> Fill:
    """Return a Fill for a stream; its positions must be read in order."""

    def fill(buffer: memoryview, _position: int) -> None:
        done = 0
        while done < len(buffer):
            piece = stream.read(min(piece_bytes, len(buffer) - done))
            if not piece:
                raise _truncated(len(buffer) - done)
            buffer[done : done + len(piece)] = piece
            done += len(piece)

    return fill


def read_rows(fill: Fill, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[Array]:
    """Yield blocks of whole rows of a C-order array."""
    row_bytes = prod(shape[1:]) * dtype.itemsize
    for start, stop in _spans(shape[0], row_bytes):
        raw = np.empty((stop - start) * row_bytes, np.uint8)
        fill(raw.data, start * row_bytes)
        yield raw.view(dtype).reshape(stop - start, *shape[1:])


def read_columns(fill: Fill, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[Array]:
    """Yield blocks of whole rows of a Fortran-order array; each block is gathered from every column."""
    width = prod(shape[1:])
    for start, stop in _spans(shape[0], width * dtype.itemsize):
        raw = np.empty((width, (stop - start) * dtype.itemsize), np.uint8)
        for column in range(width):
            fill(raw[column].data, (column * shape[0] + start) * dtype.itemsize)
        # In Fortran order the first of the remaining axes runs fastest: reversing all axes gives (rows, ...).
        yield raw.view(dtype).reshape(*reversed(shape[1:]), stop - start).T


def _spans(n: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    step = max(1, BLOCK_BYTES // row_bytes)
    return ((start, min(n, start + step)) for start in range(0, n, step))


def _truncated(missing: int) -> UnreadableFile:
    return UnreadableFile(
        f"The file ends {missing} bytes too early.",
        hint="The file changed while it was read, or is damaged: send it again.",
    )
