"""What chance alone would give, in closed form.

The null hypothesis is that the pairing of the two sides' items is random: every one of the n! relabellings of b is equally
likely.
Closed forms give the exact mean and variance over all relabellings; the tail is that of a Pearson III law with the skew where
it is known or well approximated (a normal law at skew 0), corrected for the steps of a count.
"""

from dataclasses import dataclass
from math import acos, cos, sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincc, gammainccinv, ndtr, ndtri

from consilience.numerics.rows.arrays import Float64Array, IdArray


def adjust(p_values: Float64Array, method: Literal["holm", "benjamini_hochberg"]) -> Float64Array:
    """Adjust p-values for their number: significant at alpha where the adjusted value is at most alpha.

    holm: controls the chance of any false finding, under any dependence. benjamini_hochberg: controls the expected share
    of false findings, under independence or positive dependence.

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


#: No closed-form p is reported below this: the tail's shape is not known that far out.
P_FLOOR = 1e-12
#: Below this skew the Pearson III law is the normal law to double precision.
_SKEW_MIN = 1e-4


@dataclass(frozen=True)
class NullLaw:
    """The law of a similarity under random pairing.

    Attributes
    ----------
    mean, sd, skew : its moments
    step : the distance between the values that it can take, 0 for a continuous law; half of it corrects the tail
    """

    mean: float
    sd: float
    skew: float = 0.0
    step: float = 0.0

    def p_value(self, value: float) -> float:
        """P(S >= value), not floored."""
        if self.sd == 0:
            return 1.0 if value <= self.mean else 0.0
        z = (value - self.step / 2 - self.mean) / self.sd
        if self.skew < _SKEW_MIN:
            return float(ndtr(-z))
        shape = 4 / self.skew**2
        return float(gammaincc(shape, max(0.0, shape + 2 * z / self.skew)))

    def threshold(self, alpha: float) -> float:
        """The value that chance exceeds with probability alpha."""
        if self.skew < _SKEW_MIN:
            z = float(-ndtri(alpha))
        else:
            shape = 4 / self.skew**2
            z = (float(gammainccinv(shape, alpha)) - shape) * self.skew / 2
        return self.mean + self.sd * z + self.step / 2

    def scaled(self, factor: float) -> "NullLaw":
        """Return the law of factor * S, factor > 0."""
        return NullLaw(self.mean * factor, self.sd * factor, self.skew, self.step * factor)


@dataclass(frozen=True)
class MeanLaw:
    """A null law of which only the mean has a closed form."""

    mean: float


@dataclass(frozen=True)
class AngleLaw:
    """The null law of arccos(S): a distance, so that p counts what lies at or below a value."""

    cosine: NullLaw

    def p_value(self, value: float) -> float:
        """P(arccos S <= value)."""
        return self.cosine.p_value(cos(value))

    def threshold(self, alpha: float) -> float:
        """The angle that chance falls below with probability alpha."""
        return acos(min(1.0, max(-1.0, self.cosine.threshold(alpha))))


@dataclass(frozen=True)
class RootLaw:
    """The null law of the root of a similarity that is not below 0."""

    square: NullLaw

    def p_value(self, value: float) -> float:
        """P(sqrt S >= value)."""
        return self.square.p_value(value**2)

    def threshold(self, alpha: float) -> float:
        """The root that chance exceeds with probability alpha."""
        return sqrt(max(0.0, self.square.threshold(alpha)))


#: What a closed form can say.
Law = NullLaw | MeanLaw | AngleLaw | RootLaw


#: Row numbers in another order.
Permutation = npt.NDArray[np.intp]


def draw_permutation(rng: np.random.Generator, n: int, groups: IdArray | None = None) -> Permutation:
    """Draw a relabelling of n items.

    With groups (several captions of one image, say) whole groups change places with groups of the same size, their items
    in order: items of one group stay together, as exchangeability demands.

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
    """What K random relabellings gave. Larger values are more surprising."""

    draws: Float64Array

    def p_value(self, value: float) -> float:
        """(1 + #{draws >= value}) / (K + 1): valid at any K."""
        return float((1 + (self.draws >= value).sum()) / (len(self.draws) + 1))

    def threshold(self, value: float, alpha: float) -> float:
        """The order statistic of rank ceil((1 - alpha)(K + 1)) among the draws and the observed value.

        References
        ----------
        Groeger et al. 2026, arXiv 2602.14486, section 3.
        """
        pool = np.sort(np.append(self.draws, value))
        # K + 1 - floor(alpha (K + 1)): the ceiling without its rounding error.
        rank = len(pool) - int(np.floor(alpha * len(pool) + 1e-9))
        return float(pool[rank - 1])
