"""Directions and rotations fitted on some rows and scored on others.

In-sample, canonical correlations and rotations profit from noise; on rows that the fit has not seen they do not.
"""

from math import acos, sqrt

import numpy as np

from consilience.numerics.arrays import Float32Array, Float64Array
from consilience.numerics.canonical import variate_weights
from consilience.numerics.spectra import Factor, find_cross


def held_out_cca_mean(a: Factor, b: Factor, rows_a: Float32Array, rows_b: Float32Array) -> float:
    """Mean correlation of the fitted pairs of directions on other rows: at most 1, 0 on average at chance.

    Parameters
    ----------
    a, b : Factors of the rows that the directions are fitted on
    rows_a, rows_b : arrays of shape (m, d_a) and (m, d_b), float32
        Other rows of the same layers, paired.
    """
    return float(_correlate(a, b, rows_a, rows_b)[0].mean())


def held_out_cca_r2(a: Factor, b: Factor, rows_a: Float32Array, rows_b: Float32Array) -> float:
    """Mean squared correlation of the fitted pairs of directions on other rows, a negative one counting against.

    The sign keeps it 0 on average at chance.
    """
    correlations, _ = _correlate(a, b, rows_a, rows_b)
    return float((correlations * np.abs(correlations)).mean())


def held_out_pwcca(a: Factor, b: Factor, rows_a: Float32Array, rows_b: Float32Array) -> float:
    """Mean correlation of the fitted pairs of directions on other rows, with the weights of the fit."""
    correlations, variates = _correlate(a, b, rows_a, rows_b)
    return float(correlations @ variate_weights(a, variates))


def held_out_cosine(a: Factor, b: Factor, rows_a: Float32Array, rows_b: Float32Array) -> float:
    """Cosine of two layers on other rows after the fitted shift, whitening and rotation.

    References
    ----------
    netrep, ``LinearMetric.fit`` and ``score``.
    """
    left, _, right = np.linalg.svd(find_cross(a, b), full_matrices=False)
    x, y = a.project(rows_a), b.project(rows_b)
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(np.vdot(x @ left, y @ right.T)) / size if size > 0 else 0.0


def held_out_angle(a: Factor, b: Factor, rows_a: Float32Array, rows_b: Float32Array) -> float:
    """Arc cosine of `held_out_cosine`."""
    return acos(min(1.0, max(-1.0, held_out_cosine(a, b, rows_a, rows_b))))


def held_out_bures(a: Factor, b: Factor, rows_a: Float32Array, rows_b: Float32Array) -> float:
    """sqrt(2 - 2 c) of `held_out_cosine`."""
    return sqrt(max(0.0, 2 - 2 * held_out_cosine(a, b, rows_a, rows_b)))


def _correlate(a: Factor, b: Factor, rows_a: Float32Array, rows_b: Float32Array) -> tuple[Float64Array, Float64Array]:
    """Correlation of each fitted pair of variates on other rows, 0 where one does not vary there; and a's variates."""
    left, _, right = np.linalg.svd(find_cross(a, b), full_matrices=False)
    x, y = a.project(rows_a) @ left, b.project(rows_b) @ right.T
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    sizes = np.linalg.norm(x, axis=0) * np.linalg.norm(y, axis=0)
    products = np.einsum("ij,ij->j", x, y)
    return np.divide(products, sizes, out=np.zeros_like(products), where=sizes > 0), left
