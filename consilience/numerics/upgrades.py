"""What a swap of models finds: shares of lists, and ratios of their means with the intervals that drawing rows anew gives."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from consilience.numerics.arrays import Float64Array, IdArray
from consilience.numerics.compiled_lists import overlap_rows
from consilience.numerics.intervals import Bounds

#: Draws of a bootstrap.
DRAWS = 2000
#: Row numbers drawn at a time.
DRAWN_VALUES = 1 << 22
METHOD = "bootstrap"


def share_found(found: IdArray, wanted: IdArray, n: int) -> Float64Array:
    """The share of each row's k wanted ids that are among the k found: two arrays of shape (m, k), ids below n."""
    return np.asarray(overlap_rows(np.ascontiguousarray(found), np.ascontiguousarray(wanted), n))


def share_relevant(found: IdArray, relevant: Sequence[npt.NDArray[np.intp]]) -> Float64Array:
    """The share of each row's relevant ids that are among the k found; where there are more than k, the share of k.

    Parameters
    ----------
    found : array of shape (m, k), int32
    relevant : m arrays of different ids, none of them empty
    """
    k = found.shape[1]
    rows = zip(found, relevant, strict=True)
    return np.array([np.isin(ids, wanted).sum() / min(k, len(wanted)) for ids, wanted in rows])


def ratio_bounds(above: Float64Array, below: Float64Array | None, level: float, seed: int) -> Bounds | None:
    """Interval of mean(above) / mean(below) over rows drawn anew; of mean(above) where there is nothing below.

    The percentile bootstrap over rows: both means are of the same draw, so that what makes them rise together does not widen
    it. None where the mean below does not stand out from 0 at this level: the ratio could then be anything.

    Parameters
    ----------
    above, below : arrays of shape (m,), m >= 2
    level : float in (0, 1)

    References
    ----------
    Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    tails = [(1 - level) / 2, (1 + level) / 2]
    columns = np.column_stack([above, np.ones(len(above)) if below is None else below])
    means = np.concatenate([columns[rows].mean(axis=1) for rows in _draw(len(above), seed)])
    if columns[:, 1].mean() <= 0 or np.quantile(means[:, 1], tails[0]) <= 0:
        return None
    ratios = means[means[:, 1] > 0]
    low, high = np.quantile(ratios[:, 0] / ratios[:, 1], tails)
    return Bounds(float(low), float(high), METHOD)


def _draw(m: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Rows drawn with replacement, m a draw."""
    rng = np.random.default_rng(seed)
    step = max(1, DRAWN_VALUES // m)
    for start in range(0, DRAWS, step):
        yield rng.integers(0, m, (min(step, DRAWS - start), m))


def order_changed(shares: Float64Array, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Places of the rows whose neighbours changed most, those first; of equal ones the smaller row."""
    return np.lexsort((rows, shares))
