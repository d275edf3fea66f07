"""JSON, one object a line."""

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

#: Of one line: parsing takes some ten times as much.
LINE_LIMIT_BYTES = 4 * 2**20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Lines(Protocol):
    """A binary file, read line by line."""

    def readline(self, size: int, /) -> bytes:
        """The next line with its end, or its first `size` bytes; nothing at the end."""


@contextmanager
def open_jsonl(path: Path, choice: ViewChoice, limits: ItemLimits) -> Iterator[RawItems]:
    """Each line is an item: `id`, and the views as strings. The first line says which views there are.

    Without `id` the items are numbered from 0. Other fields than the views are not read.
    Raises UnreadableFile, UnsupportedFormat (no view), InvalidRequest (a view that is not there), TooLarge.
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
    """The object on each line that is not blank. Raises UnreadableFile, TooLarge, which name the line."""
    number = 0
    while line := file.readline(LINE_LIMIT_BYTES + 1):
        number += 1
        if len(line) > LINE_LIMIT_BYTES:
            raise TooLarge(
                f"Line {number} has more than {LINE_LIMIT_BYTES} bytes.",
                value=f"line {number}",
                limit=LINE_LIMIT_BYTES,
                hint="One JSON object a line.",
            )
        if text := line.removeprefix(_BYTE_ORDER_MARK if number == 1 else b"").strip():
            yield _parse(text, number)


def _parse(text: bytes, number: int) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UnreadableFile(
            f"Line {number} is not JSON: {error}.",
            value=text[:100],
            hint='One object a line: {"id": "first", "text": "..."}.',
        ) from None
    if not isinstance(value, dict):
        raise UnreadableFile(f"Line {number} is no JSON object.", value=value, hint="One object a line.")
    return value


def find_views(item: Mapping[str, Any]) -> dict[str, ViewKind]:
    """The fields that can be views, in their order, with their kinds by their names."""
    return {name: kind_by_name(name) for name, value in item.items() if isinstance(value, str) and name not in ID_NAMES}


def find_id(item: Mapping[str, Any]) -> object:
    """The id; None where there is none."""
    return next((item[name] for name in ID_NAMES if name in item), None)


def refuse_image_views(names: list[str]) -> None:
    """A picture is bytes, for which JSON has no place."""
    if names:
        raise InvalidRequest(
            f"The view {names[0]!r} is to hold pictures, and JSON holds none.",
            value=names[0],
            hint="Send a zip or tar of pictures with a manifest, or Parquet; or say that it is text.",
            pointer=f"/views/{names[0]}",
        )
