"""Vectors in JSON: `{"vectors": [[...]]}`, three levels deep for (n, L, d), or `{"layers": {"name": [[...]]}}`.

Beside them may stand `ids` and `groups`, a string or an integer for each row.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from consilience.errors import InvalidRequest, InvalidShape, TooLarge, UnreadableFile, UnsupportedDtype
from consilience.formats.columns import parse_column
from consilience.formats.gate import check_limit, check_shape, gather
from consilience.formats.matrices import BLOCK_BYTES, Array, FormatLimits, OpenFile, Tensor

_NUMBERS = {int, float}
_COLUMNS = {"ids", "groups"}
_TYPE_NAMES = {str: "a string", bool: "a boolean", type(None): "null", list: "a list", dict: "an object"}


@contextmanager
def open_vectors(path: Path, limits: FormatLimits) -> Iterator[OpenFile]:
    """A small set as JSON, parsed in memory.

    Raises TooLarge over `limits.inline_bytes`, UnreadableFile, InvalidRequest, InvalidShape, TooFewRows,
    UnsupportedDtype (not a number); errors name the first bad row.
    """
    size = path.stat().st_size
    if size > limits.inline_bytes:
        raise TooLarge(
            f"The JSON document has {size} bytes, the limit is {limits.inline_bytes}.",
            value=size,
            limit=limits.inline_bytes,
            hint="Send larger sets as npy or safetensors.",
        )
    try:
        document = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise UnreadableFile(f"The body is not JSON: {error}.", value=f"position {error.pos}") from error
    yield _with_columns(gather(_tensors(document, limits), limits), document)


def from_vectors(
    vectors: object, limits: FormatLimits | None = None, *, ids: object = None, groups: object = None
) -> OpenFile:
    """Nested lists of numbers, (n, d) or (n, L, d), as a file; kept as float32. Errors as in `open_vectors`."""
    file = gather([_tensor("0", vectors, "/vectors")], limits or FormatLimits())
    return _with_columns(file, {"ids": ids, "groups": groups})


def parse_rows(vectors: object, pointer: str) -> Array:
    """Nested lists of numbers, (m, d), m and d at least 1, as float64.

    Raises InvalidShape, UnsupportedDtype (not a number); errors name the first bad row.
    """
    shape = _shape(vectors, pointer)
    if len(shape) != 2 or 0 in shape:
        raise InvalidShape(
            f"The field {pointer} is not a list of rows of numbers.",
            value=shape,
            hint="Send one row for each vector.",
            pointer=pointer,
        )
    return _parse(vectors, shape, pointer)


def _with_columns(file: OpenFile, document: Any) -> OpenFile:
    """The file with the columns that the document has; null is none."""
    ids, groups = (
        None if document.get(name) is None else parse_column(document[name], name) for name in ("ids", "groups")
    )
    return file.with_columns(ids, groups)


def _tensors(document: object, limits: FormatLimits) -> list[Tensor]:
    match document:
        case {"vectors": vectors, **rest} if rest.keys() <= _COLUMNS:
            return [_tensor("0", vectors, "/vectors")]
        case {"layers": dict() as layers, **rest} if rest.keys() <= _COLUMNS:
            check_limit("layers", len(layers), limits.layers)
            return [
                _tensor(name, rows, "/layers/" + name.replace("~", "~0").replace("/", "~1"))
                for name, rows in layers.items()
            ]
    keys = list(document) if isinstance(document, dict) else type(document).__name__
    raise InvalidRequest(
        "The JSON document has the field `vectors` or the field `layers`; `ids` and `groups` may stand beside it.",
        value=keys,
        hint='Send {"vectors": [[0.1, 0.2], ...]}, one row an item.',
    )


def _tensor(name: str, vectors: object, pointer: str) -> Tensor:
    shape = _shape(vectors, pointer)
    check_shape(shape, f"The field {pointer}")
    array = _parse(vectors, shape, pointer)
    return Tensor(name, shape, array.dtype, lambda: _slices(array))


def _parse(vectors: object, shape: tuple[int, ...], pointer: str) -> Array:
    _check_rows(vectors, shape, pointer)
    try:
        return np.array(vectors, dtype=np.float64)
    except OverflowError as error:
        raise UnsupportedDtype("An integer is too large for a float.", pointer=pointer) from error


def _shape(vectors: object, pointer: str) -> tuple[int, ...]:
    """The shape by the first row; the other rows are held against it."""
    shape: list[int] = []
    while isinstance(vectors, list) and len(shape) < 4:
        shape.append(len(vectors))
        vectors = vectors[0] if vectors else None
    if not shape:
        raise InvalidShape("Vectors are a list of rows.", value=type(vectors).__name__, pointer=pointer)
    return tuple(shape)


def _check_rows(rows: Any, shape: tuple[int, ...], pointer: str) -> None:
    """Every row is a list of the same length, every entry of the innermost a number."""
    # A million rows are looked at in one call each; only a bad one is looked for.
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != shape[1]:
            found = f"{len(row)} entries" if isinstance(row, list) else _TYPE_NAMES.get(type(row), "a number")
            raise InvalidShape(
                f"Row {i} of {pointer} is ragged: {found}, where the first row has {shape[1]} entries.",
                value=row,
                limit=shape[1],
                pointer=f"{pointer}/{i}",
            )
    if len(shape) > 2:
        for i, row in enumerate(rows):
            _check_rows(row, shape[1:], f"{pointer}/{i}")
    elif not set(map(type, chain.from_iterable(rows))) <= _NUMBERS:
        i, column, entry = next(
            (i, j, entry) for i, row in enumerate(rows) for j, entry in enumerate(row) if type(entry) not in _NUMBERS
        )
        raise UnsupportedDtype(
            f"Row {i} of {pointer}, column {column}: {_TYPE_NAMES[type(entry)]} is not a number.",
            value=entry,
            pointer=f"{pointer}/{i}/{column}",
        )


def _slices(array: Array) -> Iterator[Array]:
    step = max(1, BLOCK_BYTES // array[0].nbytes)
    return (array[start : start + step] for start in range(0, len(array), step))
