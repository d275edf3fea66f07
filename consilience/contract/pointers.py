"""Where in a request a fault is, and what it is: out of pydantic's words, or of an error that knows a part of the request."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from consilience.errors import ConsilienceError
from consilience.quoting import QUOTED_LENGTH

Location = Sequence[int | str]


def to_sentence(message: str) -> str:
    """Pydantic's message as a sentence."""
    text = message.removeprefix("Value error, ").rstrip(".")
    return text[:1].upper() + text[1:] + "."


def describe_unknown(kind: str, name: str, allowed: Sequence[str]) -> str:
    """Say that there is no such `kind`, what is allowed, and which of it `name` may be a misspelling of."""
    return f"There is no {kind} {name[:QUOTED_LENGTH]!r}; allowed: {', '.join(allowed)}.{suggest(name, allowed)}"


def suggest(name: object, allowed: Iterable[str]) -> str:
    """Ask whether the nearest of the allowed names was meant; empty if none is near."""
    close = get_close_matches(name, allowed, n=1) if isinstance(name, str) else ()
    return f" Did you mean `{close[0]}`?" if close else ""


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


@contextmanager
def at_pointer(pointer: str, *, instead: str = "") -> Iterator[None]:
    """Errors of the block are about this place in the request; `instead` is what the block calls it."""
    try:
        yield
    except ConsilienceError as error:
        error.pointer = pointer + (error.pointer or "").removeprefix(instead)
        raise


@contextmanager
def default_pointer(pointer: str) -> Iterator[None]:
    """Errors of the block are about this place in the request, where they name none themselves."""
    try:
        yield
    except ConsilienceError as error:
        error.pointer = error.pointer or pointer
        raise


@contextmanager
def with_prefix(words: str) -> Iterator[None]:
    """Errors of the block say first what they are about."""
    try:
        yield
    except ConsilienceError as error:
        error.detail = f"{words}: {error.detail}"
        error.args = (error.detail,)
        raise
