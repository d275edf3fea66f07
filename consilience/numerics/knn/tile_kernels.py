"""Compiled selection of neighbours from tiles of similarities.

The candidates of a row are keys: a similarity and an id in 64 bits, such that smaller keys are better.
"""

import numba as nb
import numpy as np
import numpy.typing as npt

from consilience.numerics.knn.accelerated.lanes import LANES, lowest_bit, mask_reaching, mask_reaching_each, read_value
from consilience.numerics.rows.arrays import AnyArray, CountArray, Float32Array, IdArray

KeyArray = npt.NDArray[np.uint64]

#: Larger, and so worse, than every key.
NO_KEY = np.uint64(0xFFFFFFFFFFFFFFFF)

_SINGLES = nb.types.Array(nb.float32, 2, "C", readonly=True)
_IDS = nb.types.Array(nb.int32, 2, "C", readonly=True)
_COUNTS = nb.int64[::1]
_ANY_KEYS = nb.types.Array(nb.uint64, 2, "A", readonly=True)
_SIGN, _BELOW_SIGN = np.uint32(1 << 31), np.uint32((1 << 31) - 1)
_WORD = np.uint64(32)


# Helpers have no signature: they are compiled into the kernels and not loaded separately.


@nb.njit(nogil=True)
def make_key(value: np.float32, item: int | np.int64) -> np.uint64:
    """Return the key of a similarity and an id."""
    bits = np.float32(value + np.float32(0)).view(np.uint32)  # -0 becomes 0
    descending = bits if bits & _SIGN else bits ^ _BELOW_SIGN
    return np.uint64(descending) << _WORD | np.uint64(item)


@nb.njit(nogil=True)
def key_value(key: np.uint64) -> np.float32:
    """Return the similarity of a key."""
    descending = np.uint32(key >> _WORD)
    return np.uint32(descending if descending & _SIGN else descending ^ _BELOW_SIGN).view(np.float32)


@nb.njit(nogil=True)
def key_item(key: np.uint64) -> np.int64:
    """Return the id of a key."""
    return np.int64(np.uint32(key))


@nb.njit(nb.void(_ANY_KEYS, nb.int64, nb.int64, nb.int32[:, ::1], nb.float32[:, ::1]), cache=True, nogil=True)
def read_keys(keys: KeyArray, start: int, stop: int, ids: IdArray, similarities: Float32Array) -> None:
    """Write the ids and similarities of the keys of some rows."""
    for row in range(start, stop):
        for t in range(ids.shape[1]):
            ids[row, t] = key_item(keys[row, t])
            similarities[row, t] = key_value(keys[row, t])


@nb.njit(
    nb.void(_SINGLES, _IDS, _COUNTS, nb.uint64[:, ::1], nb.int64, nb.int64),
    cache=True,
    nogil=True,
)
def make_keys(  # noqa: PLR0917 - numba takes arguments by position
    similarities: Float32Array, ids: IdArray, counts: CountArray, keys: KeyArray, start: int, stop: int
) -> None:
    """Write the keys of some rows' candidates, followed by `NO_KEY`."""
    for row in range(start, stop):
        for t in range(keys.shape[1]):
            keys[row, t] = make_key(similarities[row, t], ids[row, t]) if t < counts[row] else NO_KEY


_KEYS = nb.uint64[:, ::1]
_CONSTANT_IDS = nb.types.Array(nb.int32, 1, "C", readonly=True)
_CONSTANT_SINGLES = nb.types.Array(nb.float32, 1, "C", readonly=True)
#: Types of the arguments of `select_from_tile` after the tile.
SELECTION = (
    *(nb.int64, nb.int64, nb.boolean),
    *(_CONSTANT_SINGLES, _CONSTANT_IDS, _CONSTANT_IDS),
    *(_KEYS, nb.int64[::1], nb.float32[::1], nb.uint64[::1], nb.int64),
)
_ONE = np.uint64(1)


