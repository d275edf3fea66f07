"""Reference implementations of the subspace metrics, from textbooks or reference code, in float64."""

import numpy as np
import numpy.typing as npt
from scipy.linalg import orth, orthogonal_procrustes, subspace_angles

Array = npt.NDArray[np.float64]


def centred(x: npt.ArrayLike) -> Array:
    rows = np.asarray(x, dtype=np.float64)
    return rows - rows.mean(axis=0)


def correlations(x: npt.ArrayLike, y: npt.ArrayLike) -> Array:
    """Return canonical correlations: cosines of the angles between the centred column spaces."""
    return np.cos(subspace_angles(orth(centred(x), rcond=1e-6), orth(centred(y), rcond=1e-6)))


def projector(x: npt.ArrayLike) -> Array:
    basis = orth(np.asarray(x, dtype=np.float64), rcond=1e-6)
    return basis @ basis.T


def svcca(x: npt.ArrayLike, y: npt.ArrayLike, components: int, *, zscore: bool) -> float:
    def leading(side: npt.ArrayLike) -> Array:
        rows = centred(side)
        if zscore:
            spread = rows.std(axis=0)
            rows = rows[:, spread > 1e-7] / spread[spread > 1e-7]
        return np.linalg.svd(rows, full_matrices=False)[0][:, :components]

    return float(correlations(leading(x), leading(y)).mean())


def pwcca(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    rows, basis_x, basis_y = centred(x), orth(centred(x), rcond=1e-6), orth(centred(y), rcond=1e-6)
    left, rho, _ = np.linalg.svd(basis_x.T @ basis_y, full_matrices=False)
    weights = [sum(abs(variate @ column) for column in rows.T) for variate in (basis_x @ left).T]
    return float(np.average(rho, weights=weights))


def eigenspace_overlap(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    p, q = projector(x), projector(y)
    return float(np.trace(p @ q) / max(np.trace(p), np.trace(q)))


def procrustes(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Compute the Procrustes cosine; zero columns make both sides equally wide."""
    a, b = pad(centred(x), centred(y))
    _, scale = orthogonal_procrustes(a, b)
    return float(scale / (np.linalg.norm(a) * np.linalg.norm(b)))


def pad(a: Array, b: Array) -> tuple[Array, Array]:
    width = max(a.shape[1], b.shape[1])
    return np.pad(a, ((0, 0), (0, width - a.shape[1]))), np.pad(b, ((0, 0), (0, width - b.shape[1])))


def netrep_angle(x: npt.ArrayLike, y: npt.ArrayLike, alpha: float) -> float:
    """Compute netrep's LinearMetric(alpha).fit(x, y).score(x, y): whiten partially, rotate, take the angle."""

    def whiten(rows: Array) -> Array:
        squares, basis = np.linalg.eigh(rows.T @ rows)
        return rows @ (basis * (alpha + (1 - alpha) * np.maximum(squares, 1e-7) ** -0.5)) @ basis.T

    a, b = (whiten(rows) for rows in pad(centred(x), centred(y)))
    left, _, right = np.linalg.svd(a.T @ b)
    cosine = np.vdot(a @ left, b @ right.T) / (np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.arccos(np.clip(cosine, -1, 1)))


def gulp(x: npt.ArrayLike, y: npt.ArrayLike, ridge: float) -> float:
    def side(rows: Array) -> tuple[Array, Array]:
        scaled = rows / np.sqrt((rows**2).sum() / len(rows))
        return scaled, np.linalg.inv(scaled.T @ scaled / len(rows) + ridge * np.eye(rows.shape[1]))

    def shared(one: tuple[Array, Array], other: tuple[Array, Array]) -> float:
        cross = one[0].T @ other[0] / len(one[0])
        return float(np.trace(one[1] @ cross @ other[1] @ cross.T))

    a, b = side(centred(x)), side(centred(y))
    return float(np.sqrt(shared(a, a) + shared(b, b) - 2 * shared(a, b)))


def linear_predictivity(
    x: npt.ArrayLike, y: npt.ArrayLike, folds: list[npt.NDArray[np.intp]], ridge: float | None
) -> float:
    """Fit each fold by the normal equations in a loop; without a given penalty, choose it by explicit hat matrices."""
    rows, targets = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    missed = 0.0
    for scored in folds:
        fitted = np.setdiff1d(np.arange(len(rows)), scored)
        a, b = centred(rows[fitted]), centred(targets[fitted])
        unit = np.trace(a.T @ a) / a.shape[1]

        def fit(penalty: float, a: Array = a, b: Array = b, unit: float = unit) -> tuple[Array, float]:
            solver = np.linalg.solve(a.T @ a + penalty * unit * np.eye(a.shape[1]), a.T)
            misfit = np.linalg.norm(b - a @ solver @ b) ** 2
            return solver @ b, misfit / (len(a) - 1 - np.trace(a @ solver)) ** 2

        penalties = [10.0**power for power in range(-8, 5)] if ridge is None else [ridge]
        weights, _ = min((fit(penalty) for penalty in penalties), key=lambda found: found[1])
        predicted = targets[fitted].mean(axis=0) + (rows[scored] - rows[fitted].mean(axis=0)) @ weights
        missed += float(((targets[scored] - predicted) ** 2).sum())
    return 1 - missed / float((centred(targets) ** 2).sum())
