"""Compiled steps of the search in bfloat16: rounding rows, and deciding among the candidates by the rows themselves."""

import numba as nb
import numpy as np
import numpy.typing as npt

from consilience.numerics.arrays import Float32Array, Float64Array, IdArray
from consilience.numerics.compiled import CountArray
from consilience.numerics.compiled_keys import NO_KEY, KeyArray, key_item, key_value, make_key
from consilience.numerics.compiled_tiles import SELECTION, select

BitsArray = npt.NDArray[np.uint16]

_SINGLES = nb.types.Array(nb.float32, 2, "C", readonly=True)
_DOUBLES = nb.types.Array(nb.float64, 1, "C", readonly=True)
_COUNTS = nb.int64[::1]
_IDS = nb.types.Array(nb.int32, 1, "C", readonly=True)
_IDS_OF_ROWS = nb.types.Array(nb.int32, 2, "C", readonly=True)
_LOOSE = {"reassoc", "contract"}
_HALF, _ONE, _SHIFT = np.uint32(0x7FFF), np.uint32(1), np.uint32(16)


#: `select` for tiles of bfloat16, as bits.
select_rounded = nb.njit(nb.void(nb.uint16[:, ::1], *SELECTION), cache=True, nogil=True)(select.py_func)


@nb.njit(
    nb.void(_SINGLES, _DOUBLES, nb.int64, nb.int64, nb.uint16[:, ::1], nb.float64[:, ::1]),
    cache=True,
    nogil=True,
    fastmath=_LOOSE,
)
def round_rows(  # noqa: PLR0917 - numba takes arguments by position
    x: Float32Array, centre: Float64Array, start: int, stop: int, bits: BitsArray, measures: Float64Array
) -> None:
    """Subtract a centre from some rows and round them to bfloat16: to the nearest, of two equally near to the even one.

    Parameters
    ----------
    bits : array of shape (n, d or more), the rounded rows, zeros behind them
    measures : array of shape (4, n)
        Squared lengths of the centred row, of the rounded one and of their difference; the row's inner product with the centre.
    """
    for row in range(start, stop):
        whole = rounded = left = along = 0.0
        for c in range(x.shape[1]):
            value = np.float64(x[row, c]) - centre[c]
            word = np.float32(value).view(np.uint32)
            word = (word + _HALF + (word >> _SHIFT & _ONE)) >> _SHIFT
            bits[row, c] = np.uint16(word)
            near = np.float64(np.uint32(word << _SHIFT).view(np.float32))
            whole += value * value
            rounded += near * near
            left += (value - near) * (value - near)
            along += np.float64(x[row, c]) * centre[c]
        for c in range(x.shape[1], bits.shape[1]):
            bits[row, c] = 0
        measures[0, row], measures[1, row] = whole, rounded
        measures[2, row], measures[3, row] = left, along


@nb.njit(nogil=True, fastmath=_LOOSE)
def _decide(x: Float32Array, row: int, keys: KeyArray, first: int, last: int) -> None:
    """Give some of a row's keys the true similarities: summed in float64, then rounded; two at once hide the way to memory."""
    for t in range(first, last, 2):
        u = min(t + 1, last - 1)
        item, other = key_item(keys[t]), key_item(keys[u])
        total = total_other = 0.0
        for c in range(x.shape[1]):
            value = np.float64(x[row, c])
            total += value * np.float64(x[item, c])
            total_other += value * np.float64(x[other, c])
        keys[t] = make_key(np.float32(total), item)
        keys[u] = make_key(np.float32(total_other), other)


@nb.njit(
    nb.void(_SINGLES, _IDS, nb.uint64[:, :], _COUNTS, _DOUBLES, nb.int64, nb.int64, nb.int64), cache=True, nogil=True
)
def decide_rows(  # noqa: PLR0917 - the same
    x: Float32Array,
    rows: IdArray,
    keys: KeyArray,
    counts: CountArray,
    errors: Float64Array,
    k: int,
    start: int,
    stop: int,
) -> None:
    """Give some rows' candidates their true similarities; those that cannot be among the k best become `NO_KEY`.

    Parameters
    ----------
    rows : array of shape (m,), the rows' ids
    keys : array of shape (m, any): each row's candidates, most similar first
    counts : array of shape (m,), how many candidates each row has, at least k
    errors : array of shape (m,), how far a similarity that was found can be from the true one
    start, stop : places in these arrays
    """
    for place in range(start, stop):
        row, own, least = rows[place], keys[place], np.float32(np.inf)
        _decide(x, row, own, 0, k)
        for t in range(k):
            least = min(least, key_value(own[t]))
        last = k
        while last < counts[place] and key_value(own[last]) >= np.float64(least) - errors[place]:
            last += 1
        _decide(x, row, own, k, last)
        own[last : counts[place]] = NO_KEY


@nb.njit(
    nb.void(_SINGLES, _IDS_OF_ROWS, _COUNTS, nb.uint64[:, ::1], nb.int64, nb.int64),
    cache=True,
    nogil=True,
)
def make_keys(  # noqa: PLR0917 - the same
    similarities: Float32Array, ids: IdArray, counts: CountArray, keys: KeyArray, start: int, stop: int
) -> None:
    """Write the keys of some rows' candidates, `NO_KEY` after them."""
    for row in range(start, stop):
        for t in range(keys.shape[1]):
            keys[row, t] = make_key(similarities[row, t], ids[row, t]) if t < counts[row] else NO_KEY
