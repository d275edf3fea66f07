"""Canonical correlations and subspace overlaps of two layers, from their whitened directions.

The held-out forms score directions fitted on some rows by the sums over other rows.
"""

from math import acos, sqrt

import numpy as np
from scipy.linalg import eigh

from consilience.numerics.rows.arrays import Float64Array
from consilience.numerics.stats.nulls import NullMean, PearsonNull, Permutation
from consilience.numerics.subspaces.moments import PairSums
from consilience.numerics.subspaces.spectra import (
    ScaledDirections,
    Spectrum,
    find_cross,
    scale_directions,
    singular_values,
)


def cca_mean(a: ScaledDirections, b: ScaledDirections, permutation: Permutation | None = None) -> float:
    """Mean canonical correlation of two layers.

    (1/r) sum_i rho_i, rho the singular values of U_A' U_B, r = min(rank A, rank B). Symmetric, in [0, 1]; at chance near
    sqrt(max rank / (n - 1)), estimated by permutation. With the directions of `leading_components` it is SVCCA.

    Parameters
    ----------
    a, b : ScaledDirections with orthonormal scores of the same n rows, each of rank below n - 1
        `scale_directions(find_spectrum(x))`; at rank n - 1 the value is 1 for any data.
    permutation : array of n row numbers, optional
        Pairs row i of a with row p(i) of b.

    References
    ----------
    Raghu et al. 2017, arXiv 1706.05806, section 2; Kornblith et al. 2019, arXiv 1905.00414, table 1.

    Examples
    --------
    The two lines lie 60 degrees apart.

    >>> from consilience.numerics.subspaces.spectra import find_spectrum
    >>> a = np.array([[1], [-1], [0], [0]], dtype=np.float32)
    >>> b = np.array([[1], [-1], [3**0.5], [-(3**0.5)]], dtype=np.float32)
    >>> round(cca_mean(*(scale_directions(find_spectrum(x)) for x in (a, b))), 6)
    0.5
    """
    found = singular_values(find_cross(a, b, permutation), approximate=permutation is not None)
    return float(np.minimum(found, 1.0).mean())


def cca_r2(a: ScaledDirections, b: ScaledDirections, permutation: Permutation | None = None) -> float:
    """Mean squared canonical correlation of two layers.

    (1/r) sum_i rho_i^2 = |U_A' U_B|^2 / r = tr(P_A P_B) / r, r = min(rank A, rank B). Symmetric, in [0, 1];
    max(rank A, rank B) / (n - 1) at chance.

    Parameters
    ----------
    a, b, permutation : as in `cca_mean`

    References
    ----------
    Kornblith et al. 2019, arXiv 1905.00414, table 1, R^2_CCA.

    Examples
    --------
    >>> from consilience.numerics.subspaces.spectra import find_spectrum
    >>> a = np.array([[1], [-1], [0], [0]], dtype=np.float32)
    >>> b = np.array([[1], [-1], [3**0.5], [-(3**0.5)]], dtype=np.float32)
    >>> round(cca_r2(*(scale_directions(find_spectrum(x)) for x in (a, b))), 6)
    0.25
    """
    cross = find_cross(a, b, permutation)
    return min(1.0, float(np.vdot(cross, cross)) / min(a.rank, b.rank))


def cca_r2_null(a: ScaledDirections, b: ScaledDirections) -> PearsonNull:
    """Return the null distribution of `cca_r2`: Kazi-Aoual's exact mean and variance of the RV coefficient of P_A and P_B.

    mean = max(p, q) / (n - 1) for ranks p, q. var[tr(P_A P_B)] = 2 p (N - p) q (N - q) / ((n + 1) N^2 (n - 2))
    (1 + (n - 3) t_A t_B / (2 n N)), N = n - 1, t = N / ((n - 3) (N - p)) (n (n + 1) sum_i h_i^2 / p - N (p + 2)), h_i the
    leverages. The skew is approximate: 8 tr C_A^3 tr C_B^3 / (2 tr C_A^2 tr C_B^2)^(3/2), C = P - (p / N) H.

    References
    ----------
    Kazi-Aoual et al. 1995; Josse, Pages and Husson 2008.
    """
    n, room = a.n, a.n - 1
    p, q = a.rank, b.rank
    spread = 2 * p * (room - p) * q * (room - q) / ((n + 1) * room**2 * (n - 2))
    variance = spread * (1 + (n - 3) * _leverage_excess(a) * _leverage_excess(b) / (2 * n * room))
    skew = sqrt(8) * _projector_skew(p, room) * _projector_skew(q, room)
    return PearsonNull(p * q / room, sqrt(max(0.0, variance)), skew).scaled(1 / min(p, q))


