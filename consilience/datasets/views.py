"""Datasets as whoever embeds them sees them: ids, and views that are read by blocks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, cast

from consilience.contract.datasets import ViewKind
from consilience.errors import BadItem, UnknownView
from consilience.formats.items.item import dataset_digest, ids_digest, pack_digest

#: Text and code as they are, pictures as their encoded bytes.
Items = list[str] | list[bytes]
#: Items that are read at once to take a digest.
BLOCK = 256


class View(Protocol):
    """One view of n items."""

    @property
    def name(self) -> str:
        """What requests call it."""

    @property
    def kind(self) -> ViewKind:
        """What the items are."""

    @property
    def n(self) -> int:
        """How many items there are."""

    def read(self, start: int, stop: int) -> Items:
        """Items start to stop (not included), at most n."""


@dataclass(frozen=True)
class OpenDataset:
    """Items and their views, read when they are asked for."""

    name: str
    ids: tuple[str, ...]
    views: tuple[View, ...]
    known_digest: str | None = None
    """Where it is known already; otherwise all is read once to find it."""

    @property
    def n(self) -> int:
        """How many items there are."""
        return len(self.ids)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the ids and the views' names, kinds and digests: equal for equal content."""
        parts = [(view.name, view.kind, pack_digest(encoded_items(view))) for view in self.views]
        return self.known_digest or dataset_digest(ids_digest(self.ids), parts)

    def view(self, name: str) -> View:
        """One view; UnknownView where there is none of this name."""
        for view in self.views:
            if view.name == name:
                return view
        names = [view.name for view in self.views]
        raise UnknownView(
            f"The dataset {self.name} has no view {name!r}; it has: {', '.join(names)}.", value=name, limit=names
        )

    def select(self, ids: Sequence[str]) -> "OpenDataset":
        """The items of these ids, in this order. Raises BadItem for an id that is not there, or comes twice."""
        places = {item: place for place, item in enumerate(self.ids)}
        for item in ids:
            if item not in places:
                raise BadItem(f"The dataset {self.name} has no item {item!r}.", value=item)
        if len(set(ids)) < len(ids):
            raise BadItem("An item is chosen twice.", value=next(item for item in ids if list(ids).count(item) > 1))
        chosen = tuple(places[item] for item in ids)
        return OpenDataset(self.name, tuple(ids), tuple(SelectedView(view, chosen) for view in self.views))


@dataclass(frozen=True)
class TextView:
    """Text or code that is in memory."""

    name: str
    kind: ViewKind
    items: tuple[str, ...]

    @property
    def n(self) -> int:
        """How many items there are."""
        return len(self.items)

    def read(self, start: int, stop: int) -> list[str]:
        """As View."""
        return list(self.items[start:stop])


@dataclass(frozen=True)
class SelectedView:
    """Some items of another view."""

    whole: View
    places: tuple[int, ...]

    @property
    def name(self) -> str:
        """That of the whole."""
        return self.whole.name

    @property
    def kind(self) -> ViewKind:
        """That of the whole."""
        return self.whole.kind

    @property
    def n(self) -> int:
        """How many are selected."""
        return len(self.places)

    def read(self, start: int, stop: int) -> Items:
        """As View."""
        return cast("Items", [self.whole.read(place, place + 1)[0] for place in self.places[start:stop]])


def encoded_items(view: View) -> Iterator[bytes]:
    """Each item's bytes, text in UTF-8."""
    for start in range(0, view.n, BLOCK):
        for item in view.read(start, min(view.n, start + BLOCK)):
            yield item.encode() if isinstance(item, str) else item
