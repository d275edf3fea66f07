"""From a measurement to its entry in the score document: the best layer pair, its null, its interval."""

from collections.abc import Iterable
from math import isnan

import numpy as np

from consilience.contract.alignments import NullChoice, ScoringOptions
from consilience.contract.metric import Metric, NullMethod
from consilience.contract.scores import GalleryPoint, Interval, NullDistribution, Reason, Score
from consilience.errors import InvalidRequest
from consilience.metrics.comparison import Comparison
from consilience.metrics.measurement import Measurement, Selected
from consilience.numerics.stats.layers import aggregate
from consilience.numerics.stats.nulls import P_FLOOR, ClosedFormNull, NullMean, PearsonNull, PermutationNull, adjust


def find_null(
    metric: Metric, measurement: Measurement, comparison: Comparison, options: ScoringOptions, selected: Selected
) -> NullDistribution:
    """Find the chance level of a value by the method asked for.

    Raises
    ------
    InvalidRequest
        A method that the metric does not have.
    """
    method = choose_method(metric, options.null, grouped=comparison.grouped)
    if method == "none":
        return NullDistribution(method="none", layer_pairs=measurement.grid.size)
    if measurement.asked is not None:
        return _mean_alone(measurement, selected)
    if method == "permutation":
        return _permutation(metric, measurement, comparison, options, selected.value)
    law = measurement.law(*selected.cell)
    if law is None:
        raise LookupError(f"{metric.metric} names a closed form and has none")
    return _closed_form(law, options, selected.value, _count_cells(measurement))


def _count_cells(measurement: Measurement) -> int:
    return int((~np.isnan(measurement.grid)).sum())


def _mean_alone(measurement: Measurement, selected: Selected) -> NullDistribution:
    """The mean where it is known without the list of every row; nothing else is."""
    cells, law = _count_cells(measurement), measurement.law(*selected.cell)
    reason = Reason(
        code="query-subset", detail="The chance level needs the neighbours of every row, and only some asked."
    )
    if not isinstance(law, NullMean):
        return NullDistribution(method="none", layer_pairs=cells, reason=reason)
    return NullDistribution(
        method="analytic" if cells == 1 else "bonferroni", layer_pairs=cells, mean=law.mean, reason=reason
    )


def choose_method(metric: Metric, choice: NullChoice, *, grouped: bool) -> NullMethod:
    """Turn `auto` into a method: the closed form where there is one and every relabelling is allowed."""
    if choice.method == "none":
        return "none"
    if choice.method == "auto":
        return "permutation" if grouped else metric.nulls[0]
    if choice.method not in metric.nulls or (grouped and choice.method == "analytic"):
        why = "its closed form is over all relabellings, and groups forbid some" if grouped else "it has none"
        raise InvalidRequest(
            f"{metric.metric} has no {choice.method} null here: {why}.",
            value=choice.method,
            hint="Use `permutation`, or `auto`.",
            pointer="/null/method",
        )
    return choice.method


def _closed_form(law: ClosedFormNull, options: ScoringOptions, value: float, cells: int) -> NullDistribution:
    """Take the law of the best pair; over a grid, Bonferroni over its defined pairs.

    Every aggregate is at most the maximum, so that the bound for the maximum holds for all.
    """
    method: NullMethod = "analytic" if cells == 1 else "bonferroni"
    if isinstance(law, NullMean):
        reason = Reason(code="mean-only", detail="Only the mean has a closed form; permutation gives the rest.")
        return NullDistribution(method=method, layer_pairs=cells, mean=law.mean, reason=reason)
    p = min(1.0, law.p_value(value) * cells)
    moments = {"mean": law.mean, "sd": law.sd} if isinstance(law, PearsonNull) else {}
    return NullDistribution(
        method=method,
        layer_pairs=cells,
        threshold=law.threshold(options.null.alpha / cells),
        p_value=max(p, P_FLOOR),
        p_is_bound=cells > 1 or p < P_FLOOR,
        alpha=options.null.alpha,
        **moments,
    )


def _permutation(
    metric: Metric, measurement: Measurement, comparison: Comparison, options: ScoringOptions, value: float
) -> NullDistribution:
    """Relabel b's items; over a grid, one relabelling serves every pair, and its aggregate is the draw."""
    sign = 1.0 if metric.score_direction == "similarity" else -1.0
    draws = np.empty(options.null.permutations)
    for index, permutation in enumerate(comparison.permutations(options.null.permutations)):
        comparison.report("permutations", index, options.null.permutations)
        draws[index] = aggregate(sign * measurement.permuted(permutation), options.aggregate, options.top_k)
    null = PermutationNull(draws)
    return NullDistribution(
        method="permutation",
        layer_pairs=_count_cells(measurement),
        mean=sign * float(draws.mean()),
        sd=float(draws.std(ddof=1)),
        threshold=sign * null.threshold(sign * value, options.null.alpha),
        p_value=null.p_value(sign * value),
        permutations=options.null.permutations,
        alpha=options.null.alpha,
    )


def correct(scores: Iterable[Score], choice: NullChoice) -> tuple[Score, ...]:
    """Correct the p-values of all scores of a document for their number, where asked to."""
    entries = tuple(scores)
    if choice.correction == "none":
        return entries
    tested = [index for index, entry in enumerate(entries) if entry.null.p_value is not None]
    p_values = np.array([entries[index].null.p_value for index in tested], dtype=np.float64)
    adjusted = dict(zip(tested, adjust(p_values, choice.correction).tolist(), strict=True))
    return tuple(
        entry
        if index not in adjusted
        else entry.model_copy(
            update={
                "null": entry.null.model_copy(update={"correction": choice.correction, "p_adjusted": adjusted[index]})
            }
        )
        for index, entry in enumerate(entries)
    )


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
        null=NullDistribution(
            method=method, layer_pairs=0, reason=Reason(code="undefined-score", detail="The score is undefined.")
        ),
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
