"""Ranks, ties sharing their mean. SciPy's are in `scipy.stats`, whose import takes half a second of every worker's start."""

from typing import Any

import numpy as np

from consilience.numerics.arrays import Float64Array


def average_ranks(values: Any, axis: int | None = None) -> Float64Array:
    """From 1 for the smallest; equal values share the mean of theirs, and NaN has none and stays.

    Parameters
    ----------
    values : array
        Of any shape.
    axis : int, optional
        Each line along it for itself; by default all values together, and the result is flat.
    """
    numbers = np.asarray(values, dtype=np.float64)
    return _rank(numbers.ravel()) if axis is None else np.apply_along_axis(_rank, axis, numbers)


def _rank(line: Float64Array) -> Float64Array:
    known = ~np.isnan(line)
    _, places, counts = np.unique(line[known], return_inverse=True, return_counts=True)
    ranks = np.full(line.shape, np.nan)
    ranks[known] = (counts.cumsum() - (counts - 1) / 2)[places]
    return ranks
