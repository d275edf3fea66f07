"""What happened in the cache of graphs so far, and the lock under which its folder is changed."""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from consilience.stores import disk

_LAYOUT = struct.Struct("<QQQ")


@dataclass(frozen=True)
class Counts:
    """Since the folder was made, over all processes."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.hits + other.hits, self.misses + other.misses, self.evictions + other.evictions)


@dataclass(frozen=True)
class Books:
    """A file of three numbers."""

    path: Path

    def read(self) -> Counts:
        """The counts so far."""
        with suppress(OSError), self.path.open("rb", buffering=0) as file:
            return _read(file.fileno())
        return Counts()

    def add(self, more: Counts) -> None:
        """Enters what happened. Raises OSError."""
        with self.opened() as descriptor:
            add(descriptor, more)

    @contextmanager
    def opened(self) -> Iterator[int]:
        """The file, locked: nobody else changes the counts or what is kept. Raises OSError."""
        disk.make_folder(self.path.parent)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def add(descriptor: int, more: Counts) -> None:
    """Enters what happened into the locked file: in one call, so that whoever dies at it leaves the old or the new counts."""
    counts = _read(descriptor) + more
    os.pwrite(descriptor, _LAYOUT.pack(counts.hits, counts.misses, counts.evictions), 0)


def _read(descriptor: int) -> Counts:
    raw = os.pread(descriptor, _LAYOUT.size, 0)
    return Counts(*_LAYOUT.unpack(raw)) if len(raw) == _LAYOUT.size else Counts()
