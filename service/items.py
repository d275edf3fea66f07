"""From bytes to stored datasets, and from a built-in dataset's name. Runs in threads."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from consilience.contract.datasets import BuiltinRequest, Dataset, ViewKind
from consilience.datasets.builtin import Builtin, is_builtin, parse_builtin
from consilience.datasets.views import OpenDataset, encoded_items
from consilience.errors import InvalidRequest, QuotaExceeded
from consilience.formats.items.item import Item, ItemLimits, OpenItems, ViewChoice, ViewHeader
from consilience.formats.items.packs import ids_digest
from consilience.stores.datasets import DatasetLabel
from consilience.stores.folder_lock import an_upload
from service.bodies import parse_json
from service.settings import Settings
from service.stores import Stores

VIEWS: TypeAdapter[dict[str, ViewKind]] = TypeAdapter(dict[str, ViewKind])


def item_limits(settings: Settings) -> ItemLimits:
    """What a dataset may hold."""
    return ItemLimits(
        items=settings.items_limit,
        text_bytes=settings.text_limit_bytes,
        image_bytes=settings.image_limit_bytes,
        image_pixels=settings.image_pixels_limit,
        unpacked_bytes=settings.upload_limit_bytes,
        column_bytes=settings.column_limit_bytes,
    )


def parse_views(text: bytes | None, pointer: str) -> ViewChoice:
    """The views that a request names, with their kinds; None where it names none. Raises InvalidRequest."""
    if text is None:
        return None
    value = parse_json(text, pointer)
    try:
        return VIEWS.validate_python(value)
    except ValidationError:
        raise InvalidRequest(
            "`views` is no object of names and kinds.",
            value=value,
            limit=["text", "code", "image"],
            hint='Such as {"caption": "text", "photo": "image"}.',
            pointer=pointer,
        ) from None


def store_items(
    stores: Stores, root: Path, items: OpenItems, label: DatasetLabel, key: str | None = None
) -> tuple[Dataset, bool]:
    """Keep the items' views and record the dataset; False where it was there already.

    What a refused item or record leaves behind, the collector finds.
    """
    left = stores.datasets.quota_left()
    with an_upload(root):
        views, ids = stores.blobs.put_items(
            items if left is None else replace(items, read=lambda: _within(items, left))
        )
        return stores.datasets.add(label, views, ids, key)


def store_builtin(stores: Stores, root: Path, request: BuiltinRequest, key: str | None = None) -> tuple[Dataset, bool]:
    """Make a built-in dataset, where the owner has it not yet. Raises NotFound, InvalidRequest, BadItem for its words."""
    builtin = parse_builtin(request.builtin)
    label = _label_of(builtin, request)
    if key is None and (known := stores.datasets.find_builtin(label)):
        return known, False
    dataset = builtin.open()
    if request.ids is not None:
        dataset = dataset.select(request.ids)
    return store_items(stores, root, items_of(dataset), label, key)


def resolve_dataset(stores: Stores, root: Path, name: str) -> Dataset:
    """The dataset that a request names: by its id, or a built-in one, which is made where the owner has it not yet.

    Raises NotFound, InvalidRequest (options of a built-in one), QuotaExceeded.
    """
    if is_builtin(name):
        return store_builtin(stores, root, BuiltinRequest(builtin=name))[0]
    return stores.datasets.get(name)


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