def _leverage_excess(factor: ScaledDirections) -> float:
    """Return Kazi-Aoual's tau of a projector: 0 if its leverages are as even as those of Gaussian data."""
    n, p = factor.n, factor.rank
    leverages = factor.leverages()
    excess = n * (n + 1) * float(leverages @ leverages) / p - (n - 1) * (p + 2)
    return (n - 1) / ((n - 3) * (n - 1 - p)) * excess


def _projector_skew(rank: int, room: int) -> float:
    """Return tr C^3 / (tr C^2)^(3/2) with C as in `cca_r2_null`: below 0 if the rank is more than half of n - 1."""
    share = rank / room
    return (1 - 2 * share) / sqrt(rank * (1 - share))


def leading_components(spectrum: Spectrum, components: int | None, variance: float) -> ScaledDirections:
    """Keep a layer's leading principal components, whitened, as SVCCA does.

    `components` of them (or all, if there are fewer); None keeps the fewest that hold the share `variance` of
    sum_i s_i^2.

    References
    ----------
    Raghu et al. 2017, arXiv 1706.05806, section 2.
    """
    shares = np.cumsum(spectrum.values**2) / (spectrum.values @ spectrum.values)
    enough = int(np.searchsorted(shares, variance * (1 - 1e-12))) + 1
    return scale_directions(spectrum, np.ones(min(spectrum.rank, enough if components is None else components)))


def pwcca(a: ScaledDirections, b: ScaledDirections, permutation: Permutation | None = None) -> float:
    """Mean canonical correlation, weighted by the share of the first layer that each direction accounts for.

    sum_i w_i rho_i, w_i proportional to sum_j |<h_i, x_j>|, h = U_A P the canonical variates of a, x_j the centred columns of
    a. Not symmetric, in [0, 1]; the value at chance is estimated by permutation. If rank A + rank B
    exceeds n - 1 by two or more, that many correlations are all 1, and the weights of equal correlations depend on the
    basis that the decomposition returns: the value is then determined only to about 1e-4.

    Parameters
    ----------
    a, b, permutation : as in `cca_mean`

    References
    ----------
    Morcos et al. 2018, arXiv 1806.05759, eq. 4.

    Examples
    --------
    >>> from consilience.numerics.subspaces.spectra import find_spectrum
    >>> a = np.array([[1, 2], [-1, 0], [0, 1], [0, -3], [3, 3]], dtype=np.float32)
    >>> side = scale_directions(find_spectrum(a))
    >>> round(pwcca(side, side), 6)
    1.0
    """
    variates, found = _left_vectors(find_cross(a, b, permutation), approximate=permutation is not None)
    return float(np.vdot(np.minimum(found, 1.0), variate_weights(a, variates)))


def variate_weights(a: ScaledDirections, variates: Float64Array) -> Float64Array:
    """Return the shares of a layer that its canonical variates (r, k) account for: shape (k,), summing to 1."""
    loadings = a.values[:, None] ** 2 * a.mapping.T  # U'Xc = S V'
    sums = np.abs(variates.T @ loadings).sum(axis=1)
    return np.asarray(sums / sums.sum())


def _left_vectors(cross: Float64Array, *, approximate: bool) -> tuple[Float64Array, Float64Array]:
    """Return left singular vectors and singular values; `approximate` as in `singular_values`."""
    if not approximate or min(cross.shape) <= 64:
        left, found, _ = np.linalg.svd(cross, full_matrices=False)
        return left, found
    tall = cross.shape[0] > cross.shape[1]
    squares, vectors = eigh(cross.T @ cross if tall else cross @ cross.T, driver="evd", check_finite=False)
    found = np.sqrt(np.maximum(squares, 0.0))
    if not tall:
        return vectors, found
    left = cross @ vectors
    return left / np.maximum(np.linalg.norm(left, axis=0), np.finfo(np.float64).tiny), found


def eigenspace_overlap(a: ScaledDirections, b: ScaledDirections, permutation: Permutation | None = None) -> float:
    """Share of the larger of two uncentred column spaces that the other one covers.

    |U_A' U_B|^2 / max(rank A, rank B). Symmetric, in [0, 1]; at chance the mean of `eigenspace_null`.

    Parameters
    ----------
    a, b : ScaledDirections with orthonormal scores of the same n rows, each of rank below n
        `scale_directions(find_spectrum(x, centre=False))`.
    permutation : as in `cca_mean`

    References
    ----------
    May et al. 2019, arXiv 1909.01264, definition 2.

    Examples
    --------
    >>> from consilience.numerics.subspaces.spectra import find_spectrum
    >>> a, b = np.eye(4, 2, dtype=np.float32), np.eye(4, 3, k=-1, dtype=np.float32)
    >>> round(eigenspace_overlap(*(scale_directions(find_spectrum(x, centre=False)) for x in (a, b))), 6)
    0.333333
    """
    cross = find_cross(a, b, permutation)
    return min(1.0, float(np.vdot(cross, cross)) / max(a.rank, b.rank))


