"""Reader of items in JSON Lines: one JSON object per line."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import orjson

from consilience.contract.datasets import ViewKind
from consilience.errors import InvalidRequest, TooLarge, UnreadableFile
from consilience.formats.items.item import (
    ID_NAMES,
    ItemLimits,
    RawItem,
    RawItems,
    ViewChoice,
    choose_views,
    kind_by_name,
)

#: Limit of one line; parsing needs about ten times as much memory.
LINE_LIMIT_BYTES = 4 * 2**20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Lines(Protocol):
    """A binary file that is read line by line."""

    def readline(self, size: int, /) -> bytes:
        """Return the next line with its end, or its first `size` bytes; empty at the end of the file."""


@contextmanager
def open_jsonl(path: Path, choice: ViewChoice, limits: ItemLimits) -> Iterator[RawItems]:
    """Open a file of JSON lines: each line is an item with `id` and the views as strings.

    The fields of the first line determine the views; other fields are ignored. Items without `id` are numbered from 0.
    Raises UnreadableFile, UnsupportedFormat (no view), InvalidRequest (a view that does not exist), TooLarge.
    """
    with path.open("rb") as file:
        first = next(read_objects(file), {})
        views = choose_views(find_views(first), choice, limits)
        refuse_image_views([view.name for view in views if view.kind == "image"])

        def read() -> Iterator[RawItem]:
            file.seek(0)
            for item in read_objects(file):
                yield RawItem(find_id(item), tuple(item.get(view.name) for view in views))

        yield RawItems(views, read, path.stat().st_size)


def read_objects(file: Lines) -> Iterator[dict[str, Any]]:
    """Yield the object of each line that is not blank. Raises UnreadableFile, TooLarge, which name the line."""
    number = 0
    while line := file.readline(LINE_LIMIT_BYTES + 1):
        number += 1
        if len(line) > LINE_LIMIT_BYTES:
            raise TooLarge(
                f"Line {number} has more than {LINE_LIMIT_BYTES} bytes, the limit of a line.",
                value=f"line {number}",
                limit=LINE_LIMIT_BYTES,
                hint="Write one JSON object per line.",
            )
        if text := line.removeprefix(_BYTE_ORDER_MARK if number == 1 else b"").strip():
            yield _parse(text, number)


def _parse(text: bytes, number: int) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UnreadableFile(
            f"Line {number} is not valid JSON: {error}.",
            value=text[:100],
            hint='Write one JSON object per line: {"id": "first", "text": "..."}.',
        ) from None
    if not isinstance(value, dict):
        raise UnreadableFile(
            f"Line {number} is not a JSON object.", value=value, hint="Write one JSON object per line."
        )
    return value


def find_views(item: Mapping[str, Any]) -> dict[str, ViewKind]:
    """Return the fields that can be views, in their order, with the kinds that their names imply."""
    return {name: kind_by_name(name) for name, value in item.items() if isinstance(value, str) and name not in ID_NAMES}


def find_id(item: Mapping[str, Any]) -> object:
    """Return the id of an item; None if it has none."""
    return next((item[name] for name in ID_NAMES if name in item), None)


def refuse_image_views(names: list[str]) -> None:
    """Refuse views of images, because JSON cannot contain bytes."""
    if names:
        raise InvalidRequest(
            f"The view {names[0]!r} has the kind image, but JSON lines cannot contain images.",
            value=names[0],
            hint="Send a zip or tar of images with a manifest, or Parquet; or declare the view as text.",
            pointer=f"/views/{names[0]}",
        )
