"""Rows that a model has made so far: kept block by block, so that a run which died is gone on with.

extracting/IDENTITY   one line of JSON that says what is being made, then blocks

A block is a head (rows, how many of their items were cut short, CRC-32 of what follows), the largest magnitude of each
layer, and the rows of one layer after the other in float32. It counts once it is whole: whatever is behind the last whole
block is cut off. How exact the rows have to be kept is known at the end alone, so nothing is rounded before.
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
#: float16 ends here; below the second a layer's numbers would lose digits.
F16_MAX, F16_NORMAL = 65504.0, 2.0**-14
#: A description is no longer.
LINE_MAX = 2**20


class Partials:
    """The folder of sets that are being made. Safe from several processes at once."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "extracting"

    @contextmanager
    def claim(self, identity: str, wait: Callable[[], None]) -> Iterator["Claim"]:
        """The one file of this identity, as a run that died may have left it. `wait` is called while another run has it.

        It is gone afterwards if the block succeeds, the disk is full, or no rows are in it; otherwise it stays for the
        next try.

        Raises
        ------
        StorageFull, Unavailable
        """
        path = self._folder / identity
        with files.storage_faults():
            descriptor = _lock(path, wait)
        claim = Claim(descriptor)
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
        """Removes what no run has written to for so long; how many."""
        with files.storage_faults():
            return sum(_remove_stale(path, older_than_s) for path in self._paths())

    def _paths(self) -> Iterator[Path]:
        if self._folder.exists():
            yield from (path for path in self._folder.iterdir() if _IDENTITY.fullmatch(path.name))


class Claim:
    """A file of rows that this process alone may write."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rows: PartialRows | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the file holds no rows, as far as anyone looked."""
        return self._rows.done == 0 if self._rows else os.fstat(self._descriptor).st_size == 0

    def open(self, what: Mapping[str, Any], n: int, layers: Sequence[tuple[str, int]]) -> "PartialRows":
        """The rows so far, if they are of this: the same `what`, n items and layers (name, dim); none otherwise."""
        line = (
            json.dumps({**what, "n": n, "layers": [list(layer) for layer in layers]}, sort_keys=True).encode() + b"\n"
        )
        with files.storage_faults():
            if os.pread(self._descriptor, LINE_MAX, 0)[: len(line)] != line:
                os.ftruncate(self._descriptor, 0)
                files.write_all_at(self._descriptor, line, 0)
            rows = PartialRows(self._descriptor, n, tuple(layers), len(line))
            rows.recover()
        self._rows = rows
        return rows


@dataclass
class PartialRows:
    """Rows of some layers over n items, of which the first `done` are there."""

    descriptor: int
    n: int
    dims: tuple[tuple[str, int], ...]
    start: int
    """Where the first block begins in the file."""
    done: int = 0
    truncated: int = 0
    """Items of these that were longer than the model reads."""
    _end: int = 0
    _sizes: list[int] = field(default_factory=list)
    _peaks: Array = field(default_factory=lambda: np.zeros(0, np.float32))

    def append(self, rows: Sequence[Array], truncated: int = 0) -> None:
        """The next items' rows of each layer, float32; on the disk when this returns. Raises StorageFull, Unavailable."""
        peaks = np.array([np.abs(each).max() for each in rows], np.float32)
        payload = b"".join([peaks.tobytes(), *(np.ascontiguousarray(each, "<f4").tobytes() for each in rows)])
        block = _HEAD.pack(len(rows[0]), truncated, zlib.crc32(payload)) + payload
        with files.storage_faults():
            files.write_all_at(self.descriptor, block, self._end)
            os.fsync(self.descriptor)
        self._take(len(rows[0]), truncated, peaks)

    def recover(self) -> None:
        """Find the blocks that are whole, and cut off what follows them."""
        self._end, self._peaks = self.start, np.zeros(len(self.dims), np.float32)
        size = os.fstat(self.descriptor).st_size
        while self.done < self.n and (found := self._read_block(self._end, size)):
            self._take(*found)
        os.ftruncate(self.descriptor, self._end)

    @property
    def layers(self) -> tuple[LayerHeader, ...]:
        """What the layers will be kept as."""
        return tuple(
            LayerHeader(name, self.n, dim, dtype) for (name, dim), dtype in zip(self.dims, self.dtypes, strict=True)
        )

    @property
    def dtypes(self) -> tuple[LayerDtype, ...]:
        """float16, or float32 for a layer whose largest number float16 cannot hold with all its digits."""
        return tuple("F16" if peak == 0.0 or F16_NORMAL <= peak <= F16_MAX else "F32" for peak in self._peaks.tolist())

    @property
    def kept_bytes(self) -> int:
        """Bytes of the layers as they will be kept."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def peaks(self) -> dict[str, float]:
        """The largest magnitude of each layer."""
        return {name: float(peak) for (name, _), peak in zip(self.dims, self._peaks, strict=True)}

    def blocks(self) -> Iterator[tuple[int, Array]]:
        """As of an uploaded file: each layer's rows in order, as (index into `layers`, rows (b, dim))."""
        place = self.start
        for count in self._sizes:
            at = place + _HEAD.size + 4 * len(self.dims)
            for index, ((_, dim), dtype) in enumerate(zip(self.dims, self.dtypes, strict=True)):
                rows = np.empty((count, dim), "<f4")
                with files.storage_faults():
                    fill_at(self.descriptor, 0)(rows.view(np.uint8).reshape(-1).data, at)
                at += rows.nbytes
                yield index, rows.astype(NUMPY_DTYPES[dtype], copy=False)
            place += self._block_bytes(count)

    def _read_block(self, at: int, size: int) -> tuple[int, int, Array] | None:
        """Rows, cut items and peaks of the block here; None where there is none, or not a whole one."""
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

    def _take(self, count: int, truncated: int, peaks: Array) -> None:
        self._sizes.append(count)
        self._end += self._block_bytes(count)
        self.done += count
        self.truncated += truncated
        self._peaks = np.maximum(self._peaks, peaks)

    def _block_bytes(self, count: int) -> int:
        return _HEAD.size + 4 * len(self.dims) + 4 * count * sum(dim for _, dim in self.dims)


def _lock(path: Path, wait: Callable[[], None]) -> int:
    """The file, new or as it was left, for this process alone; the kernel frees it where the process dies."""
    while True:
        files.make_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not files.try_lock(descriptor):
                wait()
        except BaseException:
            os.close(descriptor)
            raise
        if files.stands_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # whoever had it was done with it, and has removed it


def _remove_stale(path: Path, age_s: float) -> bool:
    """Removes a file that nobody has open for writing and nobody wrote to for so long; whether it did."""
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            stale = time.time() - os.fstat(descriptor).st_mtime >= age_s
            if stale and files.try_lock(descriptor) and files.stands_at(descriptor, path):
                path.unlink()
                return True
        finally:
            os.close(descriptor)
    return False
