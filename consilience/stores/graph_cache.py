"""Cache of neighbour graphs on disk: shared by all processes, bounded in size, least recently used first out.

graphs/12/123456...        a graph: a checksum, then its bytes; the modification time is that of its last use
graphs/drafts/123456...    a graph that is being built; its builder holds a lock on the file
graphs/counters            hits, misses, evictions and bytes so far; locked while the cache is changed
facts/                     a cache of small facts about layers, in the same format
matrices/                  a cache of matrices of layers that are used often, in the same format

The cache is optional: if a file cannot be read, written or locked, the graph is built, and no error of the disk is raised.
"""

import fcntl
import hashlib
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from consilience.contract.info import GraphCache
from consilience.stores import files

_LAYOUT = struct.Struct("<QQQQ")
#: Size that missing or damaged counters report: larger than any limit, so that the files are counted again.
UNKNOWN_SIZE = 2**62


@dataclass(frozen=True)
class CacheCounts:
    """Counters since the folder was created, over all processes.

    Attributes
    ----------
    bytes : upper bound of the size of the graphs: their size when they were last counted, plus all that were added since.
        So adding a graph does not need to count thousands of files
    """

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    bytes: int = 0

    def __add__(self, other: "CacheCounts") -> "CacheCounts":
        return CacheCounts(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class CacheCounters:
    """File with the four counters."""

    path: Path

    def read(self) -> CacheCounts:
        """Return the counters so far."""
        with suppress(OSError), self.path.open("rb", buffering=0) as file:
            return read_counts(file.fileno())
        return CacheCounts(bytes=UNKNOWN_SIZE)

    def add(self, more: CacheCounts) -> None:
        """Add to the counters. Raise OSError if the file cannot be written."""
        with self.lock() as descriptor:
            write_counts(descriptor, read_counts(descriptor) + more)

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Open and lock the file, so that nobody else changes the counters or the cache. Raise OSError."""
        files.make_folder(self.path.parent)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def read_counts(descriptor: int) -> CacheCounts:
    """Read the counters from an open file."""
    raw = os.pread(descriptor, _LAYOUT.size, 0)
    return CacheCounts(*_LAYOUT.unpack(raw)) if len(raw) == _LAYOUT.size else CacheCounts(bytes=UNKNOWN_SIZE)


def write_counts(descriptor: int, counts: CacheCounts) -> None:
    """Write the counters to a locked file, in one call, so that a crash leaves the old or the new ones."""
    os.pwrite(descriptor, _LAYOUT.pack(*astuple(counts)), 0)


#: Maximum size of the cache of facts in bytes: thousands of layers, at some kilobytes each.
FACTS_BYTES = 16_000_000
#: Maximum size of the cache of matrices in bytes: five hundred with 1024 rows.
MATRICES_BYTES = 2**30
#: Interval in seconds between two looks for a graph that another process builds.
WAIT_S = 0.1
_CHECKSUM_BYTES = hashlib.sha256().digest_size
_DRAFT = ".draft"

T = TypeVar("T")


class Writable(Protocol):
    """Destination that a graph is written to."""

    def write(self, data: bytes, /) -> int:
        """Append the data."""


#: Function that writes a graph to a destination.
Save = Callable[[Writable], object]
#: Function that stores the graph that a `Save` writes, if there is room.
Keep = Callable[[Save], None]


class DiskCache:
    """Cache of neighbour graphs by keys. Several processes, threads and hosts may use it at once.

    Parameters
    ----------
    root : Path
        The data folder.
    limit_bytes : int
        Maximum size of all stored graphs. 0 turns the cache off.
    """

    def __init__(self, root: Path, limit_bytes: int, folder: str = "graphs") -> None:
        self._root, self._folder = root, root / folder
        self._limit = limit_bytes
        self._counters = CacheCounters(self._folder / "counters")
        self._drafts = self._folder / "drafts"

    @property
    def facts(self) -> "DiskCache":
        """Small cache of facts about layers beside this one. It is off if this one is off."""
        return DiskCache(self._root, min(self._limit, FACTS_BYTES), "facts")

    @property
    def matrices(self) -> "DiskCache":
        """Cache of matrices of layers beside this one. It is off if this one is off."""
        return DiskCache(self._root, min(self._limit, MATRICES_BYTES), "matrices")

    def read(self, key: str, load: Callable[[BinaryIO], T]) -> T | None:
        """Load a graph with `load` and mark it as used. Return None if it is missing or damaged.

        A graph that is evicted while it is read is still read to its end.
        """
        if not self._limit:
            return None
        with suppress(OSError), self._path(key).open("rb") as file:
            checksum = file.read(_CHECKSUM_BYTES)
            if hashlib.file_digest(file, partial(_start_hash, key)).digest() == checksum:
                with suppress(OSError):  # a read-only folder keeps no order of use
                    os.utime(file.fileno())
                file.seek(_CHECKSUM_BYTES)
                return load(file)
        return None

    @contextmanager
    def claim(self, key: str, wait: Callable[[], None]) -> Iterator[Keep]:
        """Acquire the exclusive right to build a graph. The right ends with the context or with this process.

        Yields the function that stores the graph. `wait` is called repeatedly while another process has the right. If the
        cache is off or the folder cannot be used, everyone has the right.
        """

        def pause() -> None:
            wait()
            time.sleep(WAIT_S)

        with ExitStack() as claim:
            draft = None
            if self._limit:
                with suppress(OSError):
                    draft = claim.enter_context(files.claim_file(self._draft(key), pause))
            yield partial(self._keep, key, draft)

    def count(self, *, hit: bool) -> None:
        """Count a hit or a miss."""
        with suppress(OSError):
            self._counters.add(CacheCounts(hits=int(hit), misses=int(not hit)))

    def describe(self) -> GraphCache:
        """Return size and counters of the cache. This reads the size of every file, but no content."""
        sizes = [status.st_size for _, status in self._kept()]
        counts = self._counters.read()
        return GraphCache(
            limit_bytes=self._limit,
            bytes=sum(sizes),
            graphs=len(sizes),
            hits=counts.hits,
            misses=counts.misses,
            evictions=counts.evictions,
        )

    def _keep(self, key: str, draft: int | None, save: Save) -> None:
        if draft is None:
            return
        with suppress(OSError):
            os.ftruncate(draft, 0)
            writer = CacheWriter(draft, key, self._limit)
            save(writer)
            writer.seal()
            # Not synced: after a power failure the checksum reveals a damaged graph, which is built again.
            self._publish(key, writer.size)

    def _publish(self, key: str, size: int) -> None:
        target = self._path(key)
        with self._counters.lock() as counters:
            for draft in self._drafts.glob(f"*{_DRAFT}"):
                _remove_abandoned(draft)
            counts = read_counts(counters) + CacheCounts(bytes=size)
            if counts.bytes > self._limit:
                kept, evicted = self._make_room(size, target)
                counts = replace(counts, bytes=kept + size, evictions=counts.evictions + evicted)
            files.make_folder(target.parent)
            # First: a crash in between leaves too large a sum, and the next process counts again.
            write_counts(counters, counts)
            self._draft(key).replace(target)

    def _make_room(self, size: int, target: Path) -> tuple[int, int]:
        """Remove the least recently used graphs. Return the size of the others, and the number of removed graphs."""
        kept = sorted((status.st_mtime_ns, path, status.st_size) for path, status in self._kept() if path != target)
        total, evicted = sum(size for _, _, size in kept), 0
        for _, path, freed in kept:
            if total + size <= self._limit:
                break
            path.unlink(missing_ok=True)
            total, evicted = total - freed, evicted + 1
        return total, evicted

    def _kept(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self._folder.glob("??/*"):
            with suppress(FileNotFoundError):
                yield path, path.stat()

    def _path(self, key: str) -> Path:
        name = _name(key)
        return self._folder / name[:2] / name

    def _draft(self, key: str) -> Path:
        return self._drafts / f"{_name(key)}{_DRAFT}"


class CacheWriter:
    """Writer of a graph's draft. The graph is hashed as it is written."""

    def __init__(self, descriptor: int, key: str, limit_bytes: int) -> None:
        self.size = 0
        self._descriptor, self._limit = descriptor, limit_bytes
        self._hash = _start_hash(key)
        os.lseek(descriptor, 0, os.SEEK_SET)
        self._append(bytes(_CHECKSUM_BYTES))

    def write(self, data: bytes, /) -> int:
        """Append the data. Raise OSError if it cannot be written or the graph exceeds the limit of the cache."""
        self._hash.update(data)
        self._append(data)
        return len(data)

    def seal(self) -> None:
        """Write the checksum after the last data."""
        os.pwrite(self._descriptor, self._hash.digest(), 0)

    def _append(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self._limit:
            raise OSError(f"The graph exceeds the {self._limit} bytes of the cache.")
        files.write_all(self._descriptor, data)


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _start_hash(key: str) -> "hashlib._Hash":
    """Start a hash that includes the key, so that a graph under a wrong key counts as damaged."""
    return hashlib.sha256(key.encode() + b"\n")


def _remove_abandoned(draft: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(draft, os.O_RDWR | os.O_CLOEXEC)
        try:
            if files.try_lock(descriptor):
                files.discard(descriptor, draft)
        finally:
            os.close(descriptor)
