"""Whether scores rise: in bins of a number, and along the levels of a factor."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import atanh, sqrt, tanh
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from consilience.numerics.neighbour_overlap.kernels import BoolArray
from consilience.numerics.rows.arrays import Float64Array
from consilience.numerics.stats.correlations import EXACT_MAX, TOLERANCE, Correlation, all_orders, average_ranks

#: Random orders of the models for the p-value.
DRAWS = 999


def agree(x: Float64Array, y: Float64Array, *, square: bool, level: float = 0.95, seed: int = 0) -> Correlation | None:
    """Rank correlation of two metrics over the pairs of models of a study.

    Pairs share models, so that neither an interval nor a p-value may count pairs as if each were new. The interval is that of
    the jackknife over models, on Fisher's scale: every row, and every column, left out in turn, their variances added. The
    p-value is Mantel's: the models of one metric change places, 999 times at random.

    Parameters
    ----------
    x, y : arrays of shape (rows, columns)
        The scores of two metrics; NaN where a pair has none, such as the lower triangle and diagonal of models against
        themselves.
    square : bool
        Whether rows and columns are the same models: then both are left out and change places together.
    seed : int

    Returns
    -------
    Correlation, or None with fewer than 3 pairs or where one of the metrics is constant. `low` and `high` are None where
    leaving out a model leaves too little.

    References
    ----------
    Mantel 1967, Cancer Research 27:209-220; Huh et al. 2024, arXiv 2405.07987, figure 12.

    Examples
    --------
    >>> x = np.arange(12.0).reshape(3, 4)
    >>> agree(x, x**3, square=False).value
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
    """Both triangles of a symmetric matrix, from whichever is filled; no diagonal."""
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
    """(1 + draws at least as far from 0) / (draws + 1); pairs keep their ranks when models change places."""
    rng = np.random.default_rng(seed)
    move = _move_together(rng) if square else _move_apart(rng)
    a, b = (average_ranks(side).reshape(side.shape) for side in (x, y))
    value = abs(_linear(a, b)) - TOLERANCE
    return (1 + sum(not abs(_linear(a, move(b))) < value for _ in range(DRAWS))) / (DRAWS + 1)


def _linear(a: Float64Array, b: Float64Array) -> float:
    """Correlation over the entries that both have; NaN where one of them is constant there."""
    known = ~np.isnan(a) & ~np.isnan(b)
    x, y = (side[known] - side[known].mean() for side in (a, b))
    length = sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / length if length else float("nan")


def _move_together(rng: np.random.Generator) -> Callable[[Float64Array], Float64Array]:
    def move(side: Float64Array) -> Float64Array:
        order = rng.permutation(len(side))
        return np.asarray(side[np.ix_(order, order)])

    return move


def _move_apart(rng: np.random.Generator) -> Callable[[Float64Array], Float64Array]:
    def move(side: Float64Array) -> Float64Array:
        return np.asarray(side[np.ix_(rng.permutation(side.shape[0]), rng.permutation(side.shape[1]))])

    return move


Alternative = Literal["rising", "falling", "either"]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bin:
    """The models whose number lies in [low, high), the last bin with its end.

    Attributes
    ----------
    n : models in it
    mean : of their scores; None where there are none
    se : the standard error of the mean over models; None below 2 models (3 for pairs)
    """

    low: float
    high: float
    n: int
    mean: float | None
    se: float | None


def cut(x: Float64Array, count: int) -> Float64Array:
    """Edges of bins that hold as many models each as can be; equal values stay together, so that there may be fewer bins.

    Examples
    --------
    >>> cut(np.array([1.0, 2, 3, 4, 5, 6]), 3).tolist()
    [1.0, 3.0, 5.0, 6.0]
    """
    inner = np.sort(x)[[round(i * len(x) / count) for i in range(1, count)]]
    return np.unique(np.concatenate([[x.min()], inner[inner > x.min()], [x.max()]]))


def bin_means(x: Float64Array, y: Float64Array, edges: Float64Array) -> list[Bin]:
    """Mean score of the models in each bin, with its standard error s / sqrt(n).

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
    """Mean score of the pairs of models inside each bin: the article's figure 2.

    Pairs share models, so that the spread over pairs would make the standard error too small: it is that of the jackknife over
    models, sqrt((m - 1)/m sum (v_j - mean)^2), v_j the mean without model j.

    Parameters
    ----------
    x : array of shape (n,)
    scores : array of shape (n, n), symmetric
        NaN where a pair has no score; the diagonal is not read.
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
        (low, high, (x >= low) & ((x < high) | ((place == len(spans) - 1) & (x <= high))))
        for place, (low, high) in enumerate(spans)
    ]


