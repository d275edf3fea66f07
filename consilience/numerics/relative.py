"""The relative representation: rows told by what they are to some anchors, in one space, and found again in the other."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from consilience.numerics.arrays import Float32Array, Float64Array
from consilience.numerics.map_fits import Factors
from consilience.numerics.map_sums import MapSums
from consilience.numerics.maps import Affine
from consilience.numerics.predictivity import PENALTIES

#: Stands for the mean squared length of anchors that are all alike.
_SMALLEST = 1e-150


@dataclass(frozen=True)
class Relative:
    """A map over anchors, with what was chosen for it.

    Attributes
    ----------
    penalty : in units of the anchors' mean squared length
    scale : the factor after it
    """

    factors: Factors
    penalty: float
    scale: float


def fit_relative(sums: MapSums, anchors_a: Float32Array, anchors_b: Float32Array) -> Relative:
    """Find the map y = mean_b + s (x - mean_a) A' (B B' + l I)^-1 B over m anchors: O(m^3 + m^2 q).

    A row of b that has the same inner products with b's anchors as x has with a's, as nearly as a penalty on its length lets
    it; penalty and scale have the least squared error on the rows of the sums.

    Parameters
    ----------
    sums : over the training rows
    anchors_a, anchors_b : arrays of shape (m, p) and (m, q), float32
        Prepared rows of the same training items.

    References
    ----------
    Moschella et al. 2023, Relative representations, arXiv 2209.15430; Maiorca et al. 2024, Latent space translation via inverse
    relative projection, arXiv 2406.15057.
    """
    means = sums.means
    centred = sums.about(means)
    a, b = anchors_a - means[0], anchors_b - means[1]
    values, basis = eigh(b @ b.T, driver="evd", check_finite=False)
    unit = max(float(values.sum()) / len(values), _SMALLEST)
    rotated = basis.T @ b
    square = basis.T @ (a @ centred.xx @ a.T) @ basis
    along = np.einsum("ij,ij->i", basis.T @ (a @ centred.xy), rotated)
    across = square * (rotated @ rotated.T)
    tried = [_try(1 / (np.maximum(values, 0) + penalty * unit), along, across) for penalty in PENALTIES]
    best = len(tried) - 1 - int(np.argmax([gain for gain, _ in reversed(tried)]))
    scale, penalty = tried[best][1], float(PENALTIES[best])
    shrink = scale / (np.maximum(values, 0) + penalty * unit)
    up = basis @ (rotated * shrink[:, None])
    return Relative(Factors(Affine(a.T, *means), up), penalty, scale)


def _try(shrink: Float64Array, along: Float64Array, across: Float64Array) -> tuple[float, float]:
    """By how much the best multiple of a map lowers the squared error, and the factor."""
    agreement, size = float(shrink @ along), float(shrink @ across @ shrink)
    return (agreement**2 / size, agreement / size) if size > 0 and agreement > 0 else (0.0, 0.0)
