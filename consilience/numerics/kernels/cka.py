"""Centred kernel alignment (CKA): the algebra of centred symmetric matrices of any kernel or distance.

It needs only sums off the diagonal (`MatrixSums`, `ProductRowSums`), computed from blocks of rows of any kernel (`matrices`)
or, for linear kernels, from the features (`linear`).
"""

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np

from consilience.numerics.kernels.matrices import MatrixSums, ProductRowSums
from consilience.numerics.rows.arrays import Float64Array
from consilience.numerics.stats.nulls import PearsonNull, Permutation

#: Constant that the reference implementation adds to the denominator.
PRH_EPSILON = 1e-6
#: Rounding error of a sum of float64 terms, relative to the sum of their sizes.
_DIGITS = 1e-14


@dataclass(frozen=True)
class CkaOptions:
    """Options of CKA: debiased or biased HSIC, and the standard ratio or that of the reference implementation."""

    debiased: bool = True
    definition: Literal["standard", "prh"] = "standard"


def hsic(
    product: float, a: MatrixSums, b: MatrixSums, *, debiased: bool, permutation: Permutation | None = None
) -> float:
    """Hilbert-Schmidt independence criterion of two symmetric matrices.

    Biased: tr(KHLH), as in the reference implementation. Debiased (Song et al. 2012, eq. 5), over entries off the diagonal:
    (sum K L + sum(K) sum(L) / ((n-1)(n-2)) - 2 k.l / (n-2)) / (n (n-3)) with row sums k and l; 0 on average at chance, n >= 4.

    Parameters
    ----------
    product : float
        sum_{i != j} K[i, j] L[i, j], with b permuted if there is a permutation.
    a, b : MatrixSums of each, those of b not permuted
    """
    n = a.n
    order = slice(None) if permutation is None else permutation
    if debiased:
        rows = float(a.rows @ b.rows[order])
        return (product + a.total * b.total / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)) / (n * (n - 3))
    full_a, full_b = a.rows + a.diagonal, b.rows + b.diagonal
    product += float(a.diagonal @ b.diagonal[order])
    return product - 2 / n * float(full_a @ full_b[order]) + float(full_a.sum() * full_b.sum()) / n**2


def self_hsic(a: MatrixSums, *, debiased: bool) -> float:
    """Return HSIC(K, K) of one layer; CKA is undefined unless it is above 0.

    A value within the rounding error of a matrix of equal entries is returned as 0.
    """
    own = hsic(a.square, a, a, debiased=debiased)
    # The terms of the debiased sum may cancel and leave the last digits of the largest.
    noise = a.noise + _DIGITS * (a.square + float(a.rows @ a.rows) / a.n)
    return own if abs(own) > (noise / (a.n * (a.n - 3)) if debiased else a.noise) else 0.0


def cka(
    product: float, a: MatrixSums, b: MatrixSums, options: CkaOptions, permutation: Permutation | None = None
) -> float:
    """Alignment of two centred symmetric matrices.

    CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)); the definition "prh" adds 1e-6 to the denominator. Symmetric. Biased: in
    [0, 1], sqrt(b_x b_y) / (n - 1) at chance. Debiased: at most 1, 0 at chance, can be negative. For Euclidean distances it is
    the squared distance correlation (biased) or the bias-corrected one (debiased).

    Parameters
    ----------
    product : float
        sum_{i != j} K[i, j] L[p(i), p(j)].
    a, b : MatrixSums of layers with the same n >= 4 rows, with self_hsic above 0
    options : CkaOptions
    permutation : array of n row numbers, optional
        Pairs row i of a with row p(i) of b.

    References
    ----------
    Kornblith et al. 2019, arXiv 1905.00414, eq. 4; Song et al. 2012, JMLR 13:1393-1434, eq. 5; Szekely and Rizzo 2014, Annals
    of Statistics 42:2382-2412, eq. 2.4.

    Examples
    --------
    >>> from consilience.numerics.kernels.matrices import find_sums
    >>> from consilience.numerics.kernels.matrices import pair_matrix
    >>> line = pair_matrix(np.array([[-3.0], [-1.0], [1.0], [3.0]]), "inner")
    >>> ends = pair_matrix(np.array([[-1.0], [0.0], [0.0], [1.0]]), "inner")
    >>> (a, b), products = find_sums([line, ends])
    >>> round(cka(float(products[0, 1]), a, b, CkaOptions(debiased=False)), 12)
    0.9
    """
    return hsic(product, a, b, debiased=options.debiased, permutation=permutation) / _denominator(a, b, options)


def _denominator(a: MatrixSums, b: MatrixSums, options: CkaOptions) -> float:
    own = sqrt(self_hsic(a, debiased=options.debiased) * self_hsic(b, debiased=options.debiased))
    return own + PRH_EPSILON if options.definition == "prh" else own


