"""From a measurement to its entry in the score document: the best layer pair, its null, its interval."""

from math import isnan

import numpy as np

from consilience.contract.jobs import ScoringOptions
from consilience.contract.metric import Metric
from consilience.contract.scores import GalleryPoint, Interval, Null, Reason, Score
from consilience.measures.chance import find_null
from consilience.measures.comparison import Comparison
from consilience.measures.measurement import Measurement, Selected
from consilience.numerics.layers import aggregate

#: Of the intervals of a curve, where the score is to have none.
CURVE_LEVEL = 0.95


def result(metric: Metric, measurement: Measurement, comparison: Comparison, options: ScoringOptions) -> Score:
    """Write one metric's entry of the document."""
    selected = select(metric, measurement, options)
    if selected is None:
        return _undefined(metric, measurement, comparison, options)
    null = find_null(metric, measurement, comparison, options, selected)
    interval, warnings = _find_interval(measurement, selected, options)
    curve, more_warnings = _find_curve(measurement, selected, options)
    return Score(
        **_facts(metric, measurement, comparison, options),
        status="defined",
        value=selected.value,
        layer_a=comparison.a.layers[selected.cell[0]].name,
        layer_b=comparison.b.layers[selected.cell[1]].name,
        null=null,
        calibrated=_calibrate(metric, selected.value, null.threshold),
        interval=interval,
        gallery_curve=curve,
        warnings=(*measurement.warnings, *warnings, *more_warnings),
    )


def select(metric: Metric, measurement: Measurement, options: ScoringOptions) -> Selected | None:
    """Reduce the grid to its value and best pair (the first of equals); None where no pair is defined."""
    grid = measurement.grid
    if np.isnan(grid).all():
        return None
    sign = 1.0 if metric.score_direction == "similarity" else -1.0
    i, j = np.unravel_index(int(np.nanargmax(sign * grid)), grid.shape)
    return Selected(sign * aggregate(sign * grid, options.aggregate, options.top_k), (int(i), int(j)))


def _calibrate(metric: Metric, value: float, threshold: float | None) -> float | None:
    """(value - tau) / (s_max - tau), not below 0: how far the value is from chance's edge to perfect agreement."""
    best = metric.ceiling
    if threshold is None or metric.score_direction == "distance" or best is None or threshold >= best:
        return None
    return min(1.0, max(0.0, (value - threshold) / (best - threshold)))


def _find_interval(
    measurement: Measurement, selected: Selected, options: ScoringOptions
) -> tuple[Interval | None, tuple[str, ...]]:
    """Find the interval of the best pair, or a warning that says why there is none."""
    choice, target = options.interval, "population" if measurement.asked is None else "gallery"
    if choice is None or (choice.target == "gallery" and target == "population"):
        return None, ()  # an exact score has no sampling error in its own gallery
    if choice.target == "population" and target == "gallery":
        return None, ("No interval: that of the population needs the neighbours of every row, and only some asked.",)
    if options.aggregate != "max" and measurement.grid.size > 1:
        return None, (f"No interval: there is none for the aggregate {options.aggregate}.",)
    bounds = measurement.bounds(*selected.cell, choice.level)
    if isinstance(bounds, Reason):
        return None, (f"No interval: {bounds.detail}",)
    note = "The interval is that of the selected layer pair; it does not allow for the selection."
    interval = Interval(low=bounds.low, high=bounds.high, level=choice.level, target=target, method=bounds.method)
    return interval, (note,) if measurement.grid.size > 1 else ()


def _find_curve(
    measurement: Measurement, selected: Selected, options: ScoringOptions
) -> tuple[tuple[GalleryPoint, ...] | None, tuple[str, ...]]:
    """Find the gallery-size curve of the best pair, where one is asked for."""
    if measurement.curve is None:
        return None, ()
    if options.aggregate != "max" and measurement.grid.size > 1:
        return None, (f"No gallery-size curve: there is none for the aggregate {options.aggregate}.",)
    return measurement.curve(selected.cell, options.interval.level if options.interval else CURVE_LEVEL), ()


def _undefined(metric: Metric, measurement: Measurement, comparison: Comparison, options: ScoringOptions) -> Score:
    reasons = list(dict.fromkeys(measurement.reasons.values()))
    method = metric.nulls[0] if options.null.method == "auto" else options.null.method
    return Score(
        **_facts(metric, measurement, comparison, options),
        status="undefined",
        reason=Reason(code=reasons[0].code, detail=" ".join(reason.detail for reason in reasons)),
        value=None,
        layer_a=None,
        layer_b=None,
        null=Null(method=method, cells=0, reason=Reason(code="undefined-score", detail="The score is undefined.")),
    )


def _facts(
    metric: Metric, measurement: Measurement, comparison: Comparison, options: ScoringOptions
) -> dict[str, object]:
    """What an entry says whether or not its score is defined."""
    return {
        "metric": metric.metric,
        "options": metric.options(),
        "definition": getattr(metric, "definition", "standard"),
        "direction": metric.score_direction,
        "aggregate": options.aggregate,
        "grid": tuple(tuple(None if isnan(v) else float(v) for v in row) for row in measurement.grid),
        "estimator": measurement.estimator,
        "queries": measurement.asked or comparison.n,
        "neighbours": measurement.neighbours,
    }
