"""Closed-form null distributions of T = sum_ij A_ij B_p(i)p(j), the number of shared edges of two neighbour graphs."""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from consilience.numerics.neighbour_overlap import kernels
from consilience.numerics.rows.arrays import IdArray
from consilience.numerics.stats.nulls import NullMean, PearsonNull


@dataclass(frozen=True)
class GraphCounts:
    """Counts of one directed graph with zero diagonal, for the closed form of `shared_edges_null`."""

    edges: float
    same: float
    reciprocal: float
    out_pairs: float
    in_pairs: float
    chains: float

    @property
    def disjoint(self) -> float:
        """Number of pairs of edges that share no node."""
        return self.edges**2 - self.same - self.reciprocal - self.out_pairs - self.in_pairs - self.chains


def count_graph(ids: IdArray, k: int) -> GraphCounts:
    """Compute the counts of a k-nearest-neighbour graph from in-degrees and reciprocal pairs: O(n k^2)."""
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


def shared_edges_null(a: GraphCounts, b: GraphCounts, n: int) -> PearsonNull:
    """Return the null distribution of T = sum_ij A_ij B_p(i)p(j) over all n! permutations p.

    Mean and standard deviation are exact.

    E[T] = E_A E_B / n2; E[T^2] sums over the ways in which two edges share nodes, each with its number of images:
    (same same' + rev rev') / n2 + (src src' + tgt tgt') / n3 + ch ch' / (2 n3) + dis dis' / n4, with n2 = n (n - 1),
    n3 = n2 (n - 2), n4 = n3 (n - 3). Needs n >= 4.

    The skew is approximated by that of a sum of rare matches, single or in reciprocal pairs (a compound Poisson
    distribution): its third cumulant is 3 var - 2 mean.
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
    return PearsonNull(mean, variance**0.5, max(0.0, skew), step=1.0)


def mutual_knn_null(a: GraphCounts, b: GraphCounts, n: int) -> PearsonNull:
    """Return the null distribution of mutual_knn: mean k / (n - 1) and variance exact, tail as in `shared_edges_null`."""
    return shared_edges_null(a, b, n).scaled(1 / a.edges)


def cycle_knn_null(ids: IdArray, k: int) -> NullMean:
    """Return the exact mean of cycle_knn over all n! permutations: (1/n) sum_i [1 - C(n-1-c_i, k) / C(n-1, k)].

    c_i is the in-degree of item i in the graph of the step back: a's in direction ab, b's in ba. Under a random permutation,
    the k neighbours of each item in the other graph are a random set.

    Parameters
    ----------
    ids : array of shape (n, >= k), int32
    """
    n = len(ids)
    free = n - 1 - np.bincount(ids[:, :k].ravel(), minlength=n).astype(np.float64)
    # C(free, k) / C(n - 1, k) is 0 if fewer than k are free.
    ratio = np.where(free >= k, gammaln(free + 1) - gammaln(np.maximum(free - k, 0) + 1), -np.inf)
    return NullMean(float(1 - np.exp(ratio - gammaln(n) + gammaln(n - k)).mean()))
