"""The cache of neighbour graphs: built once for all processes, bounded in size, the least recently used leave first.

graphs/12/123456...        a graph: a checksum, then its bytes; its time of change is that of its last use
graphs/drafts/123456...     one that is being built: its builder holds a lock on it
graphs/books               hits, misses, evictions and bytes so far; whoever changes what is kept holds a lock on it
facts/                     the same for what one look at a layer's rows tells
matrices/                  the same for what takes megabytes of a layer that is asked for again and again

Nothing here is needed: what cannot be read, written or locked is built, and no error of the disk's is raised.
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
        files.make_folder(self.path.parent)
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


#: What is kept of facts about layers, some kilobytes each: thousands of layers.
FACTS_BYTES = 16_000_000
#: What is kept of matrices: five hundred of 1024 rows.
MATRICES_BYTES = 2**30
#: Whoever waits for another's graph looks this often whether it is there.
WAIT_S = 0.1
_CHECKSUM_BYTES = hashlib.sha256().digest_size
_DRAFT = ".draft"

T = TypeVar("T")


class Writable(Protocol):
    """What a graph is written to."""

    def write(self, data: bytes, /) -> int:
        """Appends the data."""


#: Writes a graph to what it is given.
Save = Callable[[Writable], object]
#: Keeps the graph that the function writes, if there is room.
Keep = Callable[[Save], None]


class Graphs:
    """Neighbour graphs by the words of what they depend on. Safe from several processes, threads and hosts at once.

    Parameters
    ----------
    root : Path
        The data folder.
    limit_bytes : int
        What the kept graphs may take together; 0: none is kept, and none is read.
    """

    def __init__(self, root: Path, limit_bytes: int, folder: str = "graphs") -> None:
        self._root, self._folder = root, root / folder
        self._limit = limit_bytes
        self._books = Books(self._folder / "books")
        self._drafts = self._folder / "drafts"

    @property
    def facts(self) -> "Graphs":
        """A small cache of the same kind beside it, for what one look at a layer tells; off where this one is."""
        return Graphs(self._root, min(self._limit, FACTS_BYTES), "facts")

    @property
    def matrices(self) -> "Graphs":
        """A cache of the same kind for matrices of layers; off where this one is."""
        return Graphs(self._root, min(self._limit, MATRICES_BYTES), "matrices")

    def read(self, key: str, load: Callable[[BinaryIO], T]) -> T | None:
        """What `load` makes of a graph's bytes; None where there is none, or a damaged one. It counts as just used.

        A graph that is evicted meanwhile is read to its end all the same.
        """
        if not self._limit:
            return None
        with suppress(OSError), self._path(key).open("rb") as file:
            checksum = file.read(_CHECKSUM_BYTES)
            if hashlib.file_digest(file, partial(_begin, key)).digest() == checksum:
                with suppress(OSError):  # a folder that is only read has no order of use
                    os.utime(file.fileno())
                file.seek(_CHECKSUM_BYTES)
                return load(file)
        return None

    @contextmanager
    def claim(self, key: str, wait: Callable[[], None]) -> Iterator[Keep]:
        """The right to build a graph: nobody else has it meanwhile, and it ends with this process, however that ends.

        It gives the function that keeps the graph. `wait` is called now and then while another has the right.
        Where the cache is off or the folder cannot be used, everyone has it.
        """

        def pause() -> None:
            wait()
            time.sleep(WAIT_S)

        with ExitStack() as claim:
            draft = None
            if self._limit:
                with suppress(OSError):
                    draft = claim.enter_context(files.claimed(self._draft(key), pause))
            yield partial(self._keep, key, draft)

    def count(self, *, hit: bool) -> None:
        """Enters a hit or a miss in the books."""
        with suppress(OSError):
            self._books.add(Counts(hits=int(hit), misses=int(not hit)))

    def describe(self) -> GraphCache:
        """What is kept and what happened so far. It looks at every file's size, and into none."""
        sizes = [status.st_size for _, status in self._kept()]
        counts = self._books.read()
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
            sink = Sink(draft, key, self._limit)
            save(sink)
            sink.seal()
            # Not synced: after a power loss the checksum tells a damaged graph, which is then built again.
            self._publish(key, sink.size)

    def _publish(self, key: str, size: int) -> None:
        target = self._path(key)
        with self._books.opened() as books:
            for draft in self._drafts.glob(f"*{_DRAFT}"):
                _sweep(draft)
            counts = read(books) + Counts(bytes=size)
            if counts.bytes > self._limit:
                kept, evicted = self._make_room(size, target)
                counts = replace(counts, bytes=kept + size, evictions=counts.evictions + evicted)
            files.make_folder(target.parent)
            write(books, counts)  # first: who dies in between leaves too large a sum, and the next one looks again
            self._draft(key).replace(target)

    def _make_room(self, size: int, target: Path) -> tuple[int, int]:
        """Removes the least recently used graphs: what the others take, and how many were removed."""
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


class Sink:
    """A graph's draft, hashed as it is written."""

    def __init__(self, descriptor: int, key: str, limit_bytes: int) -> None:
        self.size = 0
        self._descriptor, self._limit = descriptor, limit_bytes
        self._hash = _begin(key)
        os.lseek(descriptor, 0, os.SEEK_SET)
        self._append(bytes(_CHECKSUM_BYTES))

    def write(self, data: bytes, /) -> int:
        """Appends the data. Raises OSError, also where the graph is larger than all that may be kept."""
        self._hash.update(data)
        self._append(data)
        return len(data)

    def seal(self) -> None:
        """Nothing more comes: the checksum is written in its place."""
        os.pwrite(self._descriptor, self._hash.digest(), 0)

    def _append(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self._limit:
            raise OSError(f"a graph of more than {self._limit} bytes")
        files.write_all(self._descriptor, data)


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _begin(key: str) -> "hashlib._Hash":
    """A graph under another's name is damaged too."""
    return hashlib.sha256(key.encode() + b"\n")


def _sweep(draft: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(draft, os.O_RDWR | os.O_CLOEXEC)
        try:
            if files.try_lock(descriptor):
                files.discard(descriptor, draft)
        finally:
            os.close(descriptor)
