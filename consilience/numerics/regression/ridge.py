"""Linear predictivity: ridge regression from one space to the other, scored on held-out rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from consilience.numerics.rows.arrays import Float32Array, Float64Array, IdArray
from consilience.numerics.stats.intervals import assign_folds
from consilience.numerics.stats.nulls import Permutation
from consilience.numerics.subspaces.moments import PairSums, add_sums
from consilience.numerics.subspaces.spectra import SumsLayer, decompose_moments, find_spectrum

#: Penalties that generalised cross-validation chooses from, in units of the mean variance.
PENALTIES: Float64Array = np.logspace(-8, 4, 13)


@dataclass(frozen=True)
class Fold:
    """Rows to fit on and rows to score on, with all results that do not depend on the targets.

    Attributes
    ----------
    fitted, scored : arrays of m and t row numbers
    left : array of shape (m, r), float64
        Left singular vectors of the fitted rows, centred.
    squares : array of shape (r,), float64
        Their squared singular values.
    projected : array of shape (t, r), float64
        The scored rows along the same directions, in the scale of `left`.
    penalties : array of shape (L,), float64
        Candidates for the penalty, to be added to `squares`.
    """

    fitted: Permutation
    scored: Permutation
    left: Float64Array
    squares: Float64Array
    projected: Float64Array
    penalties: Float64Array


def find_folds(
    x: Float32Array, folds: int, ridge: float | None, seed: int, groups: IdArray | None = None
) -> tuple[Fold, ...]:
    """Split the rows of a predictor into folds and decompose the fitted rows of each: O(folds n d min(n, d)).

    Folds depend on the rank of the rows' distances from the centre, shuffled by the seed: neither the order of the rows nor a
    rotation of the space changes them. Groups stay together.

    Parameters
    ----------
    x : array of shape (n, p), float32
    folds : int >= 2
    ridge : float, optional
        The penalty in units of the mean variance; None allows all of `PENALTIES`.
    seed : int
    groups : array of shape (n,), int32, optional
        The group number of each item.

    Returns
    -------
    Folds; together they take 8 folds n r bytes
    """
    distances = np.linalg.norm(x - x.mean(axis=0, dtype=np.float64), axis=1)
    fold_of_row = assign_folds_by_distance(distances, folds, seed, groups)
    candidates = candidate_penalties(ridge)
    return tuple(
        _prepare(x, np.flatnonzero(fold_of_row != fold), np.flatnonzero(fold_of_row == fold), candidates)
        for fold in range(folds)
    )


def assign_folds_by_distance(distances: Float64Array, folds: int, seed: int, groups: IdArray | None = None) -> IdArray:
    """Return the fold of each row (n,), by the rank of its distance from the centre (or its square), shuffled by the seed."""
    order = np.argsort(distances, kind="stable")[np.random.default_rng(seed).permutation(len(distances))]
    return assign_folds(order, folds, groups)


def candidate_penalties(ridge: float | None) -> Float64Array:
    """Return the penalties to choose from."""
    return PENALTIES if ridge is None else np.array([ridge])


def _prepare(x: Float32Array, fitted: Permutation, scored: Permutation, candidates: Float64Array) -> Fold:
    rows = x[fitted]
    spectrum = find_spectrum(rows)
    variance = float(np.square(rows - spectrum.mean).sum()) / x.shape[1]
    projected = (x[scored] - spectrum.mean) @ spectrum.whitening
    if spectrum.left is None:
        raise AssertionError("The spectrum of rows in memory has no scores.")
    return Fold(fitted, scored, spectrum.left, spectrum.values**2, projected, candidates * variance)


def find_targets(y: Float32Array) -> Float64Array:
    """Centre the rows of a target as float64; if q > n, express them in their at most n - 1 principal directions.

    This rotation changes no squared error.
    """
    if y.shape[1] <= len(y):
        return np.asarray(y - y.mean(axis=0, dtype=np.float64))
    spectrum = find_spectrum(y)
    if spectrum.left is None:
        raise AssertionError("The spectrum of rows in memory has no scores.")
    return spectrum.left * spectrum.values


def linear_predictivity(folds: Sequence[Fold], targets: Float64Array, permutation: Permutation | None = None) -> float:
    """Share of one layer's variance that a ridge regression from another layer predicts on held-out rows.

    1 - sum_i |y_i - f(x_i)|^2 / sum_i |y_i - mean(y)|^2, with row i predicted by the fit on the other folds, columns centred by
    the fitted rows, and one penalty per fold for all targets. Not symmetric; at most 1, unbounded below; 0 or less at chance.

    Among several candidates, the penalty has the least sum of squares over (m - 1 - df)^2 on the m fitted rows,
    df = sum_i s_i^2 / (s_i^2 + l) (generalised cross-validation).

    Parameters
    ----------
    folds : Folds of the predicting layer's rows, from `find_folds`
    targets : array of shape (n, q), float64, from `find_targets`
    permutation : array of n row numbers, optional
        Pairs row i of the predictor with row p(i) of the targets; no fold is factorised again: O(folds n r q).

    References
    ----------
    Schrimpf et al. 2018, Brain-Score; Golub, Heath and Wahba 1979 (generalised cross-validation).

    Examples
    --------
    >>> x = np.linspace(-1, 1, 8, dtype=np.float32)[:, None] @ np.ones((1, 2), dtype=np.float32)
    >>> round(linear_predictivity(find_folds(x, 4, 1e-6, 0), find_targets(3 * x)), 6)
    1.0
    """
    errors = sum(float(found.sum()) for _, found in find_errors(folds, targets, permutation))
    return 1 - errors / float(np.vdot(targets, targets))


def fold_shares(folds: Sequence[Fold], targets: Float64Array) -> Float64Array:
    """Return the share predicted of each fold alone: NaN for a fold whose targets all equal the mean."""
    sizes = np.einsum("ij,ij->i", targets, targets)
    found = [(float(errors.sum()), float(sizes[scored].sum())) for scored, errors in find_errors(folds, targets)]
    return np.array([1 - error / size if size > 0 else np.nan for error, size in found])


def find_errors(
    folds: Sequence[Fold], targets: Float64Array, permutation: Permutation | None = None
) -> Iterator[tuple[Permutation, Float64Array]]:
    """Yield for each fold its scored rows and their squared errors."""
    for fold in folds:
        fitted, scored = fold.fitted, fold.scored
        if permutation is not None:
            fitted, scored = permutation[fitted], permutation[scored]
        y = targets[fitted]
        mean = y.mean(axis=0)
        y -= mean
        along = fold.left.T @ y
        penalty = choose_penalty(fold.penalties, fold.squares, len(fitted), along, float(np.vdot(y, y)))
        along *= (fold.squares / (fold.squares + penalty))[:, None]
        residual = targets[scored] - mean - fold.projected @ along
        yield fold.scored, np.einsum("ij,ij->i", residual, residual)


def choose_penalty(
    penalties: Float64Array, squares: Float64Array, rows: int, along: Float64Array, total: float
) -> float:
    """Choose the penalty by generalised cross-validation, the intercept counted as one degree of freedom.

    Parameters
    ----------
    penalties : array of candidates
    squares : array of shape (r,), float64
        Squared singular values of the fitted rows.
    rows : int
        Number of fitted rows.
    along : array of shape (r, q), float64
        Targets along the left singular vectors.
    total : float
        Sum of the squares of the centred targets.
    """
    if len(penalties) == 1:
        return float(penalties[0])
    energies = np.einsum("ij,ij->i", along, along)
    room = rows - 1 - len(squares)
    outside = max(0.0, total - float(energies.sum())) if room > 0 else 0.0
    left_over = penalties[:, None] / (squares + penalties[:, None])
    criterion = (outside + left_over**2 @ energies) / (room + left_over.sum(axis=1)) ** 2
    return float(penalties[np.argmin(criterion)])


@dataclass(frozen=True)
class FoldErrors:
    """Errors of each fold's targets under the fit on the other folds.

    Attributes
    ----------
    errors : array of shape (folds,), float64
        Sums of squared errors.
    sizes : array of shape (folds,), float64
        Sums of squared distances of the targets from the mean of all.
    """

    errors: Float64Array
    sizes: Float64Array

    @property
    def share(self) -> float:
        """Share of the targets' variance that is predicted: see `linear_predictivity`."""
        return 1 - float(self.errors.sum()) / float(self.sizes.sum())

    @property
    def shares(self) -> Float64Array:
        """Share predicted of each fold alone: NaN for a fold whose targets all equal the mean."""
        shares = np.full(len(self.sizes), np.nan)
        return np.asarray(np.divide(self.errors, self.sizes, out=shares, where=self.sizes > 0) * -1 + 1)


