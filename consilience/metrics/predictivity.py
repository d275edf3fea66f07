"""linear_predictivity on two sides: a predictor's folds are decomposed once, each target is then a few products."""

from math import ceil

import numpy as np

from consilience.contract.scores import Reason
from consilience.contract.subspace_metrics import LinearPredictivity
from consilience.metrics.comparison import Comparison, Side
from consilience.metrics.measurement import Measurement, find_reasons
from consilience.metrics.subspaces import streams
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

#: Folds whose spread an interval is made of, at least.
_SPLITS = 10

Cell = tuple[int, int]
Place = tuple[Side, int]


def measure_linear_predictivity(metric: LinearPredictivity, comparison: Comparison) -> Measurement:
    """Measure how well one layer predicts the other, for every layer pair."""
    reasons = find_reasons(comparison, lambda side, index: _layer_reason(metric, comparison, side, index))
    a, b = comparison.a, comparison.b
    shape = (len(a.layers), len(b.layers))
    cells = [cell for cell in np.ndindex(*shape) if cell not in reasons]

    def fill(permutation: Permutation | None, stage: str | None) -> Float64Array:
        grid = np.full(shape, np.nan)
        for done, cell in enumerate(cells):
            if stage is not None:
                comparison.report(stage, done, len(cells))
            grid[cell] = _value(metric, comparison, cell, permutation)
        return grid

    def law(i: int, j: int) -> ClosedFormNull:
        raise AssertionError(f"no closed-form null is declared, for layers {i} and {j} as for all")

    return Measurement(
        grid=fill(None, metric.metric),
        reasons=reasons,
        law=law,
        permuted=lambda permutation: fill(permutation, None),
        bounds=lambda i, j, level: _find_bounds(metric, comparison, (i, j), level),
    )


def _ways(metric: LinearPredictivity, comparison: Comparison, cell: Cell) -> tuple[tuple[Place, Place], ...]:
    """Which layer predicts which: predictor and target of each way asked for."""
    a, b = (comparison.a, cell[0]), (comparison.b, cell[1])
    return {"ab": ((a, b),), "ba": ((b, a),), "mean": ((a, b), (b, a))}[metric.direction]


def _value(
    metric: LinearPredictivity, comparison: Comparison, cell: Cell, permutation: Permutation | None = None
) -> float:
    values = []
    for predictor, target in _ways(metric, comparison, cell):
        # Row i of a is paired with row p(i) of b, and so row j of b with row p^-1(j) of a.
        order = permutation
        if permutation is not None and predictor[0] is comparison.b:
            order = np.argsort(permutation)
        if streams(comparison, cell):
            values.append(_stream_folds(metric, comparison, (predictor, target), 0, order).share)
        else:
            values.append(linear_predictivity(_keep_folds(metric, comparison, predictor), _keep_targets(target), order))
    return sum(values) / len(values)


def _stream_folds(
    metric: LinearPredictivity,
    comparison: Comparison,
    way: tuple[Place, Place],
    dealing: int,
    order: Permutation | None = None,
) -> FoldErrors:
    """What each fold of a dealing leaves unexplained, from one pass over predictor and target."""
    (side, index), (other, target) = way
    norms = side.streamed(index).own.norms
    dealt = assign_folds_by_distance(norms, metric.folds, comparison.seed + dealing, comparison.groups)

    def find() -> FoldErrors:
        folds = find_fold_sums(side.centred(index), other.centred(target), dealt, order=order, parts=side.parts)
        return find_fold_errors(folds, None if metric.ridge == "auto" else metric.ridge)

    if order is not None:
        return find()
    name = f"fold errors {metric.folds} {metric.ridge} {dealing} {side is comparison.a} {index} {target}"
    return comparison.keep(name, find)


def _keep_folds(metric: LinearPredictivity, comparison: Comparison, predictor: Place) -> tuple[Fold, ...]:
    side, index = predictor
    kind = f"folds {metric.folds} {metric.ridge}"
    return side.keep(index, kind, lambda: _deal(metric, comparison, predictor, 0))


def _deal(metric: LinearPredictivity, comparison: Comparison, predictor: Place, dealing: int) -> tuple[Fold, ...]:
    """The decomposed folds of a predictor, one of many ways of dealing them."""
    side, index = predictor
    ridge = None if metric.ridge == "auto" else metric.ridge
    return find_folds(side.rows(index), metric.folds, ridge, comparison.seed + dealing, comparison.groups)


def _keep_targets(target: Place) -> Float64Array:
    side, index = target
    return side.keep(index, "targets", lambda: find_targets(side.rows(index)))


def _layer_reason(metric: LinearPredictivity, comparison: Comparison, side: Side, index: int) -> Reason | None:
    reason = side.reason(index)
    if reason is not None:
        return reason
    if not side.streams(index) and not _keep_targets((side, index)).any():
        name = side.layers[index].name
        return Reason(code="constant-rows", detail=f"Rows of layer {name} differ by rounding alone.")
    items = comparison.n if comparison.groups is None else len(np.unique(comparison.groups))
    if items >= 2 * metric.folds:
        return None
    return Reason(
        code="not-enough-rows",
        detail=f"{items} items are fewer than two for each of {metric.folds} folds; ask for fewer folds.",
    )


def _find_bounds(
    metric: LinearPredictivity, comparison: Comparison, cell: Cell, level: float
) -> ConfidenceInterval | Reason:
    """The interval from the spread over the folds of the score and of as many dealings more as make ten folds."""
    dealings = max(2, ceil(_SPLITS / metric.folds))
    shares = np.array([share for dealing in range(dealings) for share in _shares(metric, comparison, cell, dealing)])
    if np.isnan(shares).any():
        return Reason(code="too-few-rows", detail="The items of one fold do not vary.")
    value = _value(metric, comparison, cell)
    return held_out_interval(value, shares, metric.folds, level, (metric.low, metric.high))


def _shares(metric: LinearPredictivity, comparison: Comparison, cell: Cell, dealing: int) -> Float64Array:
    """What is predicted of each fold of a dealing, the mean over the ways."""
    ways = []
    for predictor, target in _ways(metric, comparison, cell):
        if streams(comparison, cell):
            ways.append(_stream_folds(metric, comparison, (predictor, target), dealing).shares)
            continue
        known = dealing == 0
        folds = _keep_folds(metric, comparison, predictor) if known else _deal(metric, comparison, predictor, dealing)
        ways.append(fold_shares(folds, _keep_targets(target)))
    return np.asarray(np.mean(ways, axis=0))
