"""Reader of safetensors files: an eight-byte length, a JSON header, raw C-order little-endian tensors.

The header is parsed here and not by the safetensors package, whose reader memory-maps the file and accepts duplicate
names; a test checks that every file that the package refuses is refused here too.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from consilience.errors import TooLarge, UnreadableFile
from consilience.formats.checks import check_shape, check_size, combine_tensors, unsupported_dtype
from consilience.formats.open_file import FormatLimits, OpenFile, Tensor
from consilience.formats.reading import fill_at, read_rows

HEADER_LIMIT_BYTES = 1024 * 1024
_LENGTH_BYTES = 8
_DTYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}


@contextmanager
def open_safetensors(path: Path, limits: FormatLimits) -> Iterator[OpenFile]:
    """Open a safetensors file: each (n, d) tensor is a layer; a single (n, L, d) tensor is layers "0", "1", ...

    Raises UnreadableFile, InvalidShape, TooFewRows, TooLarge.
    """
    with path.open("rb", buffering=0) as file:
        header = read_header(file.fileno())
        tensors = [_tensor(file.fileno(), header.base, name, entry) for name, entry in header.entries.items()]
        yield combine_tensors(tensors, limits)


@dataclass(frozen=True)
class Header:
    """Header of a safetensors file.

    Attributes
    ----------
    entries : each tensor's dtype, shape and offsets, in the order of the offsets; together they fill the file
    metadata : free metadata of the writer, not validated
    base : position of the first value
    """

    entries: dict[str, dict[str, Any]]
    metadata: object
    base: int


def read_header(descriptor: int) -> Header:
    """Read the header of an open file.

    Raises UnreadableFile, TooLarge.
    """
    size = os.fstat(descriptor).st_size
    length = int.from_bytes(os.pread(descriptor, _LENGTH_BYTES, 0), "little")
    _check_length(length, size)
    entries, metadata = _parse_header(os.pread(descriptor, length, _LENGTH_BYTES))
    base = _LENGTH_BYTES + length
    _check_cover(entries, size - base)
    return Header(entries, metadata, base)


def _check_length(length: int, size: int) -> None:
    if _LENGTH_BYTES + length > size:
        other = size < _LENGTH_BYTES or length > HEADER_LIMIT_BYTES
        raise UnreadableFile(
            f"{'The file is not a safetensors file: its' if other else 'The safetensors'} header claims {length} bytes, "
            f"but the whole file has {size}.",
            value=f"{_LENGTH_BYTES + length} bytes expected, {size} found",
            hint="The file has another format, or is truncated or damaged: write or send it again.",
        )
    if length > HEADER_LIMIT_BYTES:
        raise TooLarge(
            f"The safetensors header has {length} bytes; the limit is {HEADER_LIMIT_BYTES}.",
            value=length,
            limit=HEADER_LIMIT_BYTES,
        )


def _parse_header(raw: bytes) -> tuple[dict[str, dict[str, Any]], object]:
    """Return the tensors' entries by name (dtype, shape, offsets) in the order of the offsets, and the metadata."""
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise UnreadableFile("The safetensors header is not valid JSON.", value=raw) from error
    if not isinstance(header, dict):
        raise UnreadableFile("The safetensors header is not a JSON object.", value=raw)
    metadata = header.pop("__metadata__", None)
    for name, entry in header.items():
        if not _is_entry(entry):
            raise UnreadableFile(f"The safetensors header has a malformed entry for {name!a}.", value=entry)
    return dict(sorted(header.items(), key=lambda item: item[1]["data_offsets"])), metadata


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in fields if names.count(name) > 1)
        raise UnreadableFile(f"The safetensors header has the name {twice[:100]!a} twice.", value=ascii(twice))
    return fields


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("dtype"), str)
        and _is_sizes(entry.get("shape"))
        and _is_sizes(entry.get("data_offsets"))
        and len(entry["data_offsets"]) == 2
    )


def _is_sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)


def _check_cover(entries: dict[str, dict[str, Any]], size: int) -> None:
    """Check that the tensors fill the file exactly: no overlap, no gap, no trailing bytes."""
    offsets = [entry["data_offsets"] for entry in entries.values()]
    bounds = [[0, 0], *offsets, [size, size]]
    if any(before[1] != after[0] for before, after in pairwise(bounds)):
        raise UnreadableFile(
            f"The safetensors header does not describe the {size} bytes of values that follow it.",
            value=f"tensors end at {max((end for _, end in offsets), default=0)}, the values at {size}",
            hint="The file is truncated or damaged: write or send it again.",
        )


def _tensor(descriptor: int, base: int, name: str, entry: dict[str, Any]) -> Tensor:
    where = f"Tensor {name!a}"
    if entry["dtype"] not in _DTYPES:
        raise unsupported_dtype(entry["dtype"], where)
    dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
    check_shape(shape, where)
    begin, end = entry["data_offsets"]
    check_size(shape, dtype, end - begin, where)
    read = partial(read_rows, fill_at(descriptor, base + begin), shape, dtype)
    return Tensor(name, shape, dtype, read, base + begin)
