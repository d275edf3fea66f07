"""Compiled overlaps of neighbour lists in many galleries of fewer items at once."""

import numba as nb
import numpy as np
import numpy.typing as npt

from consilience.numerics.arrays import IdArray
from consilience.numerics.compiled import CountArray

#: Rows by galleries: 1 where the item is in the gallery.
Membership = npt.NDArray[np.uint16]

_IDS = nb.types.Array(nb.int32, 2, "C", readonly=True)
_LIST = nb.types.Array(nb.int32, 1, "C", readonly=True)
_FLAGS = nb.types.Array(nb.uint16, 2, "C", readonly=True)
_COUNTS = nb.types.UniTuple(nb.int64[::1], 2)  # type: ignore[no-untyped-call]  # numba is partly typed


@nb.njit(nb.void(_LIST, _FLAGS, nb.int64, nb.uint16[:, ::1], nb.uint16[::1]), cache=True, nogil=True)
def take_first(ids: IdArray, kept: Membership, k: int, taken: Membership, counts: Membership) -> None:
    """Mark, for every gallery, the first k neighbours of a row that are in it; count them."""
    counts[:] = 0
    for t in range(len(ids)):
        flags = kept[ids[t]]
        for part in range(kept.shape[1]):
            taken[t, part] = flags[part] * (counts[part] < k)
            counts[part] += taken[t, part]


@nb.njit(_COUNTS(_IDS, _IDS, _FLAGS, nb.int64), cache=True, nogil=True)
def overlap_in_parts(a: IdArray, b: IdArray, kept: Membership, k: int) -> tuple[CountArray, CountArray]:
    """Overlaps of the first k kept neighbours of all rows, for every gallery.

    Parameters
    ----------
    a, b : arrays of shape (n, width), int32
    kept : array of shape (n, parts), uint16

    Returns
    -------
    overlaps : (parts,), summed over the kept rows of which both lists have k kept neighbours
    rows : (parts,), how many these are
    """
    n, width = a.shape
    parts = kept.shape[1]
    taken_a, taken_b = np.empty((width, parts), np.uint16), np.empty((b.shape[1], parts), np.uint16)
    counts_a, counts_b, shared = np.empty(parts, np.uint16), np.empty(parts, np.uint16), np.empty(parts, np.uint16)
    place = np.full(n, -1, np.int32)
    overlaps, rows = np.zeros(parts, np.int64), np.zeros(parts, np.int64)
    for i in range(n):
        take_first(a[i], kept, k, taken_a, counts_a)
        take_first(b[i], kept, k, taken_b, counts_b)
        for t in range(b.shape[1]):
            place[b[i, t]] = t
        shared[:] = 0
        for t in range(width):
            other = place[a[i, t]]
            if other >= 0:
                for part in range(parts):
                    shared[part] += taken_a[t, part] & taken_b[other, part]
        for part in range(parts):
            whole = kept[i, part] * (counts_a[part] == k) * (counts_b[part] == k)
            overlaps[part] += shared[part] * whole
            rows[part] += whole
        for t in range(b.shape[1]):
            place[b[i, t]] = -1
    return overlaps, rows
