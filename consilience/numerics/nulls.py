"""What chance alone would give, in closed form.

The null hypothesis is that the pairing of the two sides' items is random: every one of the n! relabellings of b is equally
likely.
Closed forms give the exact mean and variance over all relabellings; the tail is that of a Pearson III law with the skew where
it is known or well approximated (a normal law at skew 0), corrected for the steps of a count.
"""

from dataclasses import dataclass
from math import acos, cos, sqrt

from scipy.special import gammaincc, gammainccinv, ndtr, ndtri

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
