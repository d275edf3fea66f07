"""Where in a request a fault is, and what it is, out of pydantic's words."""

from collections.abc import Sequence
from typing import Any

Location = Sequence[int | str]


def sentence(message: str) -> str:
    """Pydantic's message as a sentence."""
    text = message.removeprefix("Value error, ").rstrip(".")
    return text[:1].upper() + text[1:] + "."


def find_pointer(location: Location, body: Any, *, missing: bool) -> str:
    """The JSON pointer of pydantic's `location`, which also names union members that the body does not contain."""
    parts: list[str] = []
    for step in location:
        if _has(body, step):
            body = body[step]
            parts.append(str(step))
    if missing:
        parts.append(str(location[-1]))
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


def _has(body: Any, step: int | str) -> bool:
    if isinstance(body, dict):
        return step in body
    return isinstance(body, list | tuple) and isinstance(step, int) and step < len(body)
