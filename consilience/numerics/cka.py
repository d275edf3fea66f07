"""Centred kernel alignment with linear kernels, in feature space: O(n p q), no n x n matrix."""

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np

from consilience.numerics.arrays import BLOCK_ROWS, Float64Array
from consilience.numerics.moments import Moments, find_cross
from consilience.numerics.nulls import NullLaw
from consilience.numerics.permutations import Permutation

#: What the reference implementation adds to the denominator.
PRH_EPSILON = 1e-6


@dataclass(frozen=True)
class CkaOptions:
    """Which CKA: debiased or biased HSIC, the standard ratio or the reference implementation's."""

    debiased: bool = True
    definition: Literal["standard", "prh"] = "standard"


def hsic(cross: Float64Array, k: Float64Array, l: Float64Array, *, debiased: bool) -> float:  # noqa: E741 - K and L are the literature's names
    """Hilbert-Schmidt independence criterion of two linear kernels.

    Biased: tr(KHLH) = |Xc'Yc|^2, as the reference has it. Debiased (Song et al. 2012, eq. 5), with k and l the diagonals of the
    centred kernels: (|Xc'Yc|^2 - n/(n-2) k.l + sum(k) sum(l) / ((n-1)(n-2))) / (n (n-3)); 0 on average at chance, n >= 4.
    """
    square = float(np.vdot(cross, cross))
    if not debiased:
        return square
    n = len(k)
    centred = square - n / (n - 2) * float(k @ l) + float(k.sum() * l.sum()) / ((n - 1) * (n - 2))
    return centred / (n * (n - 3))


def self_hsic(side: Moments, *, debiased: bool) -> float:
    """HSIC(K, K) of one layer; a value that is not above 0 leaves CKA undefined."""
    return hsic(side.covariance, side.norms, side.norms, debiased=debiased)


def cka(a: Moments, b: Moments, options: CkaOptions, permutation: Permutation | None = None) -> float:
    """Alignment of two layers' centred linear kernels.

    CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)); the definition "prh" adds 1e-6 to the denominator. Symmetric. Biased: in
    [0, 1], sqrt(b_x b_y) / (n - 1) at chance. Debiased: at most 1, 0 at chance, can be below 0.

    Parameters
    ----------
    a, b : Moments of layers with the same n >= 4 rows, with self_hsic above 0
    options : CkaOptions
    permutation : array of n row numbers, optional
        Pairs row i of a with row p(i) of b.

    References
    ----------
    Kornblith et al. 2019, arXiv 1905.00414, eq. 4; Song et al. 2012, JMLR 13:1393-1434, eq. 5.

    Examples
    --------
    >>> from consilience.numerics.moments import find_moments
    >>> x = find_moments(np.eye(5, 3, dtype=np.float32))
    >>> round(cka(x, x, CkaOptions()), 12)
    1.0
    """
    other = b.norms if permutation is None else b.norms[permutation]
    shared = hsic(find_cross(a, b, permutation), a.norms, other, debiased=options.debiased)
    return shared / _denominator(a, b, options)


def _denominator(a: Moments, b: Moments, options: CkaOptions) -> float:
    own = sqrt(self_hsic(a, debiased=options.debiased) * self_hsic(b, debiased=options.debiased))
    return own + PRH_EPSILON if options.definition == "prh" else own


def cka_law(a: Moments, b: Moments, options: CkaOptions) -> NullLaw:
    """The null law of CKA under random pairing, from the spectra alone.

    Debiased: mean 0, variance exactly 2 / (n (n - 3)) whatever the data. Biased: Kazi-Aoual's mean and variance of the RV
    coefficient. The skew of both is approximated from the covariances: 8 tr S_x^3 tr S_y^3 / (2 tr S_x^2 tr S_y^2)^(3/2).

    References
    ----------
    Kazi-Aoual et al. 1995; Josse, Pages and Husson 2008.
    """
    skew = 8 * a.trace_power(3) * b.trace_power(3) / (2 * a.trace_power(2) * b.trace_power(2)) ** 1.5
    law = NullLaw(0.0, sqrt(2 / (a.n * (a.n - 3))), skew) if options.debiased else _biased_law(a, b, skew)
    if options.definition == "standard":
        return law
    own = _denominator(a, b, CkaOptions(options.debiased))
    return law.scaled(own / (own + PRH_EPSILON))


