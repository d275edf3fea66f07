"""Openers of files with embeddings, for every format.

* `open_file` opens an upload by its media type;
* `open_path` opens a local file by its content;
* `load_layers` returns an open file's layers as arrays, `read_layers` those of a local file.

The JSON format is read here: `{"vectors": [[...]]}`, three levels deep for (n, L, d), or `{"layers": {"name": [[...]]}}`;
both may also have `ids` and `groups`, a string or an integer per row.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from consilience.errors import (
    InvalidRequest,
    InvalidShape,
    TooLarge,
    UnreadableFile,
    UnsupportedDtype,
    UnsupportedFormat,
)
from consilience.formats import numpy_files
from consilience.formats.checks import check_limit, check_shape, combine_tensors
from consilience.formats.columns import parse_column
from consilience.formats.numpy_files import open_npy, open_npz
from consilience.formats.open_file import BLOCK_BYTES, NUMPY_DTYPES, Array, FormatLimits, LayerHeader, OpenFile, Tensor
from consilience.formats.safetensors import open_safetensors
from consilience.formats.tables import reader
from consilience.formats.tables.reader import open_arrow_file, open_arrow_stream, open_parquet

_NUMBERS = {int, float}
_COLUMNS = {"ids", "groups"}
_TYPE_NAMES = {str: "a string", bool: "a boolean", type(None): "null", list: "a list", dict: "an object"}


@contextmanager
def open_vectors(path: Path, limits: FormatLimits) -> Iterator[OpenFile]:
    """Open a small set as JSON, which is parsed in memory.

    Raises TooLarge over `limits.inline_bytes`, UnreadableFile, InvalidRequest, InvalidShape, TooFewRows,
    UnsupportedDtype (not a number); errors name the first bad row.
    """
    size = path.stat().st_size
    if size > limits.inline_bytes:
        raise TooLarge(
            f"The JSON document has {size} bytes; the limit is {limits.inline_bytes}.",
            value=size,
            limit=limits.inline_bytes,
            hint="Send larger sets as npy or safetensors.",
        )
    try:
        document = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise UnreadableFile(f"The body is not valid JSON: {error}.", value=f"position {error.pos}") from error
    yield _with_columns(combine_tensors(_tensors(document, limits), limits), document)


def from_vectors(
    vectors: object, limits: FormatLimits | None = None, *, ids: object = None, groups: object = None
) -> OpenFile:
    """Open nested lists of numbers, (n, d) or (n, L, d), as a file of float32. Errors as in `open_vectors`."""
    file = combine_tensors([_tensor("0", vectors, "/vectors")], limits or FormatLimits())
    return _with_columns(file, {"ids": ids, "groups": groups})


def parse_rows(vectors: object, pointer: str) -> Array:
    """Convert nested lists of numbers, (m, d) with m and d at least 1, to float64.

    Raises InvalidShape, UnsupportedDtype (not a number); errors name the first bad row.
    """
    shape = _shape(vectors, pointer)
    if len(shape) != 2 or 0 in shape:
        raise InvalidShape(
            f"The field {pointer} is not a list of rows of numbers.",
            value=shape,
            hint="Send one list of numbers per row.",
            pointer=pointer,
        )
    return _parse(vectors, shape, pointer)


def _with_columns(file: OpenFile, document: Any) -> OpenFile:
    """Add the document's columns to the file; null means no column."""
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
        "The JSON document needs the field `vectors` or `layers`, and only `ids` and `groups` beside it.",
        value=keys,
        hint='Send {"vectors": [[0.1, 0.2], ...]}, one row per item.',
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
        raise UnsupportedDtype(
            f"The field {pointer} has an integer that is too large for a float.", pointer=pointer
        ) from error


def _shape(vectors: object, pointer: str) -> tuple[int, ...]:
    """Return the shape by the first row; `_check_rows` compares the other rows with it."""
    shape: list[int] = []
    while isinstance(vectors, list) and len(shape) < 4:
        shape.append(len(vectors))
        vectors = vectors[0] if vectors else None
    if not shape:
        raise InvalidShape(f"The field {pointer} is not a list of rows.", value=type(vectors).__name__, pointer=pointer)
    return tuple(shape)


