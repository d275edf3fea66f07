"""Keys: a similarity and an id in one integer, so that a smaller key is a better neighbour.

That is a larger similarity, and of equal ones the smaller id. No two keys of a row are equal, and so its best k are the same in
whatever order they come, and however what was found is merged.
"""

import numba as nb
import numpy as np
import numpy.typing as npt

from consilience.numerics.arrays import Float32Array, IdArray

KeyArray = npt.NDArray[np.uint64]

#: Worse than every key.
NO_KEY = np.uint64(0xFFFFFFFFFFFFFFFF)

_ANY_KEYS = nb.types.Array(nb.uint64, 2, "A", readonly=True)
_SIGN, _BELOW_SIGN = np.uint32(1 << 31), np.uint32((1 << 31) - 1)
_WORD = np.uint64(32)


# Helpers have no signature: they become part of the kernels, and are not loaded for themselves.


@nb.njit(nogil=True)
def make_key(value: np.float32, item: int | np.int64) -> np.uint64:
    """The key of a similarity and an id."""
    bits = np.float32(value + np.float32(0)).view(np.uint32)  # -0 becomes 0
    descending = bits if bits & _SIGN else bits ^ _BELOW_SIGN
    return np.uint64(descending) << _WORD | np.uint64(item)


@nb.njit(nogil=True)
def key_value(key: np.uint64) -> np.float32:
    """The similarity that a key holds."""
    descending = np.uint32(key >> _WORD)
    return np.uint32(descending if descending & _SIGN else descending ^ _BELOW_SIGN).view(np.float32)


@nb.njit(nogil=True)
def key_item(key: np.uint64) -> np.int64:
    """The id that a key holds."""
    return np.int64(np.uint32(key))


@nb.njit(nb.void(_ANY_KEYS, nb.int64, nb.int64, nb.int32[:, ::1], nb.float32[:, ::1]), cache=True, nogil=True)
def read_keys(keys: KeyArray, start: int, stop: int, ids: IdArray, similarities: Float32Array) -> None:
    """Write the ids and similarities that the keys of some rows hold."""
    for row in range(start, stop):
        for t in range(ids.shape[1]):
            ids[row, t] = key_item(keys[row, t])
            similarities[row, t] = key_value(keys[row, t])
