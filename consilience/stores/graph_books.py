"""What happened in the cache of graphs so far, what it takes, and the lock under which its folder is changed."""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path

from consilience.stores import disk

_LAYOUT = struct.Struct("<QQQQ")
#: Of books that nobody has kept, or that are damaged: more than any limit, so that somebody looks.
UNKNOWN_BYTES = 2**62


@dataclass(frozen=True)
class Counts:
    """Since the folder was made, over all processes.

    Attributes
    ----------
    bytes : what the graphs took when they were last looked at, and all that came since; not less than what they take, so that
        nobody need look at thousands of files to keep one more
    """

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    bytes: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Books:
    """A file of four numbers."""

    path: Path

    def read(self) -> Counts:
        """The counts so far."""
        with suppress(OSError), self.path.open("rb", buffering=0) as file:
            return read(file.fileno())
        return Counts(bytes=UNKNOWN_BYTES)

    def add(self, more: Counts) -> None:
        """Enters what happened. Raises OSError."""
        with self.opened() as descriptor:
            write(descriptor, read(descriptor) + more)

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


def read(descriptor: int) -> Counts:
    """The counts of an open file."""
    raw = os.pread(descriptor, _LAYOUT.size, 0)
    return Counts(*_LAYOUT.unpack(raw)) if len(raw) == _LAYOUT.size else Counts(bytes=UNKNOWN_BYTES)


def write(descriptor: int, counts: Counts) -> None:
    """Write the locked file: in one call, so that whoever dies at it leaves the old or the new counts."""
    os.pwrite(descriptor, _LAYOUT.pack(*astuple(counts)), 0)
