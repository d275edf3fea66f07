"""From a measurement to its entry in the score document: the best layer pair, its null, its interval."""

from dataclasses import dataclass
from math import isnan

import numpy as np

from consilience.contract.jobs import IntervalChoice, NullChoice
from consilience.contract.metrics import Metric
from consilience.contract.scores import Interval, Null, Reason, Score
from consilience.errors import InvalidRequest
from consilience.measures.comparison import Comparison
from consilience.measures.measurement import Measurement
from consilience.numerics.arrays import Float64Array
from consilience.numerics.nulls import P_FLOOR, PermutationNull

Cell = tuple[int, int]


@dataclass(frozen=True)
class Best:
    """The selected layer pair and its value."""

    cell: Cell
    value: float


def result(
    metric: Metric, measurement: Measurement, comparison: Comparison, null: NullChoice, interval: IntervalChoice | None
) -> Score:
    """Write one metric's entry of the document."""
    best = find_best(measurement.grid)
    if best is None:
        return _undefined(metric, measurement, comparison, null)
    found, calibrated = find_null(metric, measurement, comparison, null, best)
    bounds, warnings = _find_interval(measurement, best, interval)
    return Score(
        **_facts(metric, measurement, comparison),
        status="defined",
        value=best.value,
        layer_a=comparison.a.layers[best.cell[0]].name,
        layer_b=comparison.b.layers[best.cell[1]].name,
        null=found,
        calibrated=calibrated,
        interval=bounds,
        warnings=(*measurement.warnings, *warnings),
    )


def find_best(grid: Float64Array) -> Best | None:
    """Find the largest defined cell, the first of equals; None where no cell is defined."""
    if np.isnan(grid).all():
        return None
    i, j = np.unravel_index(int(np.nanargmax(grid)), grid.shape)
    return Best((int(i), int(j)), float(grid[i, j]))


def find_null(
    metric: Metric, measurement: Measurement, comparison: Comparison, choice: NullChoice, best: Best
) -> tuple[Null, float | None]:
    """Find the chance level of the best cell by the method asked for, and the calibrated value.

    Raises
    ------
    InvalidRequest
        A method that the metric does not have.
    """
    method = metric.nulls[0] if choice.method == "auto" else choice.method
    if method == "none":
        return Null(method="none", cells=measurement.grid.size), None
    if method not in metric.nulls:
        raise InvalidRequest(
            f"{metric.metric} has no {method} null.",
            value=method,
            hint=f"It has {', '.join(metric.nulls)}.",
            pointer="/null/method",
        )
    found = _closed_form if method == "analytic" else _permutation
    null = found(measurement, comparison, choice, best)
    return null, _calibrate(best.value, null.threshold)


def _closed_form(measurement: Measurement, comparison: Comparison, choice: NullChoice, best: Best) -> Null:  # noqa: ARG001 - the same signature as _permutation
    """Take the law of the best cell; over a grid, Bonferroni over its defined cells."""
    law = measurement.law(*best.cell)
    cells = int((~np.isnan(measurement.grid)).sum())
    p = min(1.0, law.p_value(best.value) * cells)
    return Null(
        method="analytic" if cells == 1 else "bonferroni",
        cells=cells,
        mean=law.mean,
        sd=law.sd,
        threshold=law.threshold(choice.alpha / cells),
        p_value=max(p, P_FLOOR),
        p_is_bound=cells > 1 or p < P_FLOOR,
        alpha=choice.alpha,
    )


def _permutation(measurement: Measurement, comparison: Comparison, choice: NullChoice, best: Best) -> Null:
    """Relabel b's items; over a grid, one relabelling serves every cell and its maximum is the draw."""
    draws = np.empty(choice.draws)
    rng = np.random.default_rng(comparison.seed)
    for draw in range(choice.draws):
        comparison.report("permutations", draw, choice.draws)
        draws[draw] = np.nanmax(measurement.permuted(rng.permutation(comparison.n)))
    null = PermutationNull(draws)
    return Null(
        method="permutation",
        cells=int((~np.isnan(measurement.grid)).sum()),
        mean=float(draws.mean()),
        sd=float(draws.std(ddof=1)),
        threshold=null.threshold(best.value, choice.alpha),
        p_value=null.p_value(best.value),
        draws=choice.draws,
        alpha=choice.alpha,
    )


def _calibrate(value: float, threshold: float | None) -> float | None:
    """(value - tau) / (1 - tau), not below 0: how far the value is from chance's edge to perfect agreement."""
    if threshold is None or threshold >= 1:
        return None
    return min(1.0, max(0.0, (value - threshold) / (1 - threshold)))


def _find_interval(
    measurement: Measurement, best: Best, choice: IntervalChoice | None
) -> tuple[Interval | None, tuple[str, ...]]:
    """Find the interval of the best cell, or a warning that says why there is none."""
    if choice is None or choice.target == "gallery":  # an exact score has no sampling error in its own gallery
        return None, ()
    bounds = measurement.bounds(*best.cell, choice.level)
    if isinstance(bounds, Reason):
        return None, (f"No interval: {bounds.detail}",)
    note = "The interval is that of the selected layer pair; it does not allow for the selection."
    found = Interval(low=bounds.low, high=bounds.high, level=choice.level, target="population", method=bounds.method)
    return found, (note,) if measurement.grid.size > 1 else ()


def _undefined(metric: Metric, measurement: Measurement, comparison: Comparison, null: NullChoice) -> Score:
    reasons = {reason.code: reason for reason in measurement.reasons.values()}
    detail = " ".join(dict.fromkeys(reason.detail for reason in measurement.reasons.values()))
    method = metric.nulls[0] if null.method == "auto" else null.method
    return Score(
        **_facts(metric, measurement, comparison),
        status="undefined",
        reason=Reason(code=next(iter(reasons)), detail=detail),
        value=None,
        layer_a=None,
        layer_b=None,
        null=Null(method=method, cells=0, reason=Reason(code="undefined-score", detail="The score is undefined.")),
    )


def _facts(metric: Metric, measurement: Measurement, comparison: Comparison) -> dict[str, object]:
    """What an entry says whether or not its score is defined."""
    return {
        "metric": metric.metric,
        "options": metric.options(),
        "definition": getattr(metric, "definition", "standard"),
        "direction": metric.direction,
        "aggregate": "max",
        "grid": tuple(tuple(None if isnan(v) else float(v) for v in row) for row in measurement.grid),
        "queries": comparison.n,
        "neighbours": measurement.neighbours,
    }
