"""Fits of maps between two spaces: Procrustes, ridge regression, reduced rank, and relative representations.

All but the relative map are computed from sums over the training rows alone. Relative maps represent each row by its
similarities to anchor items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.linalg import eigh

from consilience.numerics.regression.maps import Affine, MapSums, Transform, add_sums
from consilience.numerics.regression.ridge import PENALTIES
from consilience.numerics.rows.arrays import Float32Array, Float64Array

_EPS64 = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Rotation:
    """Procrustes map and its scale factor."""

    affine: Affine
    scale: float


def fit_procrustes(sums: MapSums, *, scale: bool = True, translation: bool = True) -> Rotation:
    """Fit the rotation that minimises the sum of squared distances between rotated x and y.

    R = U V' of the singular vectors of Xc'Yc, or of X'Y without translation; with scale it is multiplied by
    tr(S) / |Xc R|^2, which minimises |s Xc R - Yc|. If the dimensions differ, R has orthonormal rows (p < q) or columns.

    References
    ----------
    Schoenemann 1966, Psychometrika 31:1-10; Gower and Dijksterhuis 2004, Procrustes Problems, chapter 4.
    """
    centres = sums.means if translation else (np.zeros_like(sums.x), np.zeros_like(sums.y))
    centred = sums.about(centres)
    left, values, right = np.linalg.svd(centred.xy, full_matrices=False)
    rotation = left @ right
    size = float(np.vdot(rotation, centred.xx @ rotation))
    factor = float(values.sum()) / size if scale and size > 0 else 1.0
    return Rotation(Affine(factor * rotation, *centres), factor)


class RidgePath:
    """Ridge regressions on the same rows for any penalty, from one decomposition of Xc'Xc: O(p^3 + p^2 q)."""

    def __init__(self, sums: MapSums) -> None:
        self._means = sums.means
        centred = sums.about(self._means)
        values, self._basis = eigh(centred.xx, driver="evd", check_finite=False)
        # Directions of rounding alone are dropped: a tiny penalty must not divide by them.
        kept = values > len(values) * _EPS64 * max(float(values[-1]), 0.0)
        self._values, self._basis = values[kept], self._basis[:, kept]
        self._along = self._basis.T @ centred.xy
        self.variance = float(np.trace(centred.xx)) / len(values)

    def fit(self, penalty: float) -> Affine:
        """Return the map at a penalty in units of the mean variance."""
        return Affine(self._basis @ (self._along * self._shrink(penalty)[:, None]), *self._means)

    def errors(self, penalties: Float64Array, held: MapSums) -> Float64Array:
        """Return the sum of squared errors on held-out rows for each penalty, without the maps: O(p^2 q) for all together."""
        others = held.about(self._means)
        square = self._basis.T @ others.xx @ self._basis * (self._along @ self._along.T)
        cross = np.einsum("ij,ij->i", self._along, self._basis.T @ others.xy)
        shrunk = np.stack([self._shrink(penalty) for penalty in penalties])
        return np.asarray(
            others.yy - 2 * shrunk @ cross + np.einsum("li,ij,lj->l", shrunk, square, shrunk, optimize=True)
        )

    def _shrink(self, penalty: float) -> Float64Array:
        return np.asarray(1 / (self._values + penalty * self.variance))


def find_error(affine: Affine, held: MapSums) -> float:
    """Return the sum of squared errors of a map on held-out rows, from their sums."""
    others = held.about((affine.origin, affine.target))
    w = affine.weights
    return others.yy - 2 * float(np.vdot(w, others.xy)) + float(np.vdot(w, others.xx @ w))


@dataclass(frozen=True)
class FoldChoice:
    """Choice by cross-validation over the folds of the training rows.

    Attributes
    ----------
    penalty : of the best ridge regression, in units of the mean variance
    best : the best kind of linear map
    """

    penalty: float
    best: Literal["procrustes", "ridge"]


