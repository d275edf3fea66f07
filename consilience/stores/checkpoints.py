"""Checkpoints of extractions: rows are stored block by block, so that an interrupted extraction resumes.

extracting/IDENTITY   one line of JSON that describes the extraction, then blocks

A block is a head (number of rows, number of truncated items, CRC-32 of the rest), the largest magnitude of each layer, and
the float32 rows of one layer after the other. Incomplete blocks at the end of the file are cut off. The dtype of a layer
depends on all its rows, so nothing is rounded before the end.
"""

import json
import os
import re
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from consilience.contract.embeddings import LayerDtype
from consilience.errors import StorageFull
from consilience.formats.open_file import NUMPY_DTYPES, Array, LayerHeader
from consilience.formats.reading import fill_at
from consilience.stores import files

_HEAD = struct.Struct("<III")
_IDENTITY = re.compile("[0-9a-f]{64}")
#: Largest float16, and the smallest one with full precision.
F16_MAX, F16_NORMAL = 65504.0, 2.0**-14
#: Maximum length of the description line in bytes.
LINE_MAX = 2**20


class CheckpointStore:
    """Folder of checkpoints. Several processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "extracting"

    @contextmanager
    def claim(self, identity: str, wait: Callable[[], None]) -> Iterator["CheckpointClaim"]:
        """Open and lock the checkpoint of this identity. `wait` is called while another run holds it.

        Afterwards the file is deleted if the block succeeded, the disk is full, or it holds no rows; otherwise the next
        run resumes from it.

        Raises
        ------
        StorageFull, Unavailable
        """
        path = self._folder / identity
        with files.translate_storage_errors():
            descriptor = _lock(path, wait)
        claim = CheckpointClaim(descriptor)
        try:
            yield claim
        except BaseException as error:
            if isinstance(error, StorageFull) or claim.is_empty:
                files.discard(descriptor, path)
            raise
        else:
            files.discard(descriptor, path)
        finally:
            os.close(descriptor)

    def sweep(self, older_than_s: float) -> int:
        """Delete checkpoints that no run has written to for this many seconds. Return their number."""
        with files.translate_storage_errors():
            return sum(_remove_stale(path, older_than_s) for path in self._paths())

    def _paths(self) -> Iterator[Path]:
        if self._folder.exists():
            yield from (path for path in self._folder.iterdir() if _IDENTITY.fullmatch(path.name))


class CheckpointClaim:
    """Locked checkpoint file that only this process may write to."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rows: Checkpoint | None = None

    @property
    def is_empty(self) -> bool:
        """True if the file holds no rows."""
        return self._rows.done == 0 if self._rows else os.fstat(self._descriptor).st_size == 0

    def open(self, description: Mapping[str, Any], n: int, layers: Sequence[tuple[str, int]]) -> "Checkpoint":
        """Open the rows so far. Start from zero rows if the file is of another `description`, number of items or layers."""
        line = (
            json.dumps({**description, "n": n, "layers": [list(layer) for layer in layers]}, sort_keys=True).encode()
            + b"\n"
        )
        with files.translate_storage_errors():
            if os.pread(self._descriptor, LINE_MAX, 0)[: len(line)] != line:
                os.ftruncate(self._descriptor, 0)
                files.write_all_at(self._descriptor, line, 0)
            rows = Checkpoint(self._descriptor, n, tuple(layers), len(line))
            rows.recover()
        self._rows = rows
        return rows