def cka_null(a: MatrixSums, b: MatrixSums, options: CkaOptions, triangles: tuple[float, float]) -> PearsonNull:
    """Return the null distribution of CKA under random pairing, from sums of each side alone.

    Debiased: mean 0, variance exactly 2 / (n (n - 3)) for any data. Biased: Kazi-Aoual's exact mean and variance. The
    skew of both is approximated by sqrt(8) t_x t_y with t = tr U^3 / (tr U^2)^(3/2), `triangles`; at its maximum (t = 1) the
    debiased tail is that of the chi-square test of Shen et al.

    References
    ----------
    Kazi-Aoual et al. 1995; Josse, Pages and Husson 2008; Shen, Panda and Vogelstein 2022, arXiv 1912.12150, theorem 5.
    """
    skew = sqrt(8) * triangles[0] * triangles[1]
    law = PearsonNull(0.0, sqrt(2 / (a.n * (a.n - 3))), skew) if options.debiased else _biased_null(a, b, skew)
    if options.definition == "standard":
        return law
    own = _denominator(a, b, CkaOptions(options.debiased))
    return law.scaled(own / (own + PRH_EPSILON))


def _biased_null(a: MatrixSums, b: MatrixSums, skew: float) -> PearsonNull:
    n = a.n
    (beta_a, tau_a), (beta_b, tau_b) = _spread(a), _spread(b)
    mean = sqrt(beta_a * beta_b) / (n - 1)
    # With n - 1 equal directions of variance (beta = n - 1) the variance is 0: all permutations give the same value.
    base = 2 * (n - 1 - beta_a) * (n - 1 - beta_b) / ((n + 1) * (n - 1) ** 2 * (n - 2))
    variance = base * (1 + (n - 3) * tau_a * tau_b / (2 * n * (n - 1)))
    return PearsonNull(mean, sqrt(max(0.0, variance)), skew)


def _spread(a: MatrixSums) -> tuple[float, float]:
    """Return the effective number of dimensions tr^2 / |K|^2 of the centred matrix, and Kazi-Aoual's tau."""
    n = a.n
    full = a.rows + a.diagonal
    diagonal = a.diagonal - 2 / n * full + full.sum() / n**2
    square = self_hsic(a, debiased=False)
    beta = float(diagonal.sum()) ** 2 / square
    room = (n - 3) * (n - 1 - beta)
    if room <= 0:
        return beta, 0.0
    tau = (n - 1) / room * (n * (n + 1) * float(diagonal @ diagonal) / square - (n - 1) * (beta + 2))
    return beta, tau


def jackknife_weights(a: MatrixSums, *, debiased: bool) -> Float64Array:
    """Return the weights of `ProductRowSums`: the row sums, without the diagonal for the debiased HSIC."""
    return a.rows if debiased else a.rows + a.diagonal


def jackknife(
    product: float,
    sides: tuple[MatrixSums, MatrixSums],
    rows: tuple[ProductRowSums, ProductRowSums, ProductRowSums],
    options: CkaOptions,
) -> Float64Array:
    """Compute CKA with each row left out in turn, by a closed form that is exact for any kernel.

    Parameters
    ----------
    product : float
        sum_{i != j} K[i, j] L[i, j].
    sides : MatrixSums of K and L
    rows : ProductRowSums of K with L, K with K, L with L, weighted by `jackknife_weights`

    Returns
    -------
    array of shape (n,), float64; needs n >= 5. NaN for a row without which CKA is undefined.
    """
    a, b = sides
    shared = _hsic_without_each(product, a, b, rows[0], debiased=options.debiased)
    own_a = _hsic_without_each(a.square, a, a, rows[1], debiased=options.debiased)
    own_b = _hsic_without_each(b.square, b, b, rows[2], debiased=options.debiased)
    squared = own_a * own_b
    squared[(own_a <= 0) | (own_b <= 0)] = np.nan
    root = np.sqrt(squared)
    return np.asarray(shared / (root + PRH_EPSILON if options.definition == "prh" else root))


def _hsic_without_each(
    product: float, a: MatrixSums, b: MatrixSums, rows: ProductRowSums, *, debiased: bool
) -> Float64Array:
    """Return HSIC with each row j left out: each sum loses the terms of row and column j."""
    m = a.n - 1
    left_out = product - 2 * rows.product
    w_a, w_b = (jackknife_weights(side, debiased=debiased) for side in (a, b))
    chains = float(w_a @ w_b) - w_a * w_b - rows.left - rows.right + rows.product
    if debiased:
        sums = (a.total - 2 * w_a) * (b.total - 2 * w_b)
        return np.asarray((left_out + sums / ((m - 1) * (m - 2)) - 2 * chains / (m - 2)) / (m * (m - 3)))
    k, l = a.diagonal, b.diagonal  # noqa: E741 - K and L are the literature's names
    trace = left_out + float(k @ l) - k * l
    sums = (w_a.sum() - 2 * w_a + k) * (w_b.sum() - 2 * w_b + l)
    return np.asarray(trace - 2 / m * chains + sums / m**2)
