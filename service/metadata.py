"""The user's own JSON: bounded, and such that every store can keep it."""

from collections.abc import Iterator
from typing import Any

import orjson

from consilience.contract.base import METADATA_LIMIT_BYTES
from consilience.errors import InvalidRequest, TooLarge
from service.bodies import parse_json

#: Deeper nesting breaks JSON writers that recurse.
DEPTH_LIMIT = 32


def parse_metadata(text: str | None, pointer: str = "metadata") -> dict[str, Any]:
    """Metadata from its JSON text; none is empty.

    Raises
    ------
    InvalidRequest, TooLarge
    """
    if text is None:
        return {}
    value = parse_json(text.encode("utf-8", "surrogatepass"), pointer)
    if not isinstance(value, dict):
        raise InvalidRequest("Metadata is a JSON object.", value=text, pointer=pointer)
    check_metadata(value, pointer)
    return value


def check_metadata(metadata: dict[str, Any], pointer: str) -> None:
    """Refuse what cannot be stored or is too much."""
    for depth, item in walk(metadata):
        if depth > DEPTH_LIMIT:
            raise InvalidRequest("Metadata is nested too deeply.", limit=DEPTH_LIMIT, pointer=pointer)
        if isinstance(item, str) and "\0" in item:
            raise InvalidRequest("Metadata holds a NUL character.", value=repr(item), pointer=pointer)
    check_size("Metadata", orjson.dumps(metadata), METADATA_LIMIT_BYTES, pointer)


def check_size(words: str, text: bytes, limit: int, pointer: str) -> None:
    """Refuse JSON that is longer than what these words name may be."""
    if len(text) > limit:
        raise TooLarge(
            f"{words} has {len(text)} bytes; at most {limit} are allowed.",
            value=f"{len(text)} bytes",
            limit=limit,
            pointer=pointer,
        )


def walk(value: object) -> Iterator[tuple[int, object]]:
    """Every key and value with its depth, breadth first: no recursion, so that depth cannot hurt."""
    level, depth = [value], 1
    while level:
        for item in level:
            yield depth, item
            if isinstance(item, dict):
                yield from ((depth, key) for key in item)
        level = [inner for item in level for inner in _members(item)]
        depth += 1


def _members(item: object) -> list[object]:
    if isinstance(item, dict):
        return list(item.values())
    return item if isinstance(item, list) else []