def _biased_law(a: Moments, b: Moments, skew: float) -> NullLaw:
    n = a.n
    (beta_a, tau_a), (beta_b, tau_b) = _spread(a), _spread(b)
    mean = sqrt(beta_a * beta_b) / (n - 1)
    # One direction of variance (beta = 1 up to n - 1 equal ones) leaves nothing to permute at the upper end.
    base = 2 * (n - 1 - beta_a) * (n - 1 - beta_b) / ((n + 1) * (n - 1) ** 2 * (n - 2))
    variance = base * (1 + (n - 3) * tau_a * tau_b / (2 * n * (n - 1)))
    return NullLaw(mean, sqrt(max(0.0, variance)), skew)


def _spread(side: Moments) -> tuple[float, float]:
    """The effective number of dimensions, and Kazi-Aoual's tau."""
    n = side.n
    square = side.trace_power(2)
    beta = side.trace_power(1) ** 2 / square
    room = (n - 3) * (n - 1 - beta)
    if room <= 0:
        return beta, 0.0
    tau = (n - 1) / room * (n * (n + 1) * float(side.norms @ side.norms) / square - (n - 1) * (beta + 2))
    return beta, tau


def jackknife(a: Moments, b: Moments, options: CkaOptions) -> Float64Array:
    """CKA with each row left out in turn, by a closed form: O(n p q) for all n values.

    Returns
    -------
    array of shape (n,), float64; needs n >= 5. NaN where leaving that row out makes CKA undefined.
    """
    shared = _hsic_without_each(a, b, options)
    own_a, own_b = _hsic_without_each(a, a, options), _hsic_without_each(b, b, options)
    product = own_a * own_b
    product[(own_a <= 0) | (own_b <= 0)] = np.nan
    root = np.sqrt(product)
    return np.asarray(shared / (root + PRH_EPSILON if options.definition == "prh" else root))


def _hsic_without_each(a: Moments, b: Moments, options: CkaOptions) -> Float64Array:
    """HSIC with row j left out, from the row sums of K, L and K * L (of the centred data, whose full row sums are 0)."""
    cross, k, l = find_cross(a, b), a.norms, b.norms  # noqa: E741 - K and L are the literature's names
    product, l_on_k, k_on_l = (np.empty(a.n) for _ in range(3))
    pull_a, pull_b = _weighted_sum(a, l), _weighted_sum(b, k)
    for start in range(0, a.n, BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        left, right = a.centred(rows), b.centred(rows)
        product[rows] = np.einsum("ij,ij->i", left @ cross, right)
        k_on_l[rows], l_on_k[rows] = left @ pull_a, right @ pull_b
    m = a.n - 1
    total = float(np.vdot(cross, cross))
    if not options.debiased:
        left_out = total - 2 * product + k * l
        return np.asarray(left_out - 2 / m * (product - k * l) + k * l / m**2)
    off = product - k * l
    trace = (total - float(k @ l)) - 2 * off
    sums = (2 * k - k.sum()) * (2 * l - l.sum())
    chains = float(k @ l) - k * l + (l_on_k - k * l) + (k_on_l - k * l) + off
    return np.asarray((trace + sums / ((m - 1) * (m - 2)) - 2 * chains / (m - 2)) / (m * (m - 3)))


def _weighted_sum(side: Moments, weights: Float64Array) -> Float64Array:
    """Xc' w, by blocks."""
    total = np.zeros(side.x.shape[1])
    for start in range(0, side.n, BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        total += weights[rows] @ side.centred(rows)
    return total
