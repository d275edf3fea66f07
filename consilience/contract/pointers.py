"""JSON pointers of errors, and sentences about them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from consilience.errors import ConsilienceError, Unreachable
from consilience.quoting import QUOTED_LENGTH

Location = Sequence[int | str]


def to_sentence(message: str) -> str:
    """Return a message of pydantic as a sentence."""
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
    """Return the JSON pointer of a location of pydantic, which also contains union members that the body does not have."""
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
    """Prefix the pointers of errors of the block; `instead` is the prefix that they have so far and lose."""
    try:
        yield
    except ConsilienceError as error:
        error.pointer = pointer + (error.pointer or "").removeprefix(instead)
        raise


@contextmanager
def default_pointer(pointer: str) -> Iterator[None]:
    """Set the pointer of errors of the block that have none."""
    try:
        yield
    except ConsilienceError as error:
        error.pointer = error.pointer or pointer
        raise


@contextmanager
def with_prefix(prefix: str) -> Iterator[None]:
    """Prefix the messages of errors of the block with the subject; an unreachable service is not about it."""
    try:
        yield
    except Unreachable:
        raise
    except ConsilienceError as error:
        error.detail = f"{prefix}: {error.detail}"
        error.args = (error.detail,)
        raise
