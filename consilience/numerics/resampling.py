"""Parts of the rows: folds, held-out splits and blocks, and the population intervals that they give."""

from collections.abc import Iterator
from math import inf, sqrt

import numpy as np
from scipy.special import stdtrit

from consilience.numerics.arrays import Float64Array, IdArray
from consilience.numerics.intervals import Bounds
from consilience.numerics.permutations import Permutation

#: Held-out splits: twice five parts, each held out in turn.
PARTS, REPEATS = 5, 2
#: Blocks of the jackknife, each left out in turn.
BLOCKS = 10

Limits = tuple[float | None, float | None]


def deal(order: Permutation, parts: int, groups: IdArray | None = None) -> IdArray:
    """Deal items into parts of the same size, give or take one: the item at position i of the order goes to part i mod parts.

    With groups, whole groups are dealt, each at the position of its first item.

    Parameters
    ----------
    order : array of n item numbers
    groups : array of shape (n,), int32, optional
        The group number of each item.

    Returns
    -------
    array of shape (n,), int32: the part of each item

    Examples
    --------
    >>> deal(np.array([3, 1, 0, 2]), 2).tolist()
    [0, 1, 1, 0]
    """
    part = np.empty(len(order), dtype=np.int32)
    if groups is None:
        part[order] = np.arange(len(order)) % parts
        return part
    _, first, member = np.unique(groups[order], return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first)] = np.arange(len(first)) % parts
    part[order] = rank[member]
    return part


def split(n: int, seed: int, groups: IdArray | None = None) -> Iterator[tuple[Permutation, Permutation]]:
    """Rows to fit on and rows to score on, ten times: twice five parts at random."""
    for part in deal_repeatedly(n, seed, groups):
        for held_out in range(PARTS):
            yield np.flatnonzero(part != held_out), np.flatnonzero(part == held_out)


def deal_repeatedly(n: int, seed: int, groups: IdArray | None = None) -> Iterator[IdArray]:
    """The parts of `split`: five, twice at random."""
    rng = np.random.default_rng(seed)
    for _ in range(REPEATS):
        yield deal(rng.permutation(n), PARTS, groups)


def held_out_bounds(value: float, splits: Float64Array, parts: int, level: float, limits: Limits) -> Bounds:
    """Population interval of a held-out value, from its values on each split of repeated folds.

    value +- t sqrt((1/J + 1/(parts - 1)) s^2) on J - 1 degrees of freedom, s^2 the variance over the J splits: splits share
    rows, which the second term allows for. It covers the value of a fit on n - n / parts rows, scored on rows that the fit has
    not seen. On simulated pairs of 100 to 300 rows it did so in 0.89 to 0.96 of the cases at level 0.95 and five parts, in 0.83
    to 0.86 with two.

    Parameters
    ----------
    value : float
    splits : array of shape (J,), float64
    parts : int
        Parts that the rows were dealt into, each held out in turn.
    level : float in (0, 1)
    limits : the least and the largest value, None where there is no bound

    References
    ----------
    Nadeau and Bengio 2003, Inference for the generalization error, Machine Learning 52:239-281, eq. 9.
    """
    se = sqrt((1 / len(splits) + 1 / (parts - 1)) * float(splits.var(ddof=1)))
    return Bounds(*_spread(value, se, len(splits), level, limits), "held-out")


def block_jackknife_bounds(value: float, without_each: Float64Array, level: float, limits: Limits) -> Bounds:
    """Population interval of a value from its values with each of B blocks of rows left out and everything fitted again.

    value +- t sqrt((B - 1)/B sum (v_b - mean)^2) on B - 1 degrees of freedom. On simulated pairs of 100 to 300 rows it covered
    the value of a fresh sample of the same size in 0.95 to 1.00 of the cases at level 0.95.
    """
    count = len(without_each)
    se = sqrt((count - 1) / count * float(((without_each - without_each.mean()) ** 2).sum()))
    return Bounds(*_spread(value, se, count, level, limits), "block-jackknife")


def leave_out(n: int, seed: int, groups: IdArray | None = None) -> Iterator[Permutation]:
    """Rows left by each of ten blocks in turn, or by each item where there are fewer than ten."""
    part = deal_blocks(n, seed, groups)
    for block in range(int(part.max()) + 1):
        yield np.flatnonzero(part != block)


def deal_blocks(n: int, seed: int, groups: IdArray | None = None) -> IdArray:
    """The blocks of `leave_out`."""
    return deal(np.random.default_rng(seed).permutation(n), BLOCKS, groups)


def _spread(value: float, se: float, count: int, level: float, limits: Limits) -> tuple[float, float]:
    """The value and t standard errors to both sides, within the limits."""
    width = float(stdtrit(count - 1, (1 + level) / 2)) * se
    low, high = (-inf if limits[0] is None else limits[0]), (inf if limits[1] is None else limits[1])
    return max(low, value - width), min(high, value + width)
