"""Null distributions of scores under random pairing, in closed form or by permutation, and correction for multiple tests.

The null hypothesis is that the pairing of the two sides' items is random: all n! permutations of b's items are equally likely.
Closed forms give the exact mean and variance over all permutations. The tail is that of a Pearson III distribution with the
skew, if it is known or well approximated (a normal distribution at skew 0), with a continuity correction for counts.
"""

from dataclasses import dataclass
from math import acos, cos, sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincc, gammainccinv, ndtr, ndtri

from consilience.numerics.rows.arrays import Float64Array, IdArray


def adjust(p_values: Float64Array, method: Literal["holm", "benjamini_hochberg"]) -> Float64Array:
    """Adjust p-values for multiple testing: a test is significant at alpha if its adjusted value is at most alpha.

    holm: controls the probability of any false positive, under any dependence. benjamini_hochberg: controls the expected
    share of false positives (FDR), under independence or positive dependence.

    Parameters
    ----------
    p_values : array of shape (m,)

    References
    ----------
    Holm 1979; Benjamini and Hochberg 1995.

    Examples
    --------
    >>> adjust(np.array([0.01, 0.04, 0.03]), "holm").round(3).tolist()
    [0.03, 0.06, 0.06]
    >>> adjust(np.array([0.01, 0.04, 0.03]), "benjamini_hochberg").round(3).tolist()
    [0.03, 0.04, 0.04]
    """
    m = len(p_values)
    if m == 0:
        return p_values
    order = np.argsort(p_values)
    ranked = p_values[order]
    if method == "holm":
        stepped = np.maximum.accumulate(ranked * (m - np.arange(m)))
    else:
        stepped = np.minimum.accumulate((ranked * m / np.arange(1, m + 1))[::-1])[::-1]
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(1.0, stepped)
    return adjusted


#: Smallest closed-form p-value reported: the shape of the tail is not known further out.
P_FLOOR = 1e-12
#: Below this skew the Pearson III distribution equals the normal one to double precision.
_SKEW_MIN = 1e-4


@dataclass(frozen=True)
class PearsonNull:
    """Null distribution of a similarity under random pairing, by its first three moments (Pearson III).

    Attributes
    ----------
    mean, sd, skew : its moments
    step : distance between possible values, 0 if continuous; half of it is the continuity correction of the tail
    """

    mean: float
    sd: float
    skew: float = 0.0
    step: float = 0.0

    def p_value(self, value: float) -> float:
        """Return P(S >= value), without the lower limit `P_FLOOR`."""
        if self.sd == 0:
            return 1.0 if value <= self.mean else 0.0
        z = (value - self.step / 2 - self.mean) / self.sd
        if self.skew < _SKEW_MIN:
            return float(ndtr(-z))
        shape = 4 / self.skew**2
        return float(gammaincc(shape, max(0.0, shape + 2 * z / self.skew)))

    def threshold(self, alpha: float) -> float:
        """Return the value that chance exceeds with probability alpha."""
        if self.skew < _SKEW_MIN:
            z = float(-ndtri(alpha))
        else:
            shape = 4 / self.skew**2
            z = (float(gammainccinv(shape, alpha)) - shape) * self.skew / 2
        return self.mean + self.sd * z + self.step / 2

    def scaled(self, factor: float) -> "PearsonNull":
        """Return the distribution of factor * S, factor > 0."""
        return PearsonNull(self.mean * factor, self.sd * factor, self.skew, self.step * factor)


@dataclass(frozen=True)
class NullMean:
    """Null distribution of which only the mean has a closed form."""

    mean: float


@dataclass(frozen=True)
class AngleNull:
    """Null distribution of arccos(S), a distance: the p-value is the probability of a value at or below."""

    cosine: PearsonNull

    def p_value(self, value: float) -> float:
        """Return P(arccos S <= value)."""
        return self.cosine.p_value(cos(value))

    def threshold(self, alpha: float) -> float:
        """Return the angle that chance falls below with probability alpha."""
        return acos(min(1.0, max(-1.0, self.cosine.threshold(alpha))))


@dataclass(frozen=True)
class RootNull:
    """Null distribution of the square root of a similarity that is never below 0."""

    square: PearsonNull

    def p_value(self, value: float) -> float:
        """Return P(sqrt S >= value)."""
        return self.square.p_value(value**2)

    def threshold(self, alpha: float) -> float:
        """Return the root that chance exceeds with probability alpha."""
        return sqrt(max(0.0, self.square.threshold(alpha)))


#: Closed forms of a null distribution.
ClosedFormNull = PearsonNull | NullMean | AngleNull | RootNull


#: Row numbers in another order: row i of a is paired with row p(i) of b.
Permutation = npt.NDArray[np.intp]


def draw_permutation(rng: np.random.Generator, n: int, groups: IdArray | None = None) -> Permutation:
    """Draw a permutation of n items.

    With groups (for example several captions of one image), whole groups are exchanged with groups of the same size, with
    their items in order: items of one group stay together, as exchangeability requires.

    Parameters
    ----------
    groups : array of shape (n,), int32, optional
        The group number of each item.
    """
    if groups is None:
        return rng.permutation(n)
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order[0]] - 1))
    sizes = np.diff(np.append(starts, n))
    permutation = np.empty(n, dtype=np.intp)
    for size in np.unique(sizes):
        members = order[starts[sizes == size][:, None] + np.arange(size)]
        permutation[members] = members[rng.permutation(len(members))]
    return permutation


@dataclass(frozen=True)
class PermutationNull:
    """Null distribution from K random permutations; larger values are more extreme."""

    draws: Float64Array

    def p_value(self, value: float) -> float:
        """Return (1 + #{draws >= value}) / (K + 1), which is valid at any K."""
        return float((1 + (self.draws >= value).sum()) / (len(self.draws) + 1))

    def threshold(self, value: float, alpha: float) -> float:
        """Return the order statistic of rank ceil((1 - alpha)(K + 1)) among the draws and the observed value.

        References
        ----------
        Groeger et al. 2026, arXiv 2602.14486, section 3.
        """
        pool = np.sort(np.append(self.draws, value))
        # K + 1 - floor(alpha (K + 1)): the ceiling without its rounding error.
        rank = len(pool) - int(np.floor(alpha * len(pool) + 1e-9))
        return float(pool[rank - 1])
