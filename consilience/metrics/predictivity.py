"""linear_predictivity on two sides: a predictor's folds are decomposed once, then each target takes a few products."""

from dataclasses import dataclass
from math import ceil

import numpy as np

from consilience.contract.scores import Reason
from consilience.contract.subspace_metrics import LinearPredictivity
from consilience.metrics.comparison import Cell, Comparison, LayerRef, Measurement, find_reasons
from consilience.metrics.sides import CacheKey, PreparedSide
from consilience.numerics.regression.ridge import (
    Fold,
    FoldErrors,
    assign_folds_by_distance,
    find_fold_errors,
    find_folds,
    find_targets,
    fold_shares,
    linear_predictivity,
)
from consilience.numerics.rows.arrays import Float64Array
from consilience.numerics.stats.intervals import ConfidenceInterval, held_out_interval
from consilience.numerics.stats.nulls import ClosedFormNull, Permutation
from consilience.numerics.subspaces.moments import find_fold_sums

#: Smallest number of folds that an interval is computed from.
_FOLDS_MIN = 10

#: Predictor and target.
Direction = tuple[LayerRef, LayerRef]


@dataclass(frozen=True)
class FoldsKey(CacheKey[tuple[Fold, ...]]):
    """Decomposed folds of a predictor."""

    folds: int
    ridge: float | str


@dataclass(frozen=True)
class TargetsKey(CacheKey[Float64Array]):
    """Centred rows of a target."""


@dataclass(frozen=True)
class FoldErrorsKey(CacheKey[FoldErrors]):
    """Unexplained variance of each fold of a predictor and a target, in one of several random splits."""

    folds: int
    ridge: float | str
    split: int
    predictor: LayerRef
    target: LayerRef


def measure_linear_predictivity(metric: LinearPredictivity, comparison: Comparison) -> Measurement:
    """Measure the variance of one layer that the other predicts, for every layer pair."""
    prediction = _Prediction(metric, comparison)
    reasons = find_reasons(comparison, prediction.reason)
    cells = [cell for cell in np.ndindex(*comparison.shape) if cell not in reasons]

    def fill(permutation: Permutation | None, stage: str | None) -> Float64Array:
        grid = np.full(comparison.shape, np.nan)
        for done, cell in enumerate(cells):
            if stage is not None:
                comparison.report(stage, done, len(cells))
            grid[cell] = prediction.value(cell, permutation)
        return grid

    def null(i: int, j: int) -> ClosedFormNull:
        raise AssertionError(f"linear_predictivity declares no closed-form null, for layers {i} and {j} or any others.")

    return Measurement(
        grid=fill(None, metric.metric),
        reasons=reasons,
        null=null,
        permuted=lambda permutation: fill(permutation, None),
        interval=lambda i, j, level: prediction.interval((i, j), level),
    )


@dataclass(frozen=True)
class _Prediction:
    """Ridge predictions between the layers of both sides."""

    metric: LinearPredictivity
    comparison: Comparison

    @property
    def _ridge(self) -> float | None:
        return None if self.metric.ridge == "auto" else self.metric.ridge

    def reason(self, side: PreparedSide, index: int) -> Reason | None:
        """Reason why a layer has no value; None if it has one."""
        reason = side.reason(index)
        if reason is not None:
            return reason
        if not side.rows.is_streamed(index) and not _find_targets(side, index).any():
            name = side.layers[index].name
            return Reason(code="constant-rows", detail=f"The rows of layer {name} differ by rounding alone.")
        groups, folds = self.comparison.groups, self.metric.folds
        items = self.comparison.n if groups is None else len(np.unique(groups))
        if items >= 2 * folds:
            return None
        return Reason(
            code="not-enough-rows",
            detail=f"{items} items are fewer than two for each of {folds} folds; use fewer folds.",
        )

    def value(self, cell: Cell, permutation: Permutation | None = None) -> float:
        """Explained share of the variance, the mean over the directions."""
        values = []
        for predictor, target in self._directions(cell):
            # Row i of a is paired with row p(i) of b, and so row j of b with row p^-1(j) of a.
            order = permutation
            if permutation is not None and predictor.side == "b":
                order = np.argsort(permutation)
            if self.comparison.is_streamed(cell):
                values.append(self._stream_errors((predictor, target), 0, order).share)
            else:
                folds = self._find_folds(predictor, 0)
                values.append(linear_predictivity(folds, self._targets(target), order))
        return sum(values) / len(values)

    def interval(self, cell: Cell, level: float) -> ConfidenceInterval | Reason:
        """Interval from the spread over folds: those of the score, and of more random splits until there are ten."""
        splits = max(2, ceil(_FOLDS_MIN / self.metric.folds))
        shares = np.array([share for split in range(splits) for share in self._shares(cell, split)])
        if np.isnan(shares).any():
            return Reason(code="too-few-rows", detail="The items of one fold do not vary.")
        limits = self.metric.low, self.metric.high
        return held_out_interval(self.value(cell), shares, self.metric.folds, level, limits)

    def _directions(self, cell: Cell) -> tuple[Direction, ...]:
        a, b = LayerRef("a", cell[0]), LayerRef("b", cell[1])
        return {"ab": ((a, b),), "ba": ((b, a),), "mean": ((a, b), (b, a))}[self.metric.direction]

    def _shares(self, cell: Cell, split: int) -> Float64Array:
        """Explained share of each fold of a random split, the mean over the directions."""
        shares = []
        for direction in self._directions(cell):
            if self.comparison.is_streamed(cell):
                shares.append(self._stream_errors(direction, split).shares)
            else:
                shares.append(fold_shares(self._find_folds(direction[0], split), self._targets(direction[1])))
        return np.asarray(np.mean(shares, axis=0))

    def _stream_errors(self, direction: Direction, split: int, order: Permutation | None = None) -> FoldErrors:
        """Unexplained variance of each fold, from one pass over predictor and target."""
        metric, comparison, (predictor, target) = self.metric, self.comparison, direction
        side, other = comparison.side(predictor), comparison.side(target)
        norms = side.streamed(predictor.index).own.norms
        assigned = assign_folds_by_distance(norms, metric.folds, comparison.seed + split, comparison.groups)

        def find() -> FoldErrors:
            x, y = side.centred(predictor.index), other.centred(target.index)
            folds = find_fold_sums(x, y, assigned, order=order, executor=side.executor)
            return find_fold_errors(folds, self._ridge)

        if order is not None:
            return find()
        return comparison.memoize(FoldErrorsKey(metric.folds, metric.ridge, split, predictor, target), find)

    def _find_folds(self, predictor: LayerRef, split: int) -> tuple[Fold, ...]:
        """Decomposed folds of a predictor in a random split; those of the first split are kept."""
        metric, comparison, side = self.metric, self.comparison, self.comparison.side(predictor)

        def find() -> tuple[Fold, ...]:
            rows = side.rows.array(predictor.index)
            return find_folds(rows, metric.folds, self._ridge, comparison.seed + split, comparison.groups)

        return find() if split else side.memoize(predictor.index, FoldsKey(metric.folds, metric.ridge), find)

    def _targets(self, target: LayerRef) -> Float64Array:
        return _find_targets(self.comparison.side(target), target.index)


def _find_targets(side: PreparedSide, index: int) -> Float64Array:
    return side.memoize(index, TargetsKey(), lambda: find_targets(side.rows.array(index)))
