"""The columns `ids` and `groups` of a set: one string per row.

The module does not import numpy, because the client's command line reads columns too.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from consilience.contract.base import LABEL_LENGTH
from consilience.errors import InvalidRequest

_TYPE_NAMES = {
    float: "a number that is not an integer",
    bool: "a boolean",
    type(None): "null",
    list: "a list",
    dict: "an object",
}


def parse_column(values: object, name: str) -> tuple[str, ...]:
    """Convert a list of strings and integers to strings; an integer becomes its decimal digits.

    Parameters
    ----------
    values : object
        A list, a tuple, or an array with `tolist`.
    name : str
        Name of the column in errors and in the request: ``ids`` is at ``/ids``.

    Raises
    ------
    InvalidRequest
        The value is not such a list; the error names the first bad entry by its index.
    """
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, list | tuple):
        raise InvalidRequest(
            f"`{name}` is not a list.",
            value=values,
            hint="Send a list with one string or integer per row.",
            pointer=f"/{name}",
        )
    return tuple(_label(value, index, name) for index, value in enumerate(values))


def load_column(path: Path, name: str) -> tuple[str, ...]:
    """Read the strings of a JSON list in a file. Raises InvalidRequest (not JSON, or as in `parse_column`)."""
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise InvalidRequest(
            f"`{name}` is not valid JSON: {error}.",
            hint='Send a JSON list: ["first", "second", ...].',
            pointer=f"/{name}",
        ) from None
    return parse_column(values, name)


def read_column(path: Path, name: str) -> tuple[str, ...]:
    """Read the strings of a local file: a JSON list, or one string per line.

    Raises
    ------
    InvalidRequest
        The file is neither JSON nor UTF-8 text, or as in `parse_column`.
    """
    with path.open("rb") as file:
        head = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"["):
        return load_column(path, name)
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"`{name}` is not UTF-8 text: {error}.", value=path, pointer=f"/{name}") from None
    # Not `splitlines`, which also splits lines at some unprintable characters.
    return parse_column(text.removesuffix("\n").split("\n"), name)


def check_length(column: Sequence[str], n: int, name: str) -> None:
    """Raise InvalidRequest unless the column has one string per row."""
    if len(column) != n:
        raise InvalidRequest(
            f"`{name}` has {len(column)} entries, but there are {n} rows.",
            value=f"{len(column)} entries, {n} rows",
            limit=n,
            hint="Send exactly one entry per row, in the order of the rows.",
            pointer=f"/{name}",
        )


UNPRINTABLE = "not printable"


def label_error(value: object) -> str | None:
    """Describe the error of an id or a group; None if it is valid."""
    if not isinstance(value, str):
        return f"{_TYPE_NAMES.get(type(value), type(value).__name__)}; it must be a string or an integer"
    if not value or len(value) > LABEL_LENGTH:
        return f"{len(value)} characters long; the limits are 1 and {LABEL_LENGTH}"
    return None if value.isprintable() else UNPRINTABLE


def format_integer(value: int) -> str:
    """Format an integer in decimal; one beyond the length limit becomes zeros, since Python refuses to print huge ones."""
    return str(value) if value.bit_length() < 4 * LABEL_LENGTH else "0" * (LABEL_LENGTH + 1)


def _label(value: object, index: int, name: str) -> str:
    label = format_integer(value) if type(value) is int else value  # a boolean is an int too, but not a valid label
    if error := label_error(label):
        raise _entry_error(error, ascii(label) if error == UNPRINTABLE else label, index, name)
    return str(label)


def _entry_error(what: str, value: object, index: int, name: str) -> InvalidRequest:
    return InvalidRequest(
        f"Entry {index} of `{name}` is {what}.",
        value=repr(value) if value is None else value,
        limit=LABEL_LENGTH,
        hint=f"Send an integer or a string of 1 to {LABEL_LENGTH} printable characters.",
        pointer=f"/{name}/{index}",
    )
