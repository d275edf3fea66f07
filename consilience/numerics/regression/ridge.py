"""Ridge regression from one space to the other, scored on rows that it has not seen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from consilience.numerics.rows.arrays import Float32Array, Float64Array, IdArray
from consilience.numerics.stats.intervals import deal
from consilience.numerics.stats.nulls import Permutation
from consilience.numerics.subspaces.moments import Sums, add
from consilience.numerics.subspaces.spectra import SumsLayer, decompose_moments, find_spectrum

#: Penalties that generalised cross-validation chooses from, in units of the mean variance.
PENALTIES: Float64Array = np.logspace(-8, 4, 13)


@dataclass(frozen=True)
class Fold:
    """Rows to fit on and rows to score on, with everything that does not depend on the targets.

    Attributes
    ----------
    fitted, scored : arrays of m and t row numbers
    left : array of shape (m, r), float64
        Left singular vectors of the fitted rows, centred.
    squares : array of shape (r,), float64
        Their squared singular values.
    ahead : array of shape (t, r), float64
        The other rows along the same directions, in the scale of `left`.
    penalties : array of shape (L,), float64
        What may be added to `squares`.
    """

    fitted: Permutation
    scored: Permutation
    left: Float64Array
    squares: Float64Array
    ahead: Float64Array
    penalties: Float64Array


def find_folds(
    x: Float32Array, folds: int, ridge: float | None, seed: int, groups: IdArray | None = None
) -> tuple[Fold, ...]:
    """Deal the rows of a predictor into folds and decompose what each one is fitted on: O(folds n d min(n, d)).

    Rows are dealt by the rank of their distance from the centre, shuffled by the seed: neither the order of the rows nor a
    rotation of the space changes who shares a fold. Groups stay together.

    Parameters
    ----------
    x : array of shape (n, p), float32
    folds : int >= 2
    ridge : float, optional
        The penalty in units of the mean variance; None offers all of `PENALTIES`.
    seed : int
    groups : array of shape (n,), int32, optional
        The group number of each item.

    Returns
    -------
    Folds; together they hold 8 folds n r bytes
    """
    distances = np.linalg.norm(x - x.mean(axis=0, dtype=np.float64), axis=1)
    part = deal_folds(distances, folds, seed, groups)
    offered = offer_penalties(ridge)
    return tuple(
        _prepare(x, np.flatnonzero(part != fold), np.flatnonzero(part == fold), offered) for fold in range(folds)
    )


def deal_folds(distances: Float64Array, folds: int, seed: int, groups: IdArray | None = None) -> IdArray:
    """Deal rows to folds by the rank of their distance from the centre, or its square, shuffled by the seed: (n,)."""
    order = np.argsort(distances, kind="stable")[np.random.default_rng(seed).permutation(len(distances))]
    return deal(order, folds, groups)


def offer_penalties(ridge: float | None) -> Float64Array:
    """The penalties to choose from."""
    return PENALTIES if ridge is None else np.array([ridge])


def _prepare(x: Float32Array, fitted: Permutation, scored: Permutation, offered: Float64Array) -> Fold:
    rows = x[fitted]
    spectrum = find_spectrum(rows)
    variance = float(np.square(rows - spectrum.mean).sum()) / x.shape[1]
    ahead = (x[scored] - spectrum.mean) @ spectrum.whitening
    if spectrum.left is None:
        raise AssertionError("rows in memory have scores")
    return Fold(fitted, scored, spectrum.left, spectrum.values**2, ahead, offered * variance)


def find_targets(y: Float32Array) -> Float64Array:
    """Centre the rows of a target as float64, turned into their n - 1 directions at most where q is larger than n.

    A rotation changes no squared error.
    """
    if y.shape[1] <= len(y):
        return np.asarray(y - y.mean(axis=0, dtype=np.float64))
    spectrum = find_spectrum(y)
    if spectrum.left is None:
        raise AssertionError("rows in memory have scores")
    return spectrum.left * spectrum.values


def linear_predictivity(folds: Sequence[Fold], targets: Float64Array, permutation: Permutation | None = None) -> float:
    """Share of one layer's variance that a ridge regression from another predicts on rows that it has not seen.

    1 - sum_i |y_i - f(x_i)|^2 / sum_i |y_i - mean(y)|^2, row i predicted by the fit on the other folds, columns centred by the
    fitted rows, one penalty a fold for all targets. Not symmetric, at most 1 and unbounded below; at or below 0 at chance.

    The penalty, where several are offered, has the least sum of squares over (m - 1 - df)^2 on the m fitted rows,
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
    """The share predicted of each fold alone: NaN for a fold whose targets all equal the mean."""
    sizes = np.einsum("ij,ij->i", targets, targets)
    found = [(float(errors.sum()), float(sizes[scored].sum())) for scored, errors in find_errors(folds, targets)]
    return np.array([1 - error / size if size > 0 else np.nan for error, size in found])


