"""Scores of single rows whose mean over all rows is a metric, where a row's own two lists do not settle them."""

from collections.abc import Callable

import numpy as np

from consilience.numerics.arrays import Float32Array, Float64Array, IdArray

#: The lists of some rows, of ascending ids: neighbours and similarities, (u, k).
Second = Callable[[IdArray], tuple[IdArray, Float32Array]]


def cycle_row_scores(queries: IdArray, stepped: IdArray, back: Second, k: int) -> Float64Array:
    """1 where some of a query's neighbours in one space has the query among its own k in the other, else 0.

    Parameters
    ----------
    queries : array of shape (m,), int32
    stepped : array of shape (m, k), int32
        The neighbours of each query in the space of the first step.
    back : callable
        Lists in the space of the step back; they are asked for once, of all stepped rows.
    """
    wanted = np.unique(stepped[stepped >= 0])
    lists = back(wanted)[0][:, :k]
    found = np.zeros(len(queries), np.bool_)
    for t in range(k):
        place = np.searchsorted(wanted, stepped[:, t]).clip(0, len(wanted) - 1)
        found |= (stepped[:, t] >= 0) & (lists[place] == queries[:, None]).any(axis=1)
    return found.astype(np.float64)