def eigenspace_null(a: ScaledDirections, b: ScaledDirections) -> NullMean:
    """Return the exact mean of `eigenspace_overlap` over all permutations of the items.

    [e f + (p - e)(q - f) / (n - 1)] / max(p, q) for ranks p, q; e = |U_A' 1|^2 / n and f = |U_B' 1|^2 / n are the parts of
    the constant vector in the column spaces, which no permutation changes.
    """
    n, p, q = a.n, a.rank, b.rank
    sums_a, sums_b = a.sums(), b.sums()
    e, f = float(sums_a @ sums_a) / n, float(sums_b @ sums_b) / n
    return NullMean((e * f + (p - e) * (q - f) / (n - 1)) / max(p, q))


#: A variate whose variance is a smaller share of its mean square than this varies only by rounding.
_ROUNDING = 1e-14


def held_out_cca_mean(a: ScaledDirections, b: ScaledDirections, others: PairSums) -> float:
    """Mean correlation of the fitted pairs of directions on held-out rows: at most 1, 0 on average at chance.

    Parameters
    ----------
    a, b : ScaledDirections of the rows that the directions are fitted on
    others : PairSums over held-out rows of the same layers, paired, along the same directions
        `moments.sum_rows` of the projected rows, or `moments.project_sums` of the sums of the rows themselves.
    """
    return float(_correlate(a, b, others)[0].mean())


def held_out_cca_r2(a: ScaledDirections, b: ScaledDirections, others: PairSums) -> float:
    """Mean of r |r| over the correlations r of the fitted pairs of directions on held-out rows.

    At most 1. Keeping the sign of r makes the mean 0 at chance.
    """
    correlations, _ = _correlate(a, b, others)
    return float((correlations * np.abs(correlations)).mean())


def held_out_pwcca(a: ScaledDirections, b: ScaledDirections, others: PairSums) -> float:
    """Mean correlation of the fitted pairs of directions on held-out rows, with the weights of the fit."""
    correlations, variates = _correlate(a, b, others)
    return float(correlations @ variate_weights(a, variates))


def held_out_cosine(a: ScaledDirections, b: ScaledDirections, others: PairSums) -> float:
    """Cosine of two layers on held-out rows after the fitted shift, whitening and rotation: in [-1, 1].

    References
    ----------
    netrep, ``LinearMetric.fit`` and ``score``.
    """
    left, _, right = np.linalg.svd(find_cross(a, b), full_matrices=False)
    size = sqrt(float(np.trace(others.xx) * np.trace(others.yy)))
    return float(np.vdot(left, others.xy @ right.T)) / size if size > 0 else 0.0


def held_out_angle(a: ScaledDirections, b: ScaledDirections, others: PairSums) -> float:
    """Arc cosine of `held_out_cosine`, in radians."""
    return acos(min(1.0, max(-1.0, held_out_cosine(a, b, others))))


def held_out_bures(a: ScaledDirections, b: ScaledDirections, others: PairSums) -> float:
    """Distance sqrt(2 - 2 c), with c from `held_out_cosine`."""
    return sqrt(max(0.0, 2 - 2 * held_out_cosine(a, b, others)))


def _correlate(a: ScaledDirections, b: ScaledDirections, others: PairSums) -> tuple[Float64Array, Float64Array]:
    """Return the correlation of each fitted pair of variates on held-out rows (0 if one is constant), and a's variates."""
    left, _, right = np.linalg.svd(find_cross(a, b), full_matrices=False)
    centred = others.about(others.means)
    x, y = (_sizes(left, centred.xx, others.xx), _sizes(right.T, centred.yy, others.yy))
    products = np.einsum("ij,ij->j", left, centred.xy @ right.T)
    sizes = x * y
    return np.divide(products, sizes, out=np.zeros_like(products), where=sizes > 0), left


def _sizes(directions: Float64Array, centred: Float64Array, raw: Float64Array) -> Float64Array:
    """Return the lengths of the centred variates, 0 if only rounding is left."""
    squares, whole = (np.einsum("ij,ij->j", directions, moment @ directions) for moment in (centred, raw))
    return np.sqrt(np.where(squares > _ROUNDING * whole, squares, 0.0))
