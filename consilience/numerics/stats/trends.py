"""Trends of scores over models: agreement of two metrics, means in bins of a number, and trends along ordered levels."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import atanh, sqrt, tanh
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from consilience.numerics.rows.arrays import BoolArray, Float64Array
from consilience.numerics.stats.correlations import EXACT_MAX, TOLERANCE, Correlation, all_orders, average_ranks

#: Number of random orders of the models for the p-value.
DRAWS = 999


def correlate_metrics(
    x: Float64Array, y: Float64Array, *, square: bool, level: float = 0.95, seed: int = 0
) -> Correlation | None:
    """Rank correlation of two metrics over the pairs of models of a study.

    Pairs share models, so that neither the interval nor the p-value may treat pairs as independent. The interval is that of
    the jackknife over models, on Fisher's scale: every row, then every column, is left out in turn, and the variances add. The
    p-value is Mantel's: the models of one metric are permuted at random 999 times.

    Parameters
    ----------
    x, y : arrays of shape (rows, columns)
        The scores of two metrics; NaN for a pair without a score, such as the lower triangle and the diagonal of models
        against themselves.
    square : bool
        Whether rows and columns are the same models: then they are left out and permuted together.
    seed : int

    Returns
    -------
    Correlation, or None with fewer than 3 pairs or if one of the metrics is constant. `low` and `high` are None if too few
    pairs are left without some model.

    References
    ----------
    Mantel 1967, Cancer Research 27:209-220; Huh et al. 2024, arXiv 2405.07987, figure 12.

    Examples
    --------
    >>> x = np.arange(12.0).reshape(3, 4)
    >>> correlate_metrics(x, x**3, square=False).value
    1.0
    """
    if square:
        x, y = _mirror(x), _mirror(y)
    value = _rank_correlation(x, y)
    if value is None:
        return None
    pairs = int((~np.isnan(x) & ~np.isnan(y)).sum()) // (2 if square else 1)
    low, high = _jackknife(x, y, value, square=square, level=level)
    return Correlation(value, low, high, _mantel(x, y, square=square, seed=seed), exact=False, n=pairs)


def _mirror(x: Float64Array) -> Float64Array:
    """Fill both triangles of a symmetric matrix from the one that is filled, and set the diagonal to NaN."""
    full = np.where(np.isnan(x), x.T, x)
    np.fill_diagonal(full, np.nan)
    return full


def _rank_correlation(x: Float64Array, y: Float64Array) -> float | None:
    known = ~np.isnan(x) & ~np.isnan(y)
    if known.sum() < 3:
        return None
    a, b = (average_ranks(side[known]) - (known.sum() + 1) / 2 for side in (x, y))
    length = sqrt(float(a @ a) * float(b @ b))
    if length == 0:
        return None
    value = float(np.clip(a @ b / length, -1.0, 1.0))
    return float(np.sign(value)) if abs(value) >= 1 - TOLERANCE else value


def _jackknife(
    x: Float64Array, y: Float64Array, value: float, *, square: bool, level: float
) -> tuple[float | None, float | None]:
    if abs(value) == 1:
        return None, None

    def without(j: int, axis: int) -> float:
        def drop(side: Float64Array) -> Float64Array:
            kept = np.delete(side, j, axis)
            return np.delete(kept, j, 1) if square else kept

        found = _rank_correlation(drop(x), drop(y))
        return float("nan") if found is None else atanh(float(np.clip(found, -1 + TOLERANCE, 1 - TOLERANCE)))

    variance = 0.0
    for axis in (0,) if square else (0, 1):
        n = x.shape[axis]
        values = np.array([without(j, axis) for j in range(n)])
        variance += (n - 1) / n * float(((values - values.mean()) ** 2).sum())
    if np.isnan(variance):
        return None, None
    width = float(ndtri((1 + level) / 2)) * sqrt(variance)
    return tanh(atanh(value) - width), tanh(atanh(value) + width)


def _mantel(x: Float64Array, y: Float64Array, *, square: bool, seed: int) -> float:
    """Return (1 + number of draws at least as far from 0) / (draws + 1); ranks of pairs are permuted, not recomputed."""
    rng = np.random.default_rng(seed)
    permute = _permute_together(rng) if square else _permute_apart(rng)
    a, b = (average_ranks(side).reshape(side.shape) for side in (x, y))
    value = abs(_linear(a, b)) - TOLERANCE
    return (1 + sum(not abs(_linear(a, permute(b))) < value for _ in range(DRAWS))) / (DRAWS + 1)


def _linear(a: Float64Array, b: Float64Array) -> float:
    """Return the correlation over the entries that both have; NaN if one of them is constant there."""
    known = ~np.isnan(a) & ~np.isnan(b)
    x, y = (side[known] - side[known].mean() for side in (a, b))
    length = sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / length if length else float("nan")


def _permute_together(rng: np.random.Generator) -> Callable[[Float64Array], Float64Array]:
    def permute(side: Float64Array) -> Float64Array:
        order = rng.permutation(len(side))
        return np.asarray(side[np.ix_(order, order)])

    return permute


def _permute_apart(rng: np.random.Generator) -> Callable[[Float64Array], Float64Array]:
    def permute(side: Float64Array) -> Float64Array:
        return np.asarray(side[np.ix_(rng.permutation(side.shape[0]), rng.permutation(side.shape[1]))])

    return permute


Alternative = Literal["increasing", "decreasing", "two_sided"]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bin:
    """Models whose number lies in [low, high), or in [low, high] for the last bin.

    Attributes
    ----------
    n : number of models
    mean : their mean score; None without models
    se : standard error of the mean over models; None with fewer than 2 models (3 for pairs)
    """

    low: float
    high: float
    n: int
    mean: float | None
    se: float | None


def bin_edges(x: Float64Array, count: int) -> Float64Array:
    """Return edges of bins of nearly equal size; equal values share a bin, so that there may be fewer bins.

    Examples
    --------
    >>> bin_edges(np.array([1.0, 2, 3, 4, 5, 6]), 3).tolist()
    [1.0, 3.0, 5.0, 6.0]
    """
    inner = np.sort(x)[[round(i * len(x) / count) for i in range(1, count)]]
    return np.unique(np.concatenate([[x.min()], inner[inner > x.min()], [x.max()]]))


def bin_means(x: Float64Array, y: Float64Array, edges: Float64Array) -> list[Bin]:
    """Compute the mean score of the models in each bin, with its standard error s / sqrt(n).

    Parameters
    ----------
    x, y : arrays of shape (n,)
        The number and the score of each model.
    edges : array of shape (bins + 1,), rising

    Examples
    --------
    >>> [bin.mean for bin in bin_means(np.array([1.0, 2, 3, 4]), np.array([0.1, 0.3, 0.4, 0.6]), np.array([1.0, 3, 4]))]
    [0.2, 0.5]
    """

    def take(members: Float64Array, low: float, high: float) -> Bin:
        n = len(members)
        se = float(members.std(ddof=1)) / sqrt(n) if n > 1 else None
        return Bin(low, high, n, float(members.mean()) if n else None, se)

    return [take(y[inside], low, high) for low, high, inside in _spans(x, edges)]


def bin_pairs(x: Float64Array, scores: Float64Array, edges: Float64Array) -> list[Bin]:
    """Compute the mean score of the pairs of models inside each bin (Huh et al. 2024, figure 2).

    Pairs share models, so that the spread over pairs would underestimate the standard error. It is that of the jackknife over
    models, sqrt((m - 1)/m sum (v_j - mean)^2), v_j the mean without model j.

    Parameters
    ----------
    x : array of shape (n,)
    scores : array of shape (n, n), symmetric
        NaN for a pair without a score; the diagonal is not read.
    edges : array of shape (bins + 1,), rising
    """
    return [_mean_pairs(scores[np.ix_(inside, inside)], low, high) for low, high, inside in _spans(x, edges)]


def _mean_pairs(square: Float64Array, low: float, high: float) -> Bin:
    m = len(square)
    known = ~np.isnan(square) & ~np.eye(m, dtype=np.bool_)
    sums, counts = np.where(known, square, 0.0).sum(axis=1), known.sum(axis=1)
    if not counts.any():
        return Bin(low, high, m, None, None)
    total, pairs = sums.sum() / 2, counts.sum() / 2
    without = np.divide(total - sums, pairs - counts, where=pairs > counts, out=np.full(m, np.nan))
    se = sqrt((m - 1) / m * float(((without - without.mean()) ** 2).sum())) if m > 2 else float("nan")
    return Bin(low, high, m, float(total / pairs), None if np.isnan(se) else se)


def _spans(x: Float64Array, edges: Float64Array) -> list[tuple[float, float, BoolArray]]:
    spans = [(float(low), float(high)) for low, high in pairwise(edges)]
    return [
        (low, high, (x >= low) & ((x < high) | ((index == len(spans) - 1) & (x <= high))))
        for index, (low, high) in enumerate(spans)
    ]


@dataclass(frozen=True)
class MonotoneTrend:
    """Test of a monotone trend of scores along the levels of a factor.

    Attributes
    ----------
    value : mean over blocks of the rank correlation of level and score: 1 if every block rises throughout, 0 at chance
    p_value : of no trend
    exact : whether the p-value enumerates all orders
    levels, blocks : number of levels and of blocks
    """

    value: float
    p_value: float
    exact: bool
    levels: int
    blocks: int


def monotone_trend(
    scores: Float64Array, *, independent: bool = False, alternative: Alternative = "increasing"
) -> MonotoneTrend | None:
    """Test whether scores rise with the level of a factor, such as the length of a caption.

    L = sum_b sum_j j r_bj, r_bj the rank of level j among the levels of block b. At chance, all orders of the levels are
    equally likely. If all blocks share the sets that represent the levels (for example captions of increasing length against
    several vision models), a peculiarity of one set shows in every block: by default, the levels of all blocks are therefore
    permuted together, and the smallest p-value is 1 / levels!. With `independent`, the levels of each block are permuted
    separately (Page's test), which gives too small p-values if blocks share sets. Exact for up to 8 levels, also with ties; for
    more, by a normal distribution with the exact mean and variance.

    Parameters
    ----------
    scores : array of shape (blocks, levels)
        Finite, with the levels in order.
    independent : bool
        Whether no block shares a set with another.

    Returns
    -------
    Monotone, or None if all scores of every block are equal, or with fewer than 3 levels

    References
    ----------
    Page 1963, JASA 58:216-230; with one block it is the exact test of Spearman's correlation.

    Examples
    --------
    Scores rise over three levels in both blocks: one order of six, or of six times six.

    >>> rising = np.array([[0.1, 0.2, 0.3], [0.2, 0.5, 0.6]])
    >>> found, page = monotone_trend(rising), monotone_trend(rising, independent=True)
    >>> found.value, round(found.p_value * 6, 6), round(page.p_value * 36, 6)
    (1.0, 1.0, 1.0)
    """
    blocks, levels = scores.shape
    # Twice the ranks, so that shared ones are whole numbers too.
    ranks = np.rint(2 * average_ranks(scores, axis=1)).astype(np.int64) - (levels + 1)
    positions = 2 * np.arange(levels, dtype=np.int64) - (levels - 1)
    spread = (ranks**2).sum(axis=1) * int((positions**2).sum())
    if levels < 3 or not spread.any():
        return None
    moved = ranks if independent else ranks.sum(axis=0, keepdims=True)
    varied = spread > 0
    value = float((ranks @ positions)[varied].astype(np.float64) @ (1 / np.sqrt(spread[varied])) / varied.sum())
    exact = levels <= EXACT_MAX
    p = (_exact_tail if exact else _normal_tail)(moved, positions, alternative)
    return MonotoneTrend(value, p, exact, levels, blocks)


def _exact_tail(moved: IntArray, positions: IntArray, alternative: Alternative) -> float:
    """Return P of a sum at least as large if each row is permuted independently: a convolution over the rows."""
    distribution, observed = np.ones(1), int((moved @ positions).sum())
    for row in moved:
        sums = row[all_orders(len(positions))] @ positions
        reach = int(np.abs(sums).max())
        distribution = np.convolve(distribution, np.bincount(sums + reach, minlength=2 * reach + 1) / len(sums))
    middle = len(distribution) // 2  # an order and its reverse have opposite sums
    sums = np.arange(len(distribution)) - middle
    return float(min(1.0, distribution[_as_far(sums, observed, alternative)].sum()))


def _as_far(sums: IntArray, observed: int, alternative: Alternative) -> BoolArray:
    if alternative == "two_sided":
        return np.asarray(np.abs(sums) >= abs(observed))
    return np.asarray(sums >= observed if alternative == "increasing" else sums <= observed)


def _normal_tail(moved: IntArray, positions: IntArray, alternative: Alternative) -> float:
    """Approximate `_exact_tail` by a normal distribution with the exact variance."""
    variance = float((moved**2).sum()) * float((positions**2).sum()) / (len(positions) - 1)
    z = float((moved @ positions).sum()) / sqrt(variance)
    if alternative == "two_sided":
        return 2 * float(ndtr(-abs(z)))
    return float(ndtr(-z if alternative == "increasing" else z))
