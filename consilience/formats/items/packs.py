"""How a view lies in a file: all items one after the other, then where each begins.

The table at the end is n + 1 little-endian unsigned integers of 64 bits: item i is the bytes from entry i to entry i + 1.
It comes last because the items are written as they arrive, and nobody knows before the last one how many there are.
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence

from consilience.formats.digests import canonical

OFFSET = struct.Struct("<Q")


class PackHash:
    """The digest of a view while its items come."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._offsets = bytearray(OFFSET.pack(0))
        self.size = 0
        """Bytes of the items so far."""

    def add(self, item: bytes) -> None:
        """The next item."""
        self._hash.update(item)
        self.size += len(item)
        self._offsets += OFFSET.pack(self.size)

    def table(self) -> bytes:
        """The table of the items so far."""
        return bytes(self._offsets)

    def digest(self) -> str:
        """SHA-256 of the items so far and their table."""
        found = self._hash.copy()
        found.update(self._offsets)
        return found.hexdigest()


def pack_digest(items: Iterable[bytes]) -> str:
    """The digest of a view of these items."""
    pack = PackHash()
    for item in items:
        pack.add(item)
    return pack.digest()


def ids_digest(ids: Sequence[str]) -> str:
    """The digest of a dataset's ids: that of a stored column."""
    return hashlib.sha256(canonical(list(ids))).hexdigest()


def dataset_digest(ids: str, views: Iterable[tuple[str, str, str]]) -> str:
    """SHA-256 over the digest of the ids, and name, kind and digest of each view."""
    return hashlib.sha256(canonical({"ids": ids, "views": [list(view) for view in views]})).hexdigest()
