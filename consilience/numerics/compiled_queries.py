"""Compiled selection of the best similarities of a tile, kept as keys."""

import numba as nb
import numpy as np
import numpy.typing as npt

from consilience.numerics.arrays import Float32Array, IdArray
from consilience.numerics.compiled_keys import NO_KEY, KeyArray, key_value, make_key

_TILE = nb.types.Array(nb.float32, 2, "C", readonly=True)
_ITEMS = nb.types.Array(nb.int32, 1, "C", readonly=True)
#: Columns looked at in one go: most hold nothing that is good enough.
_CHUNK = 64


@nb.njit(
    nb.void(_TILE, nb.int64, nb.int64, _ITEMS, _ITEMS, _ITEMS, nb.uint64[:, :], nb.int64[:], nb.uint64[:], nb.int64),
    cache=True,
    nogil=True,
)
def keep_best(  # noqa: PLR0917 - nested loops are what a kernel is, and compiled code takes no keywords
    tile: Float32Array,
    start: int,
    stop: int,
    ids: IdArray,
    groups: IdArray,
    own: IdArray,
    keys: KeyArray,
    counts: npt.NDArray[np.int64],
    floors: KeyArray,
    k: int,
) -> None:
    """Add the columns start to stop of a tile of similarities to the best of each row, in place.

    Parameters
    ----------
    tile : array of shape (q, b)
    ids, groups : arrays of shape (b,), the number and the group of each column's row
    own : array of shape (q,), the group of each row: its columns are left out
    keys : array of shape (q, w), w > k; the first `counts` of each row are candidates, among them its best k so far
    counts : array of shape (q,)
    floors : array of shape (q,), the worst of the best k so far, NO_KEY before there are k
    """
    width = keys.shape[1]
    for i in range(tile.shape[0]):
        floor, count, mine = floors[i], counts[i], own[i]
        least = np.float32(-np.inf) if floor == NO_KEY else key_value(floor)
        for first in range(start, stop, _CHUNK):
            last = min(first + _CHUNK, stop)
            chunk, hits = tile[i, first:last], np.int32(0)
            for c in range(len(chunk)):  # in this form the compiler looks at many columns at once
                hits |= np.int32(chunk[c] >= least)
            if hits == 0:
                continue
            for c in range(first, last):
                if tile[i, c] < least or groups[c] == mine:
                    continue
                key = make_key(tile[i, c], ids[c])
                if key > floor:
                    continue
                keys[i, count] = key
                count += 1
                if count == width:
                    keys[i, :] = np.sort(keys[i])
                    count = k
                    floor = keys[i, k - 1]
                    least = key_value(floor)
        floors[i], counts[i] = floor, count
