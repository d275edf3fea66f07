"""Reference implementations: each metric in a few lines of float64 numpy over whole n x n matrices."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def unit_rows(x: npt.ArrayLike) -> Array:
    rows = np.asarray(x, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def neighbours(x: npt.ArrayLike, k: int) -> npt.NDArray[np.intp]:
    """Return the k nearest other rows: larger similarity first, then the smaller id."""
    rows = np.asarray(x, dtype=np.float64)
    similarity = rows @ rows.T
    np.fill_diagonal(similarity, -np.inf)
    ids = np.broadcast_to(np.arange(len(rows)), similarity.shape)
    return np.lexsort((ids, -similarity), axis=1)[:, :k]


def mutual_knn(a: npt.ArrayLike, b: npt.ArrayLike, k: int) -> float:
    pairs = zip(neighbours(a, k), neighbours(b, k), strict=True)
    return float(np.mean([len(set(x) & set(y)) / k for x, y in pairs]))


def kernels(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Array, Array]:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return x @ x.T, y @ y.T


def biased_hsic(k: Array, l: Array) -> float:  # noqa: E741 - K and L are the literature's names
    centring = np.eye(len(k)) - 1 / len(k)
    return float(np.trace(k @ centring @ l @ centring))


def debiased_hsic(k: Array, l: Array) -> float:  # noqa: E741 - the same
    n = len(k)
    k0, l0 = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))
    ones = np.ones(n)
    total = np.trace(k0 @ l0) + k0.sum() * l0.sum() / ((n - 1) * (n - 2)) - 2 * ones @ k0 @ l0 @ ones / (n - 2)
    return float(total / (n * (n - 3)))


def cka(a: npt.ArrayLike, b: npt.ArrayLike, *, debiased: bool, epsilon: float = 0.0) -> float:
    k, l = kernels(a, b)  # noqa: E741 - the same
    hsic = debiased_hsic if debiased else biased_hsic
    return hsic(k, l) / (np.sqrt(hsic(k, k) * hsic(l, l)) + epsilon)
