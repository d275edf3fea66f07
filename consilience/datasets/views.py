"""Open datasets: ids, and views that are read in blocks to be embedded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, cast

from consilience.contract.datasets import ViewKind
from consilience.errors import BadItem, UnknownView
from consilience.formats.items.item import dataset_digest, ids_digest, pack_digest

#: Text and code as strings, images as their encoded bytes.
Items = list[str] | list[bytes]
#: Number of items that are read at once for a digest.
BLOCK = 256


class View(Protocol):
    """One view of n items."""

    @property
    def name(self) -> str:
        """Name of the view in requests."""

    @property
    def kind(self) -> ViewKind:
        """Kind of the items: text, code or image."""

    @property
    def n(self) -> int:
        """Number of items."""

    def read(self, start: int, stop: int) -> Items:
        """Return items start to stop (not included); stop is at most n."""


@dataclass(frozen=True)
class OpenDataset:
    """Items and their views, which are read on demand."""

    name: str
    ids: tuple[str, ...]
    views: tuple[View, ...]
    known_digest: str | None = None
    """The digest if it is known already; otherwise all items are read once to compute it."""

    @property
    def n(self) -> int:
        """Number of items."""
        return len(self.ids)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the ids and the views' names, kinds and digests: equal for equal content."""
        parts = [(view.name, view.kind, pack_digest(encoded_items(view))) for view in self.views]
        return self.known_digest or dataset_digest(ids_digest(self.ids), parts)

    def view(self, name: str) -> View:
        """Return the view with this name. Raises UnknownView."""
        for view in self.views:
            if view.name == name:
                return view
        names = [view.name for view in self.views]
        raise UnknownView(
            f"The dataset {self.name} has no view {name!r}; its views are: {', '.join(names)}.",
            value=name,
            limit=names,
        )

    def select(self, ids: Sequence[str]) -> "OpenDataset":
        """Return the items with these ids, in this order. Raises BadItem for an unknown or duplicate id."""
        indices = {item: index for index, item in enumerate(self.ids)}
        for item in ids:
            if item not in indices:
                raise BadItem(f"The dataset {self.name} has no item {item!r}.", value=item)
        if len(set(ids)) < len(ids):
            twice = next(item for item in ids if list(ids).count(item) > 1)
            raise BadItem(f"The item {twice!r} is chosen twice.", value=twice, hint="Choose each item once.")
        chosen = tuple(indices[item] for item in ids)
        return OpenDataset(self.name, tuple(ids), tuple(SelectedView(view, chosen) for view in self.views))


@dataclass(frozen=True)
class TextView:
    """A view of text or code in memory."""

    name: str
    kind: ViewKind
    items: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of items."""
        return len(self.items)

    def read(self, start: int, stop: int) -> list[str]:
        """See `View.read`."""
        return list(self.items[start:stop])


@dataclass(frozen=True)
class SelectedView:
    """A selection of items of another view."""

    whole: View
    indices: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of the whole view."""
        return self.whole.name

    @property
    def kind(self) -> ViewKind:
        """Kind of the whole view."""
        return self.whole.kind

    @property
    def n(self) -> int:
        """Number of selected items."""
        return len(self.indices)

    def read(self, start: int, stop: int) -> Items:
        """See `View.read`."""
        return cast("Items", [self.whole.read(index, index + 1)[0] for index in self.indices[start:stop]])


def encoded_items(view: View) -> Iterator[bytes]:
    """Yield the bytes of each item, text in UTF-8."""
    for start in range(0, view.n, BLOCK):
        for item in view.read(start, min(view.n, start + BLOCK)):
            yield item.encode() if isinstance(item, str) else item
