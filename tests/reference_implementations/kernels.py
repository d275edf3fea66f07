"""Reference implementations of the kernel and distance metrics: whole n x n float64 matrices, formulas of the articles."""

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, spearmanr

from tests.reference_implementations import basic

Array = npt.NDArray[np.float64]


def rbf(x: npt.ArrayLike, sigma: float) -> Array:
    return np.exp(-(squareform(pdist(np.asarray(x, np.float64))) ** 2) / (2 * sigma**2))


def median_distance(x: npt.ArrayLike) -> float:
    return float(np.median(pdist(np.asarray(x, np.float64))))


def distances(x: npt.ArrayLike) -> Array:
    return squareform(pdist(np.asarray(x, np.float64)))


def alignment(k: Array, l: Array, *, debiased: bool, epsilon: float = 0.0) -> float:  # noqa: E741 - K and L are the literature's names
    hsic = basic.debiased_hsic if debiased else basic.biased_hsic
    return hsic(k, l) / (np.sqrt(hsic(k, k) * hsic(l, l)) + epsilon)


def distance_correlation(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Compute the root of the double-centred cosine (Szekely et al. 2007, definition 3)."""
    a, b = (d - d.mean(0) - d.mean(1)[:, None] + d.mean() for d in (distances(x), distances(y)))
    return float(np.sqrt((a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean())))


def corrected_distance_correlation(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Compute the cosine of the U-centred distances (Szekely and Rizzo 2014, eq. 2.1 to 2.4)."""
    a, b = u_centred(distances(x)), u_centred(distances(y))
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def u_centred(d: Array) -> Array:
    n = len(d)
    out = d - d.sum(0) / (n - 2) - d.sum(1)[:, None] / (n - 2) + d.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(out, 0)
    return np.asarray(out)


def rsa(x: npt.ArrayLike, y: npt.ArrayLike, method: str, distance: str) -> float:
    correlate = spearmanr if method == "spearman" else pearsonr
    return float(correlate(*(pdist(np.asarray(side, np.float64), distance) for side in (x, y)))[0])
