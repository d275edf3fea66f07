"""Compiled selection of the best similarities of a tile, kept as keys that sort by similarity, then by id.

A key's upper 32 bits are the similarity's, turned so that they sort like it; the lower 32 are the id's complement. Larger is
better, no two are equal, and 0 is none: so the best k of any keys are the same in whatever order they come.
"""

import numba as nb
import numpy as np
import numpy.typing as npt

from consilience.numerics.arrays import Float32Array, IdArray

KeyArray = npt.NDArray[np.uint64]

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
    floors : array of shape (q,), a key that k others are known to reach, 0 before there are k
    """
    width = keys.shape[1]
    scratch = np.empty(2, np.float32)
    bits = scratch.view(np.uint32)
    sign, all_bits, low = np.uint32(0x80000000), np.uint32(0xFFFFFFFF), np.uint64(0xFFFFFFFF)
    for i in range(tile.shape[0]):
        floor, count, mine = floors[i], counts[i], own[i]
        bits[0] = np.uint32(floor >> np.uint64(32))
        bits[0] ^= sign if bits[0] & sign else all_bits
        least = scratch[0] if floor else np.float32(-np.inf)
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
                scratch[1] = tile[i, c] + np.float32(0.0)  # minus zero is zero
                bits[1] ^= all_bits if bits[1] & sign else sign
                key = (np.uint64(bits[1]) << np.uint64(32)) | (low - np.uint64(ids[c]))
                if key < floor:
                    continue
                keys[i, count] = key
                count += 1
                if count == width:
                    keys[i, :] = np.sort(keys[i])[::-1]
                    count = k
                    floor = keys[i, k - 1]
                    bits[0] = np.uint32(floor >> np.uint64(32))
                    bits[0] ^= sign if bits[0] & sign else all_bits
                    least = scratch[0]
        floors[i], counts[i] = floor, count
