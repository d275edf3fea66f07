"""The items of a file, whatever its format: ids, and a value for each view."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from consilience.contract.datasets import ViewKind
from consilience.errors import InvalidRequest, UnsupportedFormat
from consilience.formats.gate import check_limit

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


def kind_of(name: str) -> ViewKind:
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
