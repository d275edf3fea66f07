"""The closed-form law of T = sum_ij A_ij B_p(i)p(j) under random relabelling: counts of shared edges, Mantel's statistic."""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from consilience.numerics.neighbour_overlap import kernels
from consilience.numerics.rows.arrays import IdArray
from consilience.numerics.stats.nulls import MeanLaw, NullLaw


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
    reciprocal = float(kernels.count_reciprocal(np.ascontiguousarray(ids[:, :k]), k))
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


def cycle_knn_law(ids: IdArray, k: int) -> MeanLaw:
    """Give the exact mean of cycle_knn over all n! relabellings: (1/n) sum_i [1 - C(n-1-c_i, k) / C(n-1, k)].

    c_i is the in-degree of item i in the graph whose edges are stepped back along: a's in direction ab, b's in ba. The other
    graph gives each item k neighbours, which a random relabelling makes a random set.

    Parameters
    ----------
    ids : array of shape (n, >= k), int32
    """
    n = len(ids)
    free = n - 1 - np.bincount(ids[:, :k].ravel(), minlength=n).astype(np.float64)
    # C(free, k) / C(n - 1, k) is 0 where fewer than k are free.
    ratio = np.where(free >= k, gammaln(free + 1) - gammaln(np.maximum(free - k, 0) + 1), -np.inf)
    return MeanLaw(float(1 - np.exp(ratio - gammaln(n) + gammaln(n - k)).mean()))