def choose_map(folds: Sequence[MapSums]) -> FoldChoice:
    """Choose between the penalties and the scaled rotation by cross-validation: fit on all folds but one, test on that one.

    O(folds p^2 (p + q)). At equal errors, the larger penalty and the rotation win.
    """
    ridge, rotation = np.zeros(len(PENALTIES)), 0.0
    for held in range(len(folds)):
        others = add_sums([*folds[:held], *folds[held + 1 :]])
        ridge += RidgePath(others).errors(PENALTIES, folds[held])
        rotation += find_error(fit_procrustes(others).affine, folds[held])
    best = len(ridge) - 1 - int(np.argmin(ridge[::-1]))
    return FoldChoice(float(PENALTIES[best]), "procrustes" if rotation <= ridge[best] else "ridge")


@dataclass(frozen=True)
class FittedLowRankMap:
    """Map of low rank: y = (x - origin) D U + target."""

    down: Affine
    up: Float64Array

    def transform(self) -> Transform:
        """Return the map as a transform of two steps."""
        first = Affine(self.down.weights, self.down.origin, np.zeros(self.down.weights.shape[1]))
        return Transform((first.step(), Affine(self.up, np.zeros(len(self.up)), self.down.target).step()))


def reduce_rank(path: RidgePath, sums: MapSums, penalty: float, rank: int) -> FittedLowRankMap:
    """Fit the best map of a given rank at a penalty: W V V', with V the leading eigenvectors of Y'X W.

    O(q^3 + p q r).

    References
    ----------
    Izenman 1975, Reduced-rank regression, J. Multivariate Analysis 5:248-264; Mukherjee and Zhu 2011, Reduced rank ridge
    regression, Statistical Analysis and Data Mining 4:612-622.
    """
    full = path.fit(penalty)
    gram = sums.about(sums.means).xy.T @ full.weights
    size = len(gram)
    _, leading = eigh((gram + gram.T) / 2, subset_by_index=(size - rank, size - 1), check_finite=False)
    return FittedLowRankMap(Affine(full.weights @ leading, full.origin, full.target), np.asarray(leading.T))


#: Used as mean squared length if all anchors are equal.
_SMALLEST = 1e-150


@dataclass(frozen=True)
class FittedRelativeMap:
    """Map by relative representations, with its chosen penalty and scale.

    Attributes
    ----------
    penalty : in units of the anchors' mean squared length
    scale : factor applied after the penalised map
    """

    factors: FittedLowRankMap
    penalty: float
    scale: float


def fit_relative(sums: MapSums, anchors_a: Float32Array, anchors_b: Float32Array) -> FittedRelativeMap:
    """Fit the map y = mean_b + s (x - mean_a) A' (B B' + l I)^-1 B over m anchors: O(m^3 + m^2 q).

    The result is the row of b whose inner products with b's anchors are closest to those of x with a's, under a penalty on its
    length; penalty and scale minimise the squared error on the rows of the sums.

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
    tried = [_try_penalty(1 / (np.maximum(values, 0) + penalty * unit), along, across) for penalty in PENALTIES]
    best = len(tried) - 1 - int(np.argmax([gain for gain, _ in reversed(tried)]))
    scale, penalty = tried[best][1], float(PENALTIES[best])
    shrink = scale / (np.maximum(values, 0) + penalty * unit)
    up = basis @ (rotated * shrink[:, None])
    return FittedRelativeMap(FittedLowRankMap(Affine(a.T, *means), up), penalty, scale)


def _try_penalty(shrink: Float64Array, along: Float64Array, across: Float64Array) -> tuple[float, float]:
    """Return the decrease of the squared error by the best multiple of a map, and that factor."""
    agreement, size = float(shrink @ along), float(shrink @ across @ shrink)
    return (agreement**2 / size, agreement / size) if size > 0 and agreement > 0 else (0.0, 0.0)
