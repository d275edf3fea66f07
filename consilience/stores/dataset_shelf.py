"""Datasets into the store: uploaded ones, and the built-in ones when they are first asked for."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from consilience.contract.datasets import BuiltinRequest, Dataset
from consilience.datasets.builtin import Builtin, parse_builtin
from consilience.datasets.views import OpenDataset, encoded_items
from consilience.errors import QuotaExceeded
from consilience.formats.items.item import Item, OpenItems, ViewHeader
from consilience.formats.items.packs import ids_digest
from consilience.stores.blobs import Blobs
from consilience.stores.datasets import DatasetLabel, DatasetRecords
from consilience.stores.folder_lock import an_upload


@dataclass(frozen=True)
class DatasetShelf:
    """Where one caller's datasets are kept."""

    records: DatasetRecords
    blobs: Blobs
    root: Path

    def keep(self, items: OpenItems, label: DatasetLabel, key: str | None = None) -> tuple[Dataset, bool]:
        """Keep the items' views and record the dataset; False where it was there already.

        What a refused item or record leaves behind, the collector finds.
        """
        left = self.records.quota_left()
        with an_upload(self.root):
            views, ids = self.blobs.put_items(
                items if left is None else replace(items, read=lambda: _within(items, left))
            )
            return self.records.add(label, views, ids, key)

    def keep_builtin(self, request: BuiltinRequest, key: str | None = None) -> tuple[Dataset, bool]:
        """Make a built-in dataset, where the owner has it not yet.

        Raises NotFound, InvalidRequest, BadItem for its words.
        """
        builtin = parse_builtin(request.builtin)
        label = _label_of(builtin, request)
        if key is None and (known := self.records.find_builtin(label)):
            return known, False
        dataset = builtin.open()
        if request.ids is not None:
            dataset = dataset.select(request.ids)
        return self.keep(items_of(dataset), label, key)

    def find_builtin(self, name: str) -> Dataset | None:
        """The built-in dataset of this name, where the owner has it already. Errors as `keep_builtin`."""
        request = BuiltinRequest(builtin=name)
        return self.records.find_builtin(_label_of(parse_builtin(name), request))


def items_of(dataset: OpenDataset) -> OpenItems:
    """A dataset's items, one after the other."""
    headers = tuple(ViewHeader(view.name, view.kind) for view in dataset.views)

    def read() -> Iterator[Item]:
        columns = [encoded_items(view) for view in dataset.views]
        for item, *values in zip(dataset.ids, *columns, strict=True):
            yield Item(item, tuple(values))

    return OpenItems(headers, read)


def _label_of(builtin: Builtin, request: BuiltinRequest) -> DatasetLabel:
    """Its own name and version stand in the metadata, where the user sees what it was made of."""
    own: dict[str, Any] = {"builtin": str(builtin), "version": builtin.version}
    chosen = ids_digest(request.ids) if request.ids is not None else "all"
    words = f"{builtin} ({builtin.version}), items {chosen}"
    return DatasetLabel(request.name or builtin.name, {**request.metadata, **own}, words)


def _within(items: OpenItems, left: int) -> Iterator[Item]:
    """The items, as long as the owner may keep them."""
    total = 0
    for item in items.read():
        total += sum(map(len, item.values))
        if total > left:
            raise QuotaExceeded(
                f"The items have more than the {left} bytes that the owner may still keep.",
                value=f"{total} bytes so far",
                limit=left,
                hint="Delete sets or datasets that are no longer needed; CONSILIENCE_OWNER_BYTES_LIMIT is the limit.",
            )
        yield item