@dataclass
class Checkpoint:
    """Rows of some layers for n items, of which the first `done` are complete."""

    descriptor: int
    n: int
    dims: tuple[tuple[str, int], ...]
    start: int
    """Offset of the first block in the file."""
    done: int = 0
    truncated: int = 0
    """Number of these items that were longer than the maximum input of the model."""
    _end: int = 0
    _sizes: list[int] = field(default_factory=list)
    _peaks: Array = field(default_factory=lambda: np.zeros(0, np.float32))

    def append(self, rows: Sequence[Array], truncated: int = 0) -> None:
        """Append the float32 rows of the next items, per layer, and flush them to the disk. Raise StorageFull, Unavailable."""
        peaks = np.array([np.abs(each).max() for each in rows], np.float32)
        payload = b"".join([peaks.tobytes(), *(np.ascontiguousarray(each, "<f4").tobytes() for each in rows)])
        block = _HEAD.pack(len(rows[0]), truncated, zlib.crc32(payload)) + payload
        with files.translate_storage_errors():
            files.write_all_at(self.descriptor, block, self._end)
            os.fsync(self.descriptor)
        self._count_block(len(rows[0]), truncated, peaks)

    def recover(self) -> None:
        """Find the complete blocks and truncate the file after them."""
        self._end, self._peaks = self.start, np.zeros(len(self.dims), np.float32)
        size = os.fstat(self.descriptor).st_size
        while self.done < self.n and (found := self._read_block(self._end, size)):
            self._count_block(*found)
        os.ftruncate(self.descriptor, self._end)

    @property
    def layers(self) -> tuple[LayerHeader, ...]:
        """Headers of the layers as they will be stored."""
        return tuple(
            LayerHeader(name, self.n, dim, dtype) for (name, dim), dtype in zip(self.dims, self.dtypes, strict=True)
        )

    @property
    def dtypes(self) -> tuple[LayerDtype, ...]:
        """Dtypes of the layers: float16, or float32 if float16 cannot represent the largest value with full precision."""
        return tuple("F16" if peak == 0.0 or F16_NORMAL <= peak <= F16_MAX else "F32" for peak in self._peaks.tolist())

    @property
    def kept_bytes(self) -> int:
        """Size of the layers as they will be stored, in bytes."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def peaks(self) -> dict[str, float]:
        """Largest magnitude of each layer."""
        return {name: float(peak) for (name, _), peak in zip(self.dims, self._peaks, strict=True)}

    def blocks(self) -> Iterator[tuple[int, Array]]:
        """Iterate over the rows of each layer in order, as (index into `layers`, rows (b, dim)), as an uploaded file does."""
        offset = self.start
        for count in self._sizes:
            at = offset + _HEAD.size + 4 * len(self.dims)
            for index, ((_, dim), dtype) in enumerate(zip(self.dims, self.dtypes, strict=True)):
                rows = np.empty((count, dim), "<f4")
                with files.translate_storage_errors():
                    fill_at(self.descriptor, 0)(rows.view(np.uint8).reshape(-1).data, at)
                at += rows.nbytes
                yield index, rows.astype(NUMPY_DTYPES[dtype], copy=False)
            offset += self._block_bytes(count)

    def _read_block(self, at: int, size: int) -> tuple[int, int, Array] | None:
        """Return rows, truncated items and peaks of the block at offset `at`, or None if it is incomplete."""
        head = os.pread(self.descriptor, _HEAD.size, at)
        if len(head) < _HEAD.size:
            return None
        count, truncated, checksum = _HEAD.unpack(head)
        if not 0 < count <= self.n - self.done or at + self._block_bytes(count) > size:
            return None
        payload = bytearray(self._block_bytes(count) - _HEAD.size)
        fill_at(self.descriptor, 0)(memoryview(payload), at + _HEAD.size)
        if zlib.crc32(payload) != checksum:
            return None
        return count, truncated, np.frombuffer(payload, "<f4", len(self.dims)).copy()

    def _count_block(self, count: int, truncated: int, peaks: Array) -> None:
        self._sizes.append(count)
        self._end += self._block_bytes(count)
        self.done += count
        self.truncated += truncated
        self._peaks = np.maximum(self._peaks, peaks)

    def _block_bytes(self, count: int) -> int:
        return _HEAD.size + 4 * len(self.dims) + 4 * count * sum(dim for _, dim in self.dims)


def _lock(path: Path, wait: Callable[[], None]) -> int:
    """Open and lock a file, new or existing. The kernel releases the lock if this process dies."""
    while True:
        files.make_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not files.try_lock(descriptor):
                wait()
        except BaseException:
            os.close(descriptor)
            raise
        if files.is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # the previous owner has deleted the file


def _remove_stale(path: Path, age_s: float) -> bool:
    """Delete an unlocked file that was not written to for `age_s` seconds. Return True if it was deleted."""
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            stale = time.time() - os.fstat(descriptor).st_mtime >= age_s
            if stale and files.try_lock(descriptor) and files.is_at(descriptor, path):
                path.unlink()
                return True
        finally:
            os.close(descriptor)
    return False
