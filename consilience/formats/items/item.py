"""The items of a file, whatever its format: ids, and a value for each view."""

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from consilience.contract.datasets import ViewKind
from consilience.errors import InvalidRequest, UnsupportedFormat
from consilience.formats.checks import check_limit
from consilience.formats.reading import canonical_json

#: What the user says of the views: their names and kinds; None: as the file's own names and types say.
ViewChoice = Mapping[str, ViewKind] | None
ID_NAMES = ("id", "ids")


@dataclass(frozen=True)
class ItemLimits:
    """What a file of items may hold."""

    items: int = 500_000
    views: int = 32
    text_bytes: int = 2**20
    """One text or program, in UTF-8."""
    image_bytes: int = 16 * 2**20
    """One picture as it is encoded."""
    image_pixels: int = 12_500_000
    """One picture once it is decoded."""
    unpacked_bytes: int = 8 * 2**30
    """All items together."""
    column_bytes: int = 64 * 2**20
    """All ids together."""


@dataclass(frozen=True)
class ViewHeader:
    """A view that the file has."""

    name: str
    kind: ViewKind


class RawItem(NamedTuple):
    """An item as the file has it: nothing is checked yet."""

    id: object
    """None where the file gives no ids."""
    values: tuple[object, ...]
    """In the views' order; None where one is missing."""


class Item(NamedTuple):
    """An item that was checked."""

    id: str
    values: tuple[bytes, ...]
    """In the views' order; text in UTF-8."""


@dataclass(frozen=True)
class RawItems:
    """An open file before its items are checked."""

    views: tuple[ViewHeader, ...]
    read: Callable[[], Iterator[RawItem]]
    """From the first item; each in turn."""
    packed_bytes: int
    """Of the file."""


@dataclass(frozen=True)
class OpenItems:
    """An open file: its views, and its items in order. Whatever is wrong with an item is raised when it is read."""

    views: tuple[ViewHeader, ...]
    read: Callable[[], Iterator[Item]]


def kind_by_name(name: str) -> ViewKind:
    """What a view holds by its name: `code`, `code_2` and `full_code` hold code, likewise `image`; the rest text."""
    words = name.lower().split("_")
    for kind in ("code", "image"):
        if kind in (words[0], words[-1]):
            return kind
    return "text"


def choose_views(found: Mapping[str, ViewKind], choice: ViewChoice, limits: ItemLimits) -> tuple[ViewHeader, ...]:
    """The views to read, of those that a file offers.

    Raises
    ------
    UnsupportedFormat
        It offers none.
    InvalidRequest
        One of those asked for is not there.
    TooLarge
        There are too many.
    """
    if choice is not None:
        for name in choice:
            if name not in found:
                raise InvalidRequest(
                    f"The file has no {name!r}; it has: {', '.join(found) or 'nothing that could be a view'}.",
                    value=name,
                    limit=list(found),
                    pointer=f"/views/{name}",
                )
    views = tuple(ViewHeader(name, kind) for name, kind in (found if choice is None else choice).items())
    if not views:
        raise UnsupportedFormat(
            "The items have no view.",
            hint="Give each item at least one text, program or picture beside its id.",
        )
    check_limit("views", len(views), limits.views)
    return views


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
    return hashlib.sha256(canonical_json(list(ids))).hexdigest()


def dataset_digest(ids: str, views: Iterable[tuple[str, str, str]]) -> str:
    """SHA-256 over the digest of the ids, and name, kind and digest of each view."""
    return hashlib.sha256(canonical_json({"ids": ids, "views": [list(view) for view in views]})).hexdigest()
