"""From bytes to stored datasets, and from a built-in dataset's name. Runs in threads."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from consilience.contract.datasets import ViewKind
from consilience.errors import InvalidRequest
from consilience.formats.items.item import ItemLimits, ViewChoice
from consilience.stores.dataset_shelf import DatasetShelf
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


def shelf_of(stores: Stores, root: Path) -> DatasetShelf:
    """Where the caller's datasets are kept."""
    return DatasetShelf(stores.datasets, stores.blobs, root)
