"""Correlations of two values per model, with intervals and p-values.

Models are few and not a random sample. The p-value of up to 8 models is therefore exact, from all orders, and assumes no normal
distribution.
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
    """Rank values from 1 for the smallest; equal values share their mean rank, and NaN stays NaN.

    Parameters
    ----------
    values : array
        Of any shape.
    axis : int, optional
        Rank each line along this axis separately; by default all values together, with a flat result.
    """
    numbers = np.asarray(values, dtype=np.float64)
    return _rank(numbers.ravel()) if axis is None else np.apply_along_axis(_rank, axis, numbers)


def _rank(line: Float64Array) -> Float64Array:
    known = ~np.isnan(line)
    _, positions, counts = np.unique(line[known], return_inverse=True, return_counts=True)
    ranks = np.full(line.shape, np.nan)
    ranks[known] = (counts.cumsum() - (counts - 1) / 2)[positions]
    return ranks


#: Largest number of items for which all orders are enumerated: 8! = 40320.
EXACT_MAX = 8
#: Values closer than this count as equal: the order of a sum changes its last bits.
TOLERANCE = 1e-12

#: Function from a correlation to its variance on Fisher's scale, in units of 1 / (n - 3).
Spread = Callable[[float], float]


@dataclass(frozen=True)
class Correlation:
    """Correlation of two values per model, with its interval and p-value.

    Attributes
    ----------
    value : in [-1, 1], 0 at chance
    low, high : the interval; None with fewer than 4 + c values (c covariates), and if the value is 1 or -1, for which the
        method gives no width
    p_value : two-sided, of no association
    exact : whether the p-value enumerates all orders
    n : number of values
    """

    value: float
    low: float | None
    high: float | None
    p_value: float
    exact: bool
    n: int


def pearson(x: Float64Array, y: Float64Array, level: float = 0.95) -> Correlation | None:
    """Linear correlation of two values per model.

    r = sum (x - mean x)(y - mean y) / sqrt(sum (x - mean x)^2 sum (y - mean y)^2). Symmetric, in [-1, 1]. Interval:
    tanh(atanh r -+ z / sqrt(n - 3)). P-value: the share of all n! orders of y whose |r| is at least as large, up to n = 8;
    for larger n, Student's t with n - 2 degrees of freedom.

    Parameters
    ----------
    x, y : arrays of shape (n,)
    level : float in (0, 1)

    Returns
    -------
    Correlation, or None if a side is constant or n < 3

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
    """Correlation of ranks: how consistently one value rises with the other, on a curve of any shape.

    Pearson's r of the ranks, equal values sharing their mean rank. Symmetric, in [-1, 1]. Interval on Fisher's scale with
    variance (1 + r^2 / 2) / (n - 3). P-value as in `pearson`: for ranks, the test over all orders is exact, also with ties.

    Parameters
    ----------
    x, y : arrays of shape (n,)
    level : float in (0, 1)

    Returns
    -------
    Correlation, or None if a side is constant or n < 3

    References
    ----------
    Bonett and Wright 2000, Psychometrika 65:23-28 (the interval).

    Examples
    --------
    Only the order counts. Of all 120 orders, two are as extreme: this one and its reverse.

    >>> found = spearman(np.array([1.0, 2, 3, 4, 5]), np.array([1.0, 10, 11, 12, 500]))
    >>> found.value, found.low, round(found.p_value * 120)
    (1.0, None, 2)
    """
    return _correlate(average_ranks(x), average_ranks(y), level, spread=lambda r: 1 + r * r / 2)


def partial_correlation(
    x: Float64Array, y: Float64Array, covariates: Float64Array, level: float = 0.95, *, ranks: bool = True
) -> Correlation | None:
    """Correlation with covariates held fixed, for example of capability with alignment at equal width.

    The correlation of the residuals of linear fits of x and of y on the covariates; with `ranks`, all are ranked first.
    Interval as in `spearman` and `pearson` with n - 3 - c, p-value by Student's t with n - 2 - c degrees of freedom, for c
    covariates.

    Parameters
    ----------
    x, y : arrays of shape (n,)
    covariates : array of shape (n, c)

    Returns
    -------
    Correlation, or None if the covariates explain a side completely, or n < 3 + c

    References
    ----------
    Fisher 1924, Metron 3:329-332.

    Examples
    --------
    Both rise only with the width.

    >>> width = np.array([1.0, 2, 3, 4, 5, 6])
    >>> x, y = width + [0.1, -0.2, 0.1, 0.1, -0.2, 0.1], width + [0.1, 0.1, -0.2, -0.2, 0.1, 0.1]
    >>> round(pearson(x, y).value, 2), round(partial_correlation(x, y, width[:, None], ranks=False).value, 2)
    (0.99, -0.5)
    """
    if ranks:
        x, y, covariates = average_ranks(x), average_ranks(y), average_ranks(covariates, axis=0)
    fixed = covariates.shape[1]
    left_x, left_y = (_residuals(side, covariates) for side in (x, y))
    return _correlate(left_x, left_y, level, spread=lambda r: 1 + r * r / 2 if ranks else 1.0, fixed=fixed)


def _residuals(y: Float64Array, covariates: Float64Array) -> Float64Array:
    """Return the residuals of a linear fit of y; exactly 0 if only rounding is left."""
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
    """Centre values and scale them to length 1; None if they are constant."""
    around = x - x.mean()
    length = float(np.linalg.norm(around))
    return None if length <= TOLERANCE * max(1.0, float(np.abs(x).max())) else np.asarray(around / length)


def _count_orders(x: Float64Array, y: Float64Array, value: float) -> float:
    """Return the share of all orders of y whose correlation with x is at least as far from 0."""
    return float((np.abs(y[all_orders(len(y))] @ x) >= abs(value) - TOLERANCE).mean())


@cache
def all_orders(n: int) -> npt.NDArray[np.intp]:
    """Return all orders of n items, as an array of shape (n!, n)."""
    return np.array(list(permutations(range(n))), dtype=np.intp)


def _student(value: float, freedom: int) -> float:
    """Return the two-sided p-value of a correlation by Student's t."""
    if abs(value) == 1:
        return 0.0
    t = abs(value) * sqrt(freedom / (1 - value * value))
    return 2 * float(stdtr(freedom, -t))