def _check_rows(rows: Any, shape: tuple[int, ...], pointer: str) -> None:
    """Check that all rows are lists of the same length and that the innermost entries are numbers."""
    # For speed, each row is checked with one call; the bad entry is searched only after a failure.
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != shape[1]:
            found = f"{len(row)} entries" if isinstance(row, list) else _TYPE_NAMES.get(type(row), "a number")
            raise InvalidShape(
                f"Row {i} of {pointer} is not like the first row: expected {shape[1]} entries, found {found}.",
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


__all__ = [
    "MEDIA_TYPES",
    "UNNAMED_MEDIA_TYPE",
    "FormatLimits",
    "LayerHeader",
    "OpenFile",
    "from_vectors",
    "load_layers",
    "open_file",
    "open_path",
    "read_layers",
]

#: The media types of uploads and the format that each names.
MEDIA_TYPES: dict[str, str] = {
    "application/x-npy": "npy",
    "application/x-npz": "npz",
    "application/x-safetensors": "safetensors",
    "application/json": "json",
    "application/vnd.apache.parquet": "parquet",
    "application/vnd.apache.arrow.file": "arrow-file",
    "application/vnd.apache.arrow.stream": "arrow-stream",
}
#: Generic media type: the format is detected by the first bytes.
UNNAMED_MEDIA_TYPE = "application/octet-stream"

_Opener = Callable[[Path, FormatLimits], AbstractContextManager[OpenFile]]
_OPENERS: dict[str, _Opener] = {
    "npy": open_npy,
    "npz": open_npz,
    "safetensors": open_safetensors,
    "json": open_vectors,
    "parquet": open_parquet,
    "arrow-file": open_arrow_file,
    "arrow-stream": open_arrow_stream,
}
#: Magic bytes of the formats that have them.
_MAGICS = {
    numpy_files.NPY_MAGIC: "npy",
    numpy_files.NPZ_MAGIC: "npz",
    reader.PARQUET_MAGIC: "parquet",
    reader.ARROW_FILE_MAGIC: "arrow-file",
    reader.ARROW_STREAM_MAGIC: "arrow-stream",
}
_SNIFFED_BYTES = 64


def open_file(path: Path, media_type: str | None, limits: FormatLimits) -> AbstractContextManager[OpenFile]:
    """Open an upload as a context manager; for None or application/octet-stream the format is detected by the bytes.

    Headers are read and checked when the context is entered, values while they are read.
    Raises UnsupportedFormat for another media type or unknown bytes, and the errors of the format.
    """
    essence = (media_type or UNNAMED_MEDIA_TYPE).partition(";")[0].strip().lower()
    if essence == UNNAMED_MEDIA_TYPE:
        return _OPENERS[detect_format(path)](path, limits)
    if essence not in MEDIA_TYPES:
        raise UnsupportedFormat(
            f"The media type {essence[:100]!a} is not supported.",
            value=media_type,
            limit=[*MEDIA_TYPES, UNNAMED_MEDIA_TYPE],
            hint=f"Send one of {', '.join(MEDIA_TYPES)} as Content-Type.",
        )
    return _OPENERS[MEDIA_TYPES[essence]](path, limits)


def open_path(path: str | Path, limits: FormatLimits | None = None) -> AbstractContextManager[OpenFile]:
    """Open a local file; the format is detected by the bytes and not by the name. Errors as in `open_file`."""
    path = Path(path)
    if not path.is_file():
        raise UnreadableFile(f"There is no file {path}.", value=path, hint="Check the path.")
    return open_file(path, None, limits or FormatLimits())


def read_layers(path: str | Path, limits: FormatLimits | None = None) -> list[tuple[str, Array]]:
    """Read all layers of a local file into memory: (name, array (n, dim)) in the dtype of the store."""
    with open_path(path, limits) as file:
        return load_layers(file)


def load_layers(file: OpenFile) -> list[tuple[str, Array]]:
    """Read all layers of an open file into memory, as in `read_layers`."""
    arrays = [np.empty((layer.n, layer.dim), NUMPY_DTYPES[layer.dtype]) for layer in file.layers]
    filled = [0] * len(arrays)
    for index, rows in file.blocks():
        arrays[index][filled[index] : filled[index] + len(rows)] = rows
        filled[index] += len(rows)
    return [(layer.name, array) for layer, array in zip(file.layers, arrays, strict=True)]


def detect_format(path: Path) -> str:
    """Return the format's name by the first bytes. Raises UnreadableFile (empty), UnsupportedFormat."""
    with path.open("rb") as file:
        head = file.read(_SNIFFED_BYTES)
    if not head:
        raise UnreadableFile("The file is empty.", value="0 bytes")
    for magic, name in _MAGICS.items():
        if head.startswith(magic):
            return name
    # The eight bytes of a safetensors header's length contain zeros, which JSON never does.
    if head[8:9] == b"{" and b"\0" in head[:8]:
        return "safetensors"
    if head.lstrip()[:1] in (b"{", b"["):
        return "json"
    raise UnsupportedFormat(
        "The file has none of the supported formats: npy, npz, safetensors, JSON, Parquet, Arrow.",
        value=head[:16],
        hint="Save it with numpy.save. Pickles (.pkl, .pt, .joblib) can run code and are never read.",
    )
