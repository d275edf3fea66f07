"""Centred second moments of a layer and of a pair of layers, accumulated in float64 by blocks of rows.

Linear kernels need nothing else: with K = Xc Xc' the n x n matrix never exists, since tr(KL) = |Xc'Yc|^2.
"""

from dataclasses import dataclass

import numpy as np

from consilience.numerics.arrays import BLOCK_ROWS, Float32Array, Float64Array
from consilience.numerics.permutations import Permutation


@dataclass(frozen=True)
class Moments:
    """What linear CKA needs to know of one layer.

    Attributes
    ----------
    x : array of shape (n, d), float32
        The prepared rows themselves.
    mean : array of shape (d,), float64
    covariance : array of shape (d, d), float64
        Xc'Xc, not divided by n.
    norms : array of shape (n,), float64
        Squared length of each centred row: the diagonal of the centred kernel.
    """

    x: Float32Array
    mean: Float64Array
    covariance: Float64Array
    norms: Float64Array

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.x)

    def centred(self, rows: slice | Permutation) -> Float64Array:
        """Some rows, centred, as float64."""
        return self.x[rows].astype(np.float64) - self.mean

    def trace_power(self, power: int) -> float:
        """tr(S^p) of the covariance, p = 1, 2 or 3."""
        s = self.covariance
        if power == 1:
            return float(np.trace(s))
        if power == 2:
            return float(np.vdot(s, s))
        return float(np.vdot(s @ s, s))


def find_moments(x: Float32Array) -> Moments:
    """Find the moments of a (n, d) layer: O(n d^2) time, O(d^2 + block d) memory.

    Rows are shifted by the first one before they are summed, so that a constant layer has a covariance of exactly 0.
    """
    origin = x[0].astype(np.float64)
    total = np.zeros_like(origin)
    for start in range(0, len(x), BLOCK_ROWS):
        total += (x[start : start + BLOCK_ROWS] - origin).sum(axis=0)
    mean = origin + total / len(x)
    covariance = np.zeros((x.shape[1], x.shape[1]))
    norms = np.empty(len(x))
    for start in range(0, len(x), BLOCK_ROWS):
        block = x[start : start + BLOCK_ROWS].astype(np.float64) - mean
        covariance += block.T @ block
        norms[start : start + BLOCK_ROWS] = np.einsum("ij,ij->i", block, block)
    return Moments(x, mean, covariance, norms)


def find_cross(a: Moments, b: Moments, permutation: Permutation | None = None) -> Float64Array:
    """Xc'Yc of two layers over the same rows, with b's rows in another order where a permutation is given.

    Returns
    -------
    array of shape (d_a, d_b), float64
    """
    cross = np.zeros((a.x.shape[1], b.x.shape[1]))
    for start in range(0, a.n, BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        cross += a.centred(rows).T @ b.centred(rows if permutation is None else permutation[rows])
    return cross