@nb.njit(nogil=True)
def partition(keys: KeyArray, row: int, count: int, k: int) -> None:
    """Move the k smallest of a row's first `count` keys to the front, the largest of them last (Hoare's selection)."""
    low, high = 0, count - 1
    while low < high:
        first, middle, last = keys[row, low], keys[row, (low + high) >> 1], keys[row, high]
        pivot = max(min(first, middle), min(max(first, middle), last))
        i, j = low, high
        while i <= j:
            while keys[row, i] < pivot:
                i += 1
            while keys[row, j] > pivot:
                j -= 1
            if i <= j:
                keys[row, i], keys[row, j] = keys[row, j], keys[row, i]
                i += 1
                j -= 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            return


@nb.njit(nb.void(nb.float32[:, ::1], *SELECTION), cache=True, nogil=True)
def select_from_tile(  # noqa: PLR0917 - numba takes arguments by position
    tile: AnyArray,
    first_row: int,
    first_column: int,
    mirrored: bool,
    shifts: Float32Array,
    items: IdArray,
    owner: IdArray,
    keys: KeyArray,
    counts: CountArray,
    limits: Float32Array,
    floors: KeyArray,
    k: int,
) -> None:
    """Add a tile's similarities to the candidates of its rows and, if `mirrored`, of its columns.

    A row collects keys beyond its best k until its space is full. Then it is truncated to its best k, and the worst of them
    becomes its floor and its limit. Values below a limit are skipped 64 at a time. One loop contains everything, because calls
    of functions with arrays count references.

    Parameters
    ----------
    tile : array of shape (h, w), float32, or uint16 with the bits of bfloat16
        The memory after it must be readable up to the next 64 values.
    first_row, first_column : positions of the tile's first row and column in the arrays below
    mirrored : whether columns collect candidates too; False for a tile on the diagonal
    shifts : array of shape (m + 64,), float32
        A similarity is a value of the tile plus the shifts of its row and of its column.
    items, owner : arrays of shape (m,), int32: id and group of each position; rows of the same group are excluded
    keys : array of shape (m, room), room > k
    counts : array of shape (m,), number of keys of each position
    limits : array of shape (m + 64,), float32, initially minus infinity or a value that k similarities reach
    floors : array of shape (m,), the k-th best key of a truncated row, else `NO_KEY`
    """
    height, width = tile.shape
    room = keys.shape[1]
    values, column_shifts, bounds = tile.ctypes.data, shifts.ctypes.data, limits.ctypes.data
    for r in range(height):
        i = first_row + r
        shift = shifts[i]
        for c in range(0, width, LANES):
            at = values + tile.itemsize * (r * width + c)
            above, below = column_shifts + 4 * (first_column + c), bounds + 4 * (first_column + c)
            rows = mask_reaching(tile, at, shift, above, limits[i])
            columns = mask_reaching_each(tile, at, shift, above, below) if mirrored else np.uint64(0)
            if not rows | columns:
                continue
            inside = (_ONE << np.uint64(width - c)) - _ONE if width - c < LANES else ~np.uint64(0)
            for turn in range(2):
                found = inside & (columns if turn else rows)
                while found:
                    lane = lowest_bit(found)
                    found &= found - _ONE
                    j = first_column + c + lane
                    if owner[i] == owner[j]:
                        continue
                    place, other = (j, i) if turn else (i, j)
                    key = make_key(read_value(tile, at + tile.itemsize * lane) + shift + shifts[j], items[other])
                    if key > floors[place]:
                        continue  # as similar as the k-th, but with a larger id
                    count = counts[place]
                    keys[place, count] = key
                    counts[place] = count + 1
                    if count + 1 == room:
                        partition(keys, place, room, k)
                        floors[place] = keys[place, k - 1]
                        limits[place] = key_value(floors[place])
                        counts[place] = k


@nb.njit(nb.void(_KEYS, nb.int64[::1], nb.int64, nb.int64, nb.int64), cache=True, nogil=True)
def truncate_keys(keys: KeyArray, counts: CountArray, k: int, start: int, stop: int) -> None:
    """Move the best k keys of some rows to the front, in any order, followed by `NO_KEY` if there are fewer."""
    for row in range(start, stop):
        if counts[row] > k:
            partition(keys, row, counts[row], k)
            counts[row] = k
        for t in range(counts[row], k):
            keys[row, t] = NO_KEY