def find_errors(
    folds: Sequence[Fold], targets: Float64Array, permutation: Permutation | None = None
) -> Iterator[tuple[Permutation, Float64Array]]:
    """Give for each fold its scored rows and the squared error of each of them."""
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
        residual = targets[scored] - mean - fold.ahead @ along
        yield fold.scored, np.einsum("ij,ij->i", residual, residual)


def choose_penalty(
    penalties: Float64Array, squares: Float64Array, rows: int, along: Float64Array, total: float
) -> float:
    """Choose the penalty by generalised cross-validation, the intercept counted as one degree of freedom.

    Parameters
    ----------
    penalties : array of those offered
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
    """What a fit on the other folds leaves of each fold's targets.

    Attributes
    ----------
    errors : array of one number a fold, float64
        Sums of squared errors.
    sizes : array of one number a fold, float64
        Sums of squared distances of the targets from the mean of all.
    """

    errors: Float64Array
    sizes: Float64Array

    @property
    def share(self) -> float:
        """Share of the targets' variance that is predicted: see `predictivity.linear_predictivity`."""
        return 1 - float(self.errors.sum()) / float(self.sizes.sum())

    @property
    def shares(self) -> Float64Array:
        """The share of each fold alone: NaN for a fold whose targets all equal the mean."""
        shares = np.full(len(self.sizes), np.nan)
        return np.asarray(np.divide(self.errors, self.sizes, out=shares, where=self.sizes > 0) * -1 + 1)


def find_fold_errors(folds: Sequence[Sums], ridge: float | None) -> FoldErrors:
    """Fit on all folds but one, score on that one, each in turn: O(folds d^2 (p + q)).

    Parameters
    ----------
    folds : Sums over each fold, x the predictor's rows and y the targets, about the means of all rows
    ridge : float, optional
        The penalty in units of the mean variance; None chooses from all.
    """
    errors = [_score(add([*folds[:held], *folds[held + 1 :]]), folds[held], ridge) for held in range(len(folds))]
    return FoldErrors(np.array(errors), np.array([float(np.trace(fold.yy)) for fold in folds]))


def _score(fitted: Sums, held: Sums, ridge: float | None) -> float:
    """Sum of the squared errors on the fold held out: |Y - X W|^2 from second moments about the fit's means."""
    centred = fitted.about(fitted.means)
    spectrum = decompose_moments(SumsLayer(fitted, first=True), centred.xx)
    along = spectrum.whitening.T @ centred.xy
    squares, p = spectrum.values**2, len(centred.xx)
    penalties = offer_penalties(ridge) * (float(np.trace(centred.xx)) / p)
    penalty = choose_penalty(penalties, squares, fitted.n, along, float(np.trace(centred.yy)))
    weights = spectrum.whitening @ (along * (squares / (squares + penalty))[:, None])
    others = held.about(fitted.means)
    left = float(np.trace(others.yy)) - 2 * float(np.vdot(weights, others.xy))
    return left + float(np.vdot(weights, others.xx @ weights))
