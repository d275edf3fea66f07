"""Dataset items in any file format: ids, a value for each view, and the digests of both.

A stored view is a file of all items one after the other, then a table of offsets: n + 1 little-endian unsigned integers of
64 bits, where item i is the bytes from entry i to entry i + 1. The table comes last, because items are written as they
arrive, and their number is known only at the end.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from consilience.contract.datasets import ViewKind
from consilience.errors import InvalidRequest, UnsupportedFormat
from consilience.formats.checks import check_limit
from consilience.formats.reading import canonical_json

#: Names and kinds of the views that the user chooses; None: those of the file's names and types.
ViewChoice = Mapping[str, ViewKind] | None
ID_NAMES = ("id", "ids")


@dataclass(frozen=True)
class ItemLimits:
    """Limits of a file of items."""

    items: int = 500_000
    views: int = 32
    text_bytes: int = 2**20
    """Bytes of one text or program, in UTF-8."""
    image_bytes: int = 16 * 2**20
    """Bytes of one encoded image."""
    image_pixels: int = 12_500_000
    """Pixels of one decoded image."""
    unpacked_bytes: int = 8 * 2**30
    """Bytes of all items together."""
    column_bytes: int = 64 * 2**20
    """Bytes of all ids together, as JSON."""


@dataclass(frozen=True)
class ViewHeader:
    """Name and kind of a view of the file."""

    name: str
    kind: ViewKind


class RawItem(NamedTuple):
    """An item as it is in the file, unchecked."""

    id: object
    """None if the file has no ids."""
    values: tuple[object, ...]
    """Values in the order of the views; None for a missing one."""


class Item(NamedTuple):
    """A checked item."""

    id: str
    values: tuple[bytes, ...]
    """Values in the order of the views; text in UTF-8."""


@dataclass(frozen=True)
class RawItems:
    """An open file before its items are checked."""

    views: tuple[ViewHeader, ...]
    read: Callable[[], Iterator[RawItem]]
    """Iterates over all items from the first."""
    packed_bytes: int
    """Size of the file."""


@dataclass(frozen=True)
class OpenItems:
    """An open file: its views, and its items in order. Errors of an item are raised when it is read."""

    views: tuple[ViewHeader, ...]
    read: Callable[[], Iterator[Item]]


def kind_by_name(name: str) -> ViewKind:
    """Return the kind of a view by its name: `code`, `code_2` and `full_code` are code, likewise `image`; else text."""
    parts = name.lower().split("_")
    for kind in ("code", "image"):
        if kind in (parts[0], parts[-1]):
            return kind
    return "text"


def choose_views(found: Mapping[str, ViewKind], choice: ViewChoice, limits: ItemLimits) -> tuple[ViewHeader, ...]:
    """Choose the views to read from those that the file has.

    Raises
    ------
    UnsupportedFormat
        The file has no view.
    InvalidRequest
        A chosen view does not exist.
    TooLarge
        There are too many views.
    """
    if choice is not None:
        for name in choice:
            if name not in found:
                raise InvalidRequest(
                    f"The file has no view {name!r}; its views are: {', '.join(found) or 'none'}.",
                    value=name,
                    limit=list(found),
                    pointer=f"/views/{name}",
                )
    views = tuple(ViewHeader(name, kind) for name, kind in (found if choice is None else choice).items())
    if not views:
        raise UnsupportedFormat(
            "The items have no view.",
            hint="Give each item at least one text, program or image in addition to its id.",
        )
    check_limit("views", len(views), limits.views)
    return views


OFFSET = struct.Struct("<Q")


class PackHash:
    """Digest of a view, computed while its items arrive."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._offsets = bytearray(OFFSET.pack(0))
        self.size = 0
        """Total size of the items so far."""

    def add(self, item: bytes) -> None:
        """Add the next item."""
        self._hash.update(item)
        self.size += len(item)
        self._offsets += OFFSET.pack(self.size)

    def table(self) -> bytes:
        """Return the table of offsets of the items so far."""
        return bytes(self._offsets)

    def digest(self) -> str:
        """Return the SHA-256 of the items so far and their table of offsets."""
        digest = self._hash.copy()
        digest.update(self._offsets)
        return digest.hexdigest()


def pack_digest(items: Iterable[bytes]) -> str:
    """Return the digest of a view with these items."""
    pack = PackHash()
    for item in items:
        pack.add(item)
    return pack.digest()


def ids_digest(ids: Sequence[str]) -> str:
    """Return the digest of a dataset's ids, the same as that of a stored column."""
    return hashlib.sha256(canonical_json(list(ids))).hexdigest()


def dataset_digest(ids: str, views: Iterable[tuple[str, str, str]]) -> str:
    """Return the SHA-256 over the digest of the ids, and name, kind and digest of each view."""
    return hashlib.sha256(canonical_json({"ids": ids, "views": [list(view) for view in views]})).hexdigest()
