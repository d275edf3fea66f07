"""Means over all rows of a score that each row has, from some rows drawn at random without replacement.

The mean of m of n row scores is unbiased, and its standard error is sqrt((1 - m/n) s^2 / m), s^2 the variance of the row scores
that were drawn: it vanishes where all rows are asked.
"""

from dataclasses import dataclass
from math import ceil, inf, sqrt

import numpy as np
from scipy.special import stdtrit

from consilience.numerics.arrays import Float64Array
from consilience.numerics.intervals import Bounds
from consilience.numerics.permutations import Permutation

Limits = tuple[float | None, float | None]

#: More rows are drawn than the variance so far asks for, since it may be below the true one.
MARGIN = 1.05
METHOD = "query-subset"
#: Rows at the farther limit that may have been missed.
UNSEEN_ROWS = 0.1


def order_rows(n: int, seed: int) -> Permutation:
    """Put all rows in the one random order of a seed: its first m rows ask, its first g rows are the gallery of g rows."""
    return np.random.default_rng([seed, n]).permutation(n)


@dataclass(frozen=True)
class Estimate:
    """The mean of n row scores, from m of them.

    Attributes
    ----------
    value : float
    variance : the variance of the row scores, on m - 1 degrees of freedom
    m, n : rows that asked, and all rows
    """

    value: float
    variance: float
    m: int
    n: int

    @property
    def se(self) -> float:
        """The standard error of the mean, 0 where all rows asked."""
        return sqrt(max(0.0, 1 - self.m / self.n) * self.variance / self.m)


def estimate(row_scores: Float64Array, n: int) -> Estimate:
    """Estimate the mean of n row scores from the m >= 2 that were drawn."""
    return Estimate(float(row_scores.mean()), float(row_scores.var(ddof=1)), len(row_scores), n)


def gallery_bounds(found: Estimate, level: float, limits: Limits) -> Bounds:
    """Interval for the mean of all n row scores, these rows and no others.

    Between limits it is Wilson's interval for the effective number of rows: so many yes-or-no answers as would have the
    standard error of the mean, p (1 - p) / se^2 for the mean p on the scale from 0 to 1. It stays within the limits and is not
    symmetric near them. The variance is taken as if a tenth of a row more had been drawn, with the limit that is farther from
    the mean: a few rows that score quite unlike the others may have been missed. There are never fewer answers than rows
    asked, since no scores between the limits vary more than yes and no; where all rows drawn score one of the limits, that
    alone is known. Without limits: t standard errors to both sides.

    Parameters
    ----------
    level : float in (0, 1)
    limits : the least and the largest score that a row can have, None where there is no bound

    In simulations at level 0.95 it held the mean in 0.91 to 1.00 of the draws, for m from 100 to 1500 and row scores from rare
    yes-or-no answers to shares of ten; mean and 1.96 standard errors did in 0.12 to 0.96.

    References
    ----------
    Wilson 1927, Journal of the American Statistical Association 22:209-212; Korn and Graubard 1998, Survey Methodology
    24:193-201, for the effective sample size.
    """
    if found.m >= found.n:
        return Bounds(found.value, found.value, METHOD)
    quantile = float(stdtrit(found.m - 1, (1 + level) / 2))
    low, high = limits
    if low is None or high is None:
        width = quantile * found.se
        return Bounds(max(-inf if low is None else low, found.value - width), found.value + width, METHOD)
    p = min(1.0, max(0.0, (found.value - low) / (high - low)))
    below, above = _wilson(p, _answers(found, p, high - low), quantile)
    return Bounds(low + (high - low) * below, low + (high - low) * above, METHOD)


def _answers(found: Estimate, p: float, span: float) -> float:
    """How many yes-or-no answers have the standard error of the mean p."""
    asked = found.m / (1 - found.m / found.n)
    variance = found.variance / span**2 + UNSEEN_ROWS * max(p, 1 - p) ** 2 / found.m
    return asked * max(1.0, p * (1 - p) / variance)


def _wilson(p: float, count: float, quantile: float) -> tuple[float, float]:
    square = quantile**2 / count
    middle = (p + square / 2) / (1 + square)
    width = quantile * sqrt(p * (1 - p) / count + square / (4 * count)) / (1 + square)
    return max(0.0, min(p, middle - width)), min(1.0, max(p, middle + width))


def half_width(bounds: Bounds) -> float:
    """Half of the distance between both bounds."""
    return (bounds.high - bounds.low) / 2


def queries_wanted(found: Estimate, wanted: float, level: float, limits: Limits) -> int:
    """How many rows, at most n, would make the interval so narrow each way, were the variance the one found.

    It is what was asked already where the interval is narrow enough, else the least number with a margin of a twentieth.
    Drawing so many more and asking again makes the number of rows depend on their scores, which lowers coverage where the first
    draw is small. From 1000 rows on it did not show: 0.938 to 0.958 at level 0.95 in 1500 simulated draws of nine kinds,
    against 0.943 to 0.955 with the number fixed beforehand.
    """
    if half_width(gallery_bounds(found, level, limits)) <= wanted:
        return found.m
    low, high = found.m, found.n
    while high - low > 1:
        middle = (low + high) // 2
        ahead = Estimate(found.value, found.variance, middle, found.n)
        low, high = (low, middle) if half_width(gallery_bounds(ahead, level, limits)) <= wanted else (middle, high)
    return min(found.n, ceil(high * MARGIN))
