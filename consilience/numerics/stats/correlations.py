"""How two numbers of the same few models go together: correlations with intervals, exact where there are few.

All take one value a model. Models are few and no random sample of anything, so that a p-value of at most 8 of them is found by
going through all orders, and none depends on a normal law there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from math import atanh, sqrt, tanh
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtr

from consilience.numerics.rows.arrays import Float64Array


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


#: Items up to which all orders are gone through: 8! = 40320.
EXACT_MAX = 8
#: Values nearer than this count as equal: the order of a sum changes its last bits.
TOLERANCE = 1e-12

#: From a correlation to its variance on Fisher's scale, in units of 1 / (n - 3).
Spread = Callable[[float], float]


@dataclass(frozen=True)
class Correlation:
    """How far two numbers go together.

    Attributes
    ----------
    value : in [-1, 1], 0 at chance
    low, high : the interval; None with fewer than 4 + c values (c covariates), and where the value is 1 or -1: no interval that
        is built on one spread has a width there
    p_value : two-sided, of no association
    exact : whether all orders were gone through for it
    n : number of values
    """

    value: float
    low: float | None
    high: float | None
    p_value: float
    exact: bool
    n: int


def pearson(x: Float64Array, y: Float64Array, level: float = 0.95) -> Correlation | None:
    """The linear correlation of two numbers.

    r = sum (x - mean x)(y - mean y) / sqrt(sum (x - mean x)^2 sum (y - mean y)^2). Symmetric, in [-1, 1]. Interval:
    tanh(atanh r -+ z / sqrt(n - 3)). P-value: the share of all n! orders of y whose |r| is at least as large, up to n = 8;
    above, Student's t with n - 2 degrees of freedom.

    Parameters
    ----------
    x, y : arrays of shape (n,)
    level : float in (0, 1)

    Returns
    -------
    Correlation, or None where a side is constant or n < 3

    References
    ----------
    Fisher 1921, Metron 1:3-32 (the interval); Pitman 1937 (the test by all orders).

    Examples
    --------
    >>> found = pearson(np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4]))
    >>> round(found.value, 6), round(found.p_value * 24)
    (0.8, 8)
    """
    return _correlate(x, y, level, spread=lambda _: 1.0)


def spearman(x: Float64Array, y: Float64Array, level: float = 0.95) -> Correlation | None:
    """The correlation of ranks: how far one number rises with the other, whatever the shape of the curve.

    Pearson's r of the ranks, equal values sharing their mean rank. Symmetric, in [-1, 1]. Interval on Fisher's scale with
    variance (1 + r^2 / 2) / (n - 3). P-value as in `pearson`: of ranks, all orders are the exact test, with ties too.

    Parameters
    ----------
    x, y : arrays of shape (n,)
    level : float in (0, 1)

    Returns
    -------
    Correlation, or None where a side is constant or n < 3

    References
    ----------
    Bonett and Wright 2000, Psychometrika 65:23-28 (the interval).

    Examples
    --------
    Only the order counts. Of all 120 orders two are as extreme: this one, and its reverse.

    >>> found = spearman(np.array([1.0, 2, 3, 4, 5]), np.array([1.0, 10, 11, 12, 500]))
    >>> found.value, found.low, round(found.p_value * 120)
    (1.0, None, 2)
    """
    return _correlate(average_ranks(x), average_ranks(y), level, spread=lambda r: 1 + r * r / 2)


def partial(
    x: Float64Array, y: Float64Array, covariates: Float64Array, level: float = 0.95, *, ranks: bool = True
) -> Correlation | None:
    """The correlation that is left when covariates are held fixed: of capability with alignment at equal width, say.

    The correlation of what a linear fit on the covariates leaves of x and of y; with `ranks`, all are ranked first. Interval as
    in `spearman` and `pearson` with n - 3 - c, p-value by Student's t with n - 2 - c degrees of freedom, c covariates.

    Parameters
    ----------
    x, y : arrays of shape (n,)
    covariates : array of shape (n, c)

    Returns
    -------
    Correlation, or None where the covariates leave nothing of a side, or n < 3 + c

    References
    ----------
    Fisher 1924, Metron 3:329-332.

    Examples
    --------
    Both rise with the width, and with nothing else.

    >>> width = np.array([1.0, 2, 3, 4, 5, 6])
    >>> x, y = width + [0.1, -0.2, 0.1, 0.1, -0.2, 0.1], width + [0.1, 0.1, -0.2, -0.2, 0.1, 0.1]
    >>> round(pearson(x, y).value, 2), round(partial(x, y, width[:, None], ranks=False).value, 2)
    (0.99, -0.5)
    """
    if ranks:
        x, y, covariates = average_ranks(x), average_ranks(y), average_ranks(covariates, axis=0)
    fixed = covariates.shape[1]
    left_x, left_y = (_residuals(side, covariates) for side in (x, y))
    return _correlate(left_x, left_y, level, spread=lambda r: 1 + r * r / 2 if ranks else 1.0, fixed=fixed)


def _residuals(y: Float64Array, covariates: Float64Array) -> Float64Array:
    """What a linear fit leaves of y; exactly 0 where it leaves only rounding."""
    design = np.column_stack([np.ones(len(y)), covariates - covariates.mean(axis=0)])
    left = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    around = y - y.mean()
    return np.zeros(len(y)) if left @ left <= TOLERANCE * (around @ around) else np.asarray(left)


def _correlate(x: Float64Array, y: Float64Array, level: float, *, spread: Spread, fixed: int = 0) -> Correlation | None:
    n = len(x)
    if n < 3 + fixed or (unit_x := _unit(x)) is None or (unit_y := _unit(y)) is None:
        return None
    value = float(np.clip(unit_x @ unit_y, -1.0, 1.0))
    perfect = abs(value) >= 1 - TOLERANCE
    value = float(np.sign(value)) if perfect else value
    exact = n <= EXACT_MAX and not fixed
    p = _count_orders(unit_x, unit_y, value) if exact else _student(value, n - 2 - fixed)
    if perfect or n < 4 + fixed:
        return Correlation(value, None, None, p, exact, n)
    width = float(ndtri((1 + level) / 2)) * sqrt(spread(value) / (n - 3 - fixed))
    return Correlation(value, tanh(atanh(value) - width), tanh(atanh(value) + width), p, exact, n)


def _unit(x: Float64Array) -> Float64Array | None:
    """The values around its mean, of length 1; None where it is constant."""
    around = x - x.mean()
    length = float(np.linalg.norm(around))
    return None if length <= TOLERANCE * max(1.0, float(np.abs(x).max())) else np.asarray(around / length)


def _count_orders(x: Float64Array, y: Float64Array, value: float) -> float:
    """The share of all orders of y whose correlation with x is as far from 0."""
    return float((np.abs(y[all_orders(len(y))] @ x) >= abs(value) - TOLERANCE).mean())


@cache
def all_orders(n: int) -> npt.NDArray[np.intp]:
    """All orders of n items: array of shape (n!, n)."""
    return np.array(list(permutations(range(n))), dtype=np.intp)


def _student(value: float, freedom: int) -> float:
    """Two-sided p of a correlation by Student's t."""
    if abs(value) == 1:
        return 0.0
    t = abs(value) * sqrt(freedom / (1 - value * value))
    return 2 * float(stdtr(freedom, -t))
