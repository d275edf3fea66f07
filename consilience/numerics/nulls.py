"""What chance alone would give: closed forms over all pairings, permutation draws, p-values.

The null hypothesis is that the pairing of the two sides' items is random: every one of the n! relabellings of b is equally
likely. Closed forms give the exact mean and variance over all of them; the tail is that of a Pearson III law with the skew
where it is known or well approximated (a normal law at skew 0), corrected for the steps of a count.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincc, gammainccinv, ndtr, ndtri

from consilience.numerics import compiled
from consilience.numerics.arrays import Float64Array, IdArray

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
class PermutationNull:
    """What K random relabellings gave. tau, p and the calibrated score are those of METRICS in the docs."""

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


@dataclass(frozen=True)
class GraphCounts:
    """What the closed form needs to know of one directed graph with zero diagonal (see `relabelling_law`)."""

    edges: float
    same: float
    reciprocal: float
    out_pairs: float
    in_pairs: float
    chains: float

    @property
    def disjoint(self) -> float:
        """Pairs of edges that share no node."""
        return self.edges**2 - self.same - self.reciprocal - self.out_pairs - self.in_pairs - self.chains


def count_graph(ids: IdArray, k: int) -> GraphCounts:
    """Count a k-nearest-neighbour graph: from the in-degrees and the reciprocal pairs alone, O(n k^2)."""
    n = len(ids)
    in_degree = np.bincount(ids[:, :k].ravel(), minlength=n).astype(np.float64)
    reciprocal = float(compiled.count_reciprocal(np.ascontiguousarray(ids[:, :k]), k))
    edges = float(n * k)
    return GraphCounts(
        edges=edges,
        same=edges,
        reciprocal=reciprocal,
        out_pairs=edges * (k - 1),
        in_pairs=float(in_degree @ in_degree) - edges,
        chains=2 * (edges * k - reciprocal),
    )


def relabelling_law(a: GraphCounts, b: GraphCounts, n: int) -> NullLaw:
    """Give the law of the count T = sum_ij A_ij B_p(i)p(j) over all n! permutations p.

    Mean and standard deviation are exact.

    E[T] = E_A E_B / n2; E[T^2] sums over the ways in which two edges share nodes, each with its number of images:
    (same same' + rev rev') / n2 + (src src' + tgt tgt') / n3 + ch ch' / (2 n3) + dis dis' / n4, with n2 = n (n - 1),
    n3 = n2 (n - 2), n4 = n3 (n - 3). Needs n >= 4.

    The skew is approximated by that of a sum of rare matches that come alone or in reciprocal pairs (a compound Poisson
    law): its third cumulant is 3 var - 2 mean.
    """
    n2 = float(n * (n - 1))
    n3 = n2 * (n - 2)
    n4 = n3 * (n - 3)
    mean = a.edges * b.edges / n2
    square = (
        (a.same * b.same + a.reciprocal * b.reciprocal) / n2
        + (a.out_pairs * b.out_pairs + a.in_pairs * b.in_pairs) / n3
        + a.chains * b.chains / (2 * n3)
        + a.disjoint * b.disjoint / n4
    )
    variance = max(0.0, square - mean**2)
    skew = (3 * variance - 2 * mean) / variance**1.5 if variance > 0 else 0.0
    return NullLaw(mean, variance**0.5, max(0.0, skew), step=1.0)


def mutual_knn_law(a: GraphCounts, b: GraphCounts, n: int) -> NullLaw:
    """The null law of mutual_knn: mean k / (n - 1) and variance exact, tail as in `relabelling_law`."""
    return relabelling_law(a, b, n).scaled(1 / a.edges)
