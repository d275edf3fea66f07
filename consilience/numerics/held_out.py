"""Directions and rotations fitted on some rows and scored on others.

In-sample, canonical correlations and rotations profit from noise; on rows that the fit has not seen they do not.
"""

from math import acos, sqrt

import numpy as np

from consilience.numerics.arrays import Float64Array
from consilience.numerics.canonical import variate_weights
from consilience.numerics.dealt_moments import Sums
from consilience.numerics.spectra import Factor, find_cross

#: A variate that varies by less of its mean square than this varies by rounding alone.
_ROUNDING = 1e-14


def held_out_cca_mean(a: Factor, b: Factor, others: Sums) -> float:
    """Mean correlation of the fitted pairs of directions on other rows: at most 1, 0 on average at chance.

    Parameters
    ----------
    a, b : Factors of the rows that the directions are fitted on
    others : Sums over other rows of the same layers, paired, along the directions of the factors
        `dealt_moments.sum_rows` of the projected rows, or `dealt_moments.project` of the sums of the rows themselves.
    """
    return float(_correlate(a, b, others)[0].mean())


def held_out_cca_r2(a: Factor, b: Factor, others: Sums) -> float:
    """Mean squared correlation of the fitted pairs of directions on other rows, a negative one counting against.

    The sign keeps it 0 on average at chance.
    """
    correlations, _ = _correlate(a, b, others)
    return float((correlations * np.abs(correlations)).mean())


def held_out_pwcca(a: Factor, b: Factor, others: Sums) -> float:
    """Mean correlation of the fitted pairs of directions on other rows, with the weights of the fit."""
    correlations, variates = _correlate(a, b, others)
    return float(correlations @ variate_weights(a, variates))


def held_out_cosine(a: Factor, b: Factor, others: Sums) -> float:
    """Cosine of two layers on other rows after the fitted shift, whitening and rotation.

    References
    ----------
    netrep, ``LinearMetric.fit`` and ``score``.
    """
    left, _, right = np.linalg.svd(find_cross(a, b), full_matrices=False)
    size = sqrt(float(np.trace(others.xx) * np.trace(others.yy)))
    return float(np.vdot(left, others.xy @ right.T)) / size if size > 0 else 0.0


def held_out_angle(a: Factor, b: Factor, others: Sums) -> float:
    """Arc cosine of `held_out_cosine`."""
    return acos(min(1.0, max(-1.0, held_out_cosine(a, b, others))))


def held_out_bures(a: Factor, b: Factor, others: Sums) -> float:
    """sqrt(2 - 2 c) of `held_out_cosine`."""
    return sqrt(max(0.0, 2 - 2 * held_out_cosine(a, b, others)))


def _correlate(a: Factor, b: Factor, others: Sums) -> tuple[Float64Array, Float64Array]:
    """Correlation of each fitted pair of variates on other rows, 0 where one does not vary there; and a's variates."""
    left, _, right = np.linalg.svd(find_cross(a, b), full_matrices=False)
    centred = others.about(others.means)
    x, y = (_sizes(left, centred.xx, others.xx), _sizes(right.T, centred.yy, others.yy))
    products = np.einsum("ij,ij->j", left, centred.xy @ right.T)
    sizes = x * y
    return np.divide(products, sizes, out=np.zeros_like(products), where=sizes > 0), left


def _sizes(directions: Float64Array, centred: Float64Array, raw: Float64Array) -> Float64Array:
    """Lengths of the variates less their means, 0 where rounding alone is left."""
    squares, whole = (np.einsum("ij,ij->j", directions, moment @ directions) for moment in (centred, raw))
    return np.sqrt(np.where(squares > _ROUNDING * whole, squares, 0.0))
