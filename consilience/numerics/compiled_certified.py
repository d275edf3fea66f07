"""Compiled steps of the search in bfloat16: rounding rows, and deciding among the candidates by the rows themselves."""

import numba as nb
import numpy as np
import numpy.typing as npt

from consilience.numerics.arrays import Float32Array, Float64Array
from consilience.numerics.compiled import BoolArray, CountArray
from consilience.numerics.compiled_tiles import KeyArray, key_value, make_key

BitsArray = npt.NDArray[np.uint16]

_SINGLES = nb.types.Array(nb.float32, 2, "C", readonly=True)
_DOUBLES = nb.types.Array(nb.float64, 1, "C", readonly=True)
_COUNTS = nb.types.Array(nb.int64, 1, "C", readonly=True)
_KEYS = nb.uint64[:, ::1]
_MASK = nb.boolean[::1]
_LOOSE = {"reassoc", "contract"}
_HALF, _ONE, _SHIFT = np.uint32(0x7FFF), np.uint32(1), np.uint32(16)
_ALL = np.uint32(0xFFFFFFFF)


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
    bits : array of shape (n, d), the rounded rows
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
        measures[0, row], measures[1, row] = whole, rounded
        measures[2, row], measures[3, row] = left, along


@nb.njit(nb.void(_SINGLES, nb.int64, _KEYS, nb.int64, nb.int64), cache=True, nogil=True, fastmath=_LOOSE)
def _decide(x: Float32Array, row: int, keys: KeyArray, first: int, last: int) -> None:
    """Give some of a row's keys the true similarities: summed in float64, then rounded."""
    for t in range(first, last):
        item = np.int64(_ALL - np.uint32(keys[row, t]))
        total = 0.0
        for c in range(x.shape[1]):
            total += np.float64(x[row, c]) * np.float64(x[item, c])
        keys[row, t] = make_key(np.float32(total), int(item))


@nb.njit(
    nb.void(_SINGLES, _KEYS, _COUNTS, _DOUBLES, nb.int64, nb.int64, nb.int64, nb.int64, _MASK), cache=True, nogil=True
)
def decide_rows(  # noqa: PLR0917 - the same
    x: Float32Array,
    keys: KeyArray,
    counts: CountArray,
    errors: Float64Array,
    k: int,
    kept: int,
    start: int,
    stop: int,
    certified: BoolArray,
) -> None:
    """Put the k best of some rows' candidates first, by their true similarities, and tell which rows are certified.

    Candidates that the bound keeps below the k-th need no true similarity. A row is certified where it keeps everything below
    that is no candidate.

    Parameters
    ----------
    keys : array of shape (n, at least kept): each row's candidates, most similar first
    counts : array of shape (n,), how many each row found; with fewer than `kept`, all others of the row are candidates
    errors : array of shape (n,), how far a similarity that was found can be from the true one
    """
    for row in range(start, stop):
        count = min(counts[row], kept)
        worst = np.float64(key_value(keys[row, count - 1]))
        _decide(x, row, keys, 0, k)
        least = np.float64(key_value(keys[row, :k].min()))
        last = k
        while last < count and key_value(keys[row, last]) >= least - errors[row]:
            last += 1
        _decide(x, row, keys, k, last)
        keys[row, :last] = np.sort(keys[row, :last])[::-1]
        certified[row] = count < kept or key_value(keys[row, k - 1]) > worst + errors[row]
