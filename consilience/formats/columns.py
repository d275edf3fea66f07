"""Columns of a set, `ids` and `groups`: one string a row. No arrays here: the client's command line reads them too."""

import json
from collections.abc import Sequence
from pathlib import Path

from consilience.contract.base import LABEL_LENGTH
from consilience.errors import InvalidRequest

_TYPE_NAMES = {
    float: "a number that is no integer",
    bool: "a boolean",
    type(None): "null",
    list: "a list",
    dict: "an object",
}


def parse_column(values: object, name: str) -> tuple[str, ...]:
    """The strings of a list of strings and integers; an integer becomes its decimal digits.

    Parameters
    ----------
    values : object
        A list, a tuple, or an array with `tolist`.
    name : str
        What an error calls it, and its place in the request: ``ids`` is ``/ids``.

    Raises
    ------
    InvalidRequest
        Not such a list; the first bad entry is named by its index.
    """
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, list | tuple):
        raise InvalidRequest(
            f"`{name}` is not a list.",
            value=values,
            hint="Give one string or integer for each row.",
            pointer=f"/{name}",
        )
    return tuple(_label(value, index, name) for index, value in enumerate(values))


def load_column(path: Path, name: str) -> tuple[str, ...]:
    """The strings of a JSON list in a file. Raises InvalidRequest (not JSON, or as in `parse_column`)."""
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise InvalidRequest(
            f"`{name}` is not JSON: {error}.", hint='Give a list: ["first", "second", ...].', pointer=f"/{name}"
        ) from None
    return parse_column(values, name)


def read_column(path: Path, name: str) -> tuple[str, ...]:
    """The strings of a local file: a JSON list, or one a line.

    Raises
    ------
    InvalidRequest
        Neither JSON nor UTF-8 text, or as in `parse_column`.
    """
    with path.open("rb") as file:
        head = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"["):
        return load_column(path, name)
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"`{name}` is not UTF-8 text: {error}.", value=path, pointer=f"/{name}") from None
    # Not `splitlines`, which would also part a line at characters that are merely unprintable.
    return parse_column(text.removesuffix("\n").split("\n"), name)


def check_length(column: Sequence[str], n: int, name: str) -> None:
    """Refuse a column that has not one string a row."""
    if len(column) != n:
        raise InvalidRequest(
            f"`{name}` has {len(column)} entries, and there are {n} rows.",
            value=f"{len(column)} entries, {n} rows",
            limit=n,
            hint="Give exactly one for each row, in the rows' order.",
            pointer=f"/{name}",
        )


UNPRINTABLE = "not printable"


def label_error(value: object) -> str | None:
    """What is wrong with an id or a group; None where it can be one."""
    if not isinstance(value, str):
        return f"{_TYPE_NAMES.get(type(value), type(value).__name__)}; strings and integers are read"
    if not value or len(value) > LABEL_LENGTH:
        return f"{len(value)} characters long; 1 to {LABEL_LENGTH} are allowed"
    return None if value.isprintable() else UNPRINTABLE


def format_integer(value: int) -> str:
    """In decimals; Python refuses to write out integers without end, so one that is too long anyway is a stand-in."""
    return str(value) if value.bit_length() < 4 * LABEL_LENGTH else "0" * (LABEL_LENGTH + 1)


def _label(value: object, index: int, name: str) -> str:
    label = format_integer(value) if type(value) is int else value  # a boolean is an int too, and no label
    if fault := label_error(label):
        raise _refusal(fault, ascii(label) if fault == UNPRINTABLE else label, index, name)
    return str(label)


def _refusal(what: str, value: object, index: int, name: str) -> InvalidRequest:
    return InvalidRequest(
        f"Entry {index} of `{name}` is {what}.",
        value=repr(value) if value is None else value,
        limit=LABEL_LENGTH,
        hint=f"Each is an integer, or a string of 1 to {LABEL_LENGTH} printable characters.",
        pointer=f"/{name}/{index}",
    )