def find_fold_errors(folds: Sequence[PairSums], ridge: float | None) -> FoldErrors:
    """Fit on all folds but one and score on that one, each in turn: O(folds d^2 (p + q)).

    Parameters
    ----------
    folds : Sums over each fold, x the predictor's rows and y the targets, about the means of all rows
    ridge : float, optional
        The penalty in units of the mean variance; None chooses from all of `PENALTIES`.
    """
    errors = [_score(add_sums([*folds[:held], *folds[held + 1 :]]), folds[held], ridge) for held in range(len(folds))]
    return FoldErrors(np.array(errors), np.array([float(np.trace(fold.yy)) for fold in folds]))


def _score(fitted: PairSums, held: PairSums, ridge: float | None) -> float:
    """Return the sum of squared errors on the held-out fold: |Y - X W|^2 from second moments about the fit's means."""
    centred = fitted.about(fitted.means)
    spectrum = decompose_moments(SumsLayer(fitted, first=True), centred.xx)
    along = spectrum.whitening.T @ centred.xy
    squares, p = spectrum.values**2, len(centred.xx)
    penalties = candidate_penalties(ridge) * (float(np.trace(centred.xx)) / p)
    penalty = choose_penalty(penalties, squares, fitted.n, along, float(np.trace(centred.yy)))
    weights = spectrum.whitening @ (along * (squares / (squares + penalty))[:, None])
    others = held.about(fitted.means)
    left = float(np.trace(others.yy)) - 2 * float(np.vdot(weights, others.xy))
    return left + float(np.vdot(weights, others.xx @ weights))
