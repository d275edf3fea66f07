"""Array types and validation of the arrays that a caller passes; code behind it relies on valid arrays."""

from collections.abc import Iterable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from consilience.errors import InvalidShape, NonFiniteValues, TooFewRows, UnsupportedDtype
from consilience.limits import ROWS_MIN

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
IdArray = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]
CountArray = npt.NDArray[np.int64]
AnyArray = npt.NDArray[np.generic]
#: Numbers of rows, of any integer type.
RowIndex = npt.NDArray[np.integer[Any]]

#: Number of values of a block that fits in a processor's cache.
CACHED_VALUES = 1 << 17
_DTYPES = (np.float16, np.float32, np.float64, ml_dtypes.bfloat16)


def cached_rows(dim: int) -> int:
    """Return the number of rows of `dim` columns that fit in a processor's cache."""
    return max(1, CACHED_VALUES // dim)


def split_layers(values: object, side: str) -> dict[str, AnyArray]:
    """Convert the arrays of a caller to named matrices over the same rows.

    Parameters
    ----------
    values : array of shape (n, d) or (n, L, d), or mapping of name to array of shape (n, d)
        float16, bfloat16, float32 or float64; (n, L, d) gives the layers "0", "1", ...
    side : str
        Name of the side in error messages: "a" or "b".

    Raises
    ------
    InvalidShape, UnsupportedDtype, TooFewRows, NonFiniteValues
    """
    if isinstance(values, Mapping):
        layers = {str(name): np.asarray(layer) for name, layer in values.items()}
    else:
        array = np.asarray(values)
        layers = {str(i): array[:, i] for i in range(array.shape[1])} if array.ndim == 3 else {"0": array}
    if not layers:
        raise InvalidShape(f"Side {side} has no layers.", hint="Pass at least one array of shape (n, d).")
    for name, layer in layers.items():
        check_matrix(layer, f"Layer {name!r} of side {side}")
    counts = {len(layer) for layer in layers.values()}
    if len(counts) > 1:
        raise InvalidShape(f"The layers of {side} have different numbers of rows.", value=sorted(counts))
    return layers


def check_matrix(array: AnyArray, what: str) -> None:
    """Raise an error unless the array is a finite float matrix of at least 4 rows and 1 column."""
    if array.ndim != 2 or array.shape[1] == 0:
        raise InvalidShape(
            f"{what} has shape {array.shape}; it must be (n, d) with d >= 1.",
            value=array.shape,
            hint="Pass one row per item; pass several layers as an array of shape (n, L, d).",
        )
    if array.dtype not in _DTYPES:
        raise UnsupportedDtype(
            f"{what} has the type {array.dtype}, which is not supported.",
            value=array.dtype,
            hint="Use float16, bfloat16, float32 or float64.",
        )
    if len(array) < ROWS_MIN:
        raise TooFewRows(
            f"{what} has {len(array)} rows; at least {ROWS_MIN} are needed.", value=len(array), limit=ROWS_MIN
        )
    check_finite(array, what)


def check_finite(array: AnyArray, what: str, first: int = 0) -> None:
    """Raise an error for NaN and infinity, also for values too large for float32; `first` is the first row's number."""
    step = cached_rows(array.shape[1])
    for start in range(0, len(array), step):
        with np.errstate(over="ignore"):
            finite = np.isfinite(array[start : start + step].astype(np.float32, copy=False))
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            value = array[start + row, column]
            raise NonFiniteValues(
                f"{what} contains {value} in row {first + start + row}, column {column}.",
                value=value,
                hint="Every value must be finite in float32: remove the row, or correct the model that computed it.",
            )


def count_duplicates(blocks: Iterable[AnyArray]) -> int:
    """Count the rows that equal an earlier row bit for bit, in a layer given by blocks of rows.

    Rows are compared by a random 64-bit linear hash of their bits: a false match has probability below n^2 / 2^64.
    """
    hashes = np.concatenate([_hash_rows(block) for block in blocks])
    return len(hashes) - len(np.unique(hashes))


def _hash_rows(array: AnyArray) -> npt.NDArray[np.uint64]:
    weights = np.random.default_rng(0).integers(1, 2**63, size=array.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(array), dtype=np.uint64)
    step = cached_rows(array.shape[1])
    for start in range(0, len(array), step):
        bits = np.ascontiguousarray(array[start : start + step], dtype=np.float32).view(np.uint32)
        hashes[start : start + step] = (bits * weights).sum(axis=1)
    return hashes
