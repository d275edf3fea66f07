"""Ridge regression from sums over the folds alone, for layers that are read by blocks; as `predictivity` does it with rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from consilience.numerics.arrays import Float64Array
from consilience.numerics.dealt_moments import Sums, add
from consilience.numerics.predictivity import choose_penalty, offer_penalties
from consilience.numerics.spectra import decompose_moments
from consilience.numerics.streamed_layers import SumsLayer


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
