"""One view of a dataset on its way into the store, and out of it again. How it lies in its file: `formats.items.packs`."""

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Self

from consilience.contract.datasets import ViewKind, ViewRecord
from consilience.datasets.views import Items
from consilience.errors import Unavailable
from consilience.formats.items.item import ViewHeader
from consilience.formats.items.packs import OFFSET, PackHash
from consilience.stores import disk

#: Bytes of items that are written at once.
BUFFER_BYTES = 2**18
HASH_BLOCK_BYTES = 2**22


class ViewDraft:
    """One view's items on their way into the store, hashed as they come."""

    def __init__(self, path: Path, header: ViewHeader) -> None:
        self.path = path
        self._header, self._pack, self._buffer = header, PackHash(), bytearray()

    def __enter__(self) -> Self:
        with disk.storage_faults():
            disk.create(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)

    def append(self, item: bytes) -> None:
        """The next item."""
        self._pack.add(item)
        self._buffer += item
        if len(self._buffer) >= BUFFER_BYTES:
            self._flush()

    def finish(self) -> None:
        """All items have come."""
        self._buffer += self._pack.table()
        self._flush()

    @property
    def digest(self) -> str:
        """The address."""
        return self._pack.digest()

    @property
    def size(self) -> int:
        """Bytes of the finished file."""
        return self._pack.size + len(self._pack.table())

    def record(self) -> ViewRecord:
        """The view's record."""
        name, kind = self._header.name, self._header.kind
        return ViewRecord(name=name, kind=kind, bytes=self._pack.size, digest=self.digest)

    def _flush(self) -> None:
        with disk.storage_faults():
            disk.append(self.path, bytes(self._buffer))
        self._buffer.clear()


@dataclass(frozen=True)
class StoredView:
    """One view in the store, read by blocks."""

    name: str
    kind: ViewKind
    n: int
    size: int
    """Bytes of all items together."""
    digest: str
    path: Path

    def read(self, start: int, stop: int) -> Items:
        """Items start to stop (not included), at most n. Raises Unavailable where the file is damaged."""
        stop = min(stop, self.n)
        if stop <= start:
            return []
        with disk.storage_faults(), self.path.open("rb") as file:
            table = self._take(file, self.size + OFFSET.size * start, OFFSET.size * (stop - start + 1))
            places = [place for (place,) in OFFSET.iter_unpack(table)]
            if places != sorted(places) or places[-1] > self.size:
                raise self._damaged()
            data = self._take(file, places[0], places[-1] - places[0])
        items = [data[a - places[0] : b - places[0]] for a, b in pairwise(places)]
        if self.kind == "image":
            return items
        try:
            return [item.decode() for item in items]
        except UnicodeDecodeError:
            raise self._damaged() from None

    def _take(self, file: BinaryIO, at: int, size: int) -> bytes:
        file.seek(at)
        data = file.read(size)
        if len(data) < size:
            raise self._damaged()
        return data

    def is_sound(self) -> bool:
        """Whether the bytes are still those that the digest was taken of: reads all of them."""
        found = hashlib.sha256()
        with disk.storage_faults(), self.path.open("rb") as file:
            while block := file.read(HASH_BLOCK_BYTES):
                found.update(block)
        return found.hexdigest() == self.digest

    def _damaged(self) -> Unavailable:
        return Unavailable("A stored view is damaged.", value=self.digest)