@dataclass(frozen=True)
class Monotone:
    """Whether scores rise along the levels of a factor.

    Attributes
    ----------
    value : mean over blocks of the rank correlation of level and score: 1 where every block rises all the way, 0 at chance
    p_value : of no trend
    exact : whether all orders were gone through
    levels, blocks : how many there are
    """

    value: float
    p_value: float
    exact: bool
    levels: int
    blocks: int


def monotone_trend(
    scores: Float64Array, *, independent: bool = False, alternative: Alternative = "rising"
) -> Monotone | None:
    """Test whether scores rise with the level of a factor, such as the length of a caption.

    L = sum_b sum_j j r_bj, r_bj the rank of level j among the levels of block b. At chance the levels of a factor could change
    places. Where all blocks share the sets that stand for the levels (captions of rising length against several vision models),
    what is special about one set shows in every block: then all blocks change places together, which is the default, and the
    least p is 1 / levels!. With `independent`, each block changes places on its own: Page's test, too sure of itself where
    blocks share sets. Exact for up to 8 levels, with ties too; above, a normal law with the exact mean and variance.

    Parameters
    ----------
    scores : array of shape (blocks, levels)
        Finite, the levels in their order.
    independent : bool
        Whether no block shares a set with another.

    Returns
    -------
    Monotone, or None where all scores of every block are equal, or there are fewer than 3 levels

    References
    ----------
    Page 1963, JASA 58:216-230; with one block it is the exact test of Spearman's correlation.

    Examples
    --------
    Three levels rise in both blocks: one order of six, or of six times six.

    >>> rising = np.array([[0.1, 0.2, 0.3], [0.2, 0.5, 0.6]])
    >>> found, page = monotone_trend(rising), monotone_trend(rising, independent=True)
    >>> found.value, round(found.p_value * 6, 6), round(page.p_value * 36, 6)
    (1.0, 1.0, 1.0)
    """
    blocks, levels = scores.shape
    # Twice the ranks, so that shared ones are whole numbers too.
    ranks = np.rint(2 * average_ranks(scores, axis=1)).astype(np.int64) - (levels + 1)
    places = 2 * np.arange(levels, dtype=np.int64) - (levels - 1)
    spread = (ranks**2).sum(axis=1) * int((places**2).sum())
    if levels < 3 or not spread.any():
        return None
    moved = ranks if independent else ranks.sum(axis=0, keepdims=True)
    varied = spread > 0
    value = float((ranks @ places)[varied].astype(np.float64) @ (1 / np.sqrt(spread[varied])) / varied.sum())
    exact = levels <= EXACT_MAX
    p = (_exact_tail if exact else _normal_tail)(moved, places, alternative)
    return Monotone(value, p, exact, levels, blocks)


def _exact_tail(moved: IntArray, places: IntArray, alternative: Alternative) -> float:
    """P of a sum at least as large when each row is put in a random order of its own: the laws of the rows, folded."""
    law, observed = np.ones(1), int((moved @ places).sum())
    for row in moved:
        sums = row[all_orders(len(places))] @ places
        reach = int(np.abs(sums).max())
        law = np.convolve(law, np.bincount(sums + reach, minlength=2 * reach + 1) / len(sums))
    middle = len(law) // 2  # an order and its reverse have opposite sums
    sums = np.arange(len(law)) - middle
    return float(min(1.0, law[_as_far(sums, observed, alternative)].sum()))


def _as_far(sums: IntArray, observed: int, alternative: Alternative) -> BoolArray:
    if alternative == "either":
        return np.asarray(np.abs(sums) >= abs(observed))
    return np.asarray(sums >= observed if alternative == "rising" else sums <= observed)


def _normal_tail(moved: IntArray, places: IntArray, alternative: Alternative) -> float:
    """The same by a normal law: sum of row and place variances over levels - 1."""
    variance = float((moved**2).sum()) * float((places**2).sum()) / (len(places) - 1)
    z = float((moved @ places).sum()) / sqrt(variance)
    if alternative == "either":
        return 2 * float(ndtr(-abs(z)))
    return float(ndtr(-z if alternative == "rising" else z))
