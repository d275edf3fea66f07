"""Checks of the arrays of every format: dtype, shape, size, names, limits."""

import re
from collections.abc import Sequence
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

from consilience.contract.embeddings import LayerDtype
from consilience.errors import InvalidShape, TooFewRows, TooLarge, UnreadableFile, UnsupportedDtype, UnsupportedFormat
from consilience.formats.open_file import FormatLimits, LayerHeader, OpenFile, Tensor
from consilience.limits import ROWS_MIN

#: Largest row over all layers of a 3-D array, because a block holds at least one row.
ROW_LIMIT_BYTES = 16 * 1024 * 1024
NAME_LENGTH = 128
#: A compressed file may unpack to this many times its own size plus a small allowance.
RATIO_LIMIT = 200
RATIO_ALLOWANCE_BYTES = 1024 * 1024
READ_DTYPES = ("F16", "BF16", "F32", "F64")


def stored_dtype(dtype: np.dtype[Any]) -> LayerDtype:
    """Return the dtype in which floats of 16, 32 or 64 bits are stored."""
    if dtype == ml_dtypes.bfloat16:
        return "BF16"
    return "F16" if dtype.itemsize == 2 else "F32"


def unsupported_dtype(dtype: object, where: str) -> UnsupportedDtype:
    """Return the error for any dtype other than floats of 16, 32 or 64 bits."""
    name = str(dtype)
    hint = "Convert to float32 or float16 first: array.astype('float32')."
    if name == "O" or "|O" in name:
        hint = "Object arrays are stored as pickles, which can run code; they are never read. " + hint
    elif name.endswith("V2"):
        hint = "If these are bfloat16 numbers, send them as safetensors, which names the dtype. " + hint
    return UnsupportedDtype(
        f"{where} does not hold floats of 16, 32 or 64 bits.", value=name, limit=list(READ_DTYPES), hint=hint
    )


def check_shape(shape: tuple[int, ...], where: str) -> None:
    """Check that a shape is (n, d) or (n, L, d), without an empty axis, and with at least 4 rows."""
    if len(shape) not in (2, 3) or 0 in shape[1:]:
        raise InvalidShape(
            f"{where} is not a matrix of embeddings.",
            value=shape,
            hint="Send shape (n, d), one row per item, or (n, L, d) for L layers; no axis may be empty.",
        )
    if shape[0] < ROWS_MIN:
        raise TooFewRows(
            f"{where} has {shape[0]} rows; at least {ROWS_MIN} rows are needed.", value=shape, limit=ROWS_MIN
        )


def check_size(shape: tuple[int, ...], dtype: np.dtype[Any], actual: int, where: str) -> None:
    """Check that the shape of the header needs exactly the bytes of the file; nothing is allocated."""
    size = prod(shape) * dtype.itemsize
    if size != actual:
        expected = size if size < 2**63 else "more than 2^63"  # Python refuses to print huge integers
        raise UnreadableFile(
            f"{where} declares {expected} bytes of values in its header but contains {actual}.",
            value=f"shape {shape} of {dtype}: {expected} bytes expected, {actual} found",
            hint="The file is truncated or damaged: write or send it again.",
        )


def unpacked_limit(packed: int, limits: FormatLimits) -> int:
    """Return the number of bytes that a compressed file of `packed` bytes may unpack to."""
    return min(limits.unpacked_bytes, RATIO_LIMIT * packed + RATIO_ALLOWANCE_BYTES)


def combine_tensors(tensors: Sequence[Tensor], limits: FormatLimits) -> OpenFile:
    """Combine tensors into a file, in the natural order of their names.

    The tensors are either 2-D, each one layer, or a single 3-D tensor, whose layers are "0", "1", ...
    Raises InvalidShape, TooLarge, UnsupportedFormat (no tensor, or an invalid name).
    """
    if not tensors:
        raise UnsupportedFormat("The file contains no array.")
    for tensor in tensors:
        _check_name(tensor.name)
    ordered = tuple(sorted(tensors, key=lambda tensor: natural_key(tensor.name)))
    _check_together(ordered, limits)
    return OpenFile(tuple(header for tensor in ordered for header in _headers(tensor)), ordered)


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sort key that puts layer2 before layer10."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", name)
    return [(0, int(digits), "") if digits else (1, 0, text) for digits, text in parts], name


def _headers(tensor: Tensor) -> list[LayerHeader]:
    n, *layers, dim = tensor.shape
    names = [str(i) for i in range(layers[0])] if layers else [tensor.name]
    return [LayerHeader(name, n, dim, stored_dtype(tensor.dtype)) for name in names]


def _check_together(tensors: tuple[Tensor, ...], limits: FormatLimits) -> None:
    stacked = [tensor for tensor in tensors if len(tensor.shape) == 3]
    if stacked and len(tensors) > 1:
        raise InvalidShape(
            f"The array {stacked[0].name!a} is 3-D, but in a file with several arrays each must be a layer (n, d).",
            value=f"{stacked[0].name}: {stacked[0].shape}",
            hint="Split the (n, L, d) array into L arrays, or send it as the only array.",
        )
    check_limit("layers", stacked[0].shape[1] if stacked else len(tensors), limits.layers)
    first = tensors[0]
    for tensor in tensors:
        check_limit("rows", tensor.shape[0], limits.rows)
        check_limit("dim", tensor.shape[-1], limits.dim)
        check_limit("row bytes", tensor.row_bytes, ROW_LIMIT_BYTES)
        if tensor.shape[0] != first.shape[0]:
            raise InvalidShape(
                f"The layers {first.name!a} and {tensor.name!a} have different numbers of rows.",
                value=f"{first.name}: {first.shape[0]} rows, {tensor.name}: {tensor.shape[0]} rows",
                hint="Every layer needs one row per item.",
            )
    names = [tensor.name for tensor in tensors]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UnsupportedFormat(f"Two layers have the same name: {twice!a}.", value=twice)


def check_limit(what: str, value: int, limit: int) -> None:
    """Raise TooLarge if a value exceeds its limit; `what` names the counted things."""
    if value > limit:
        raise TooLarge(f"The file has {value} {what}; the limit is {limit}.", value=value, limit=limit)


def _check_name(name: str) -> None:
    if not 0 < len(name) <= NAME_LENGTH or not name.isprintable():
        raise UnsupportedFormat(
            f"The layer name {name[:NAME_LENGTH]!a} is not valid: it must have 1 to {NAME_LENGTH} printable characters.",
            value=ascii(name),
            limit=NAME_LENGTH,
        )
