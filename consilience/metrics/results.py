"""Entries of the score document: the best layer pair of a measurement, its chance level, its interval, its curve.

The chance level has a closed form, a Bonferroni bound over the grid, or comes from permutations; a document names which.
"""

from collections.abc import Iterable
from math import isnan

import numpy as np

from consilience.contract.alignments import NullChoice, ScoringOptions
from consilience.contract.metric import Metric, NullMethod
from consilience.contract.scores import GalleryPoint, Interval, NullDistribution, Reason, Score
from consilience.errors import InvalidRequest
from consilience.metrics.comparison import Comparison, Measurement, SelectedScore
from consilience.numerics.stats.layers import aggregate
from consilience.numerics.stats.nulls import P_FLOOR, ClosedFormNull, NullMean, PearsonNull, PermutationNull, adjust


def find_null(
    metric: Metric, measurement: Measurement, comparison: Comparison, options: ScoringOptions, selected: SelectedScore
) -> NullDistribution:
    """Find the chance level of a value by the requested method.

    Raises
    ------
    InvalidRequest
        A method that the metric does not have.
    """
    method = choose_method(metric, options.null, grouped=comparison.groups is not None)
    if method == "none":
        return NullDistribution(method="none", layer_pairs=measurement.grid.size)
    if measurement.queries is not None:
        return _find_mean_only(measurement, selected)
    if method == "permutation":
        return _permute(metric, measurement, comparison, options, selected.value)
    null = measurement.null(*selected.cell)
    if null is None:
        raise LookupError(f"{metric.metric} declares a closed-form null and has none.")
    return _closed_form(null, options, selected.value, _count_cells(measurement))


def _count_cells(measurement: Measurement) -> int:
    return int((~np.isnan(measurement.grid)).sum())


def _find_mean_only(measurement: Measurement, selected: SelectedScore) -> NullDistribution:
    """Mean of the null distribution, if it is known without the list of every row; the rest is not known."""
    cells, null = _count_cells(measurement), measurement.null(*selected.cell)
    reason = Reason(
        code="query-subset",
        detail="The chance level needs the neighbours of every row, but only some rows are queries.",
    )
    if not isinstance(null, NullMean):
        return NullDistribution(method="none", layer_pairs=cells, reason=reason)
    return NullDistribution(
        method="analytic" if cells == 1 else "bonferroni", layer_pairs=cells, mean=null.mean, reason=reason
    )


def choose_method(metric: Metric, choice: NullChoice, *, grouped: bool) -> NullMethod:
    """Turn `auto` into a method: the closed form if there is one and every permutation is allowed."""
    if choice.method == "none":
        return "none"
    if choice.method == "auto":
        return "permutation" if grouped else metric.nulls[0]
    if choice.method not in metric.nulls or (grouped and choice.method == "analytic"):
        why = "its closed form assumes all permutations, and groups forbid some" if grouped else "it has no closed form"
        raise InvalidRequest(
            f"{metric.metric} does not support the null method {choice.method!r} here: {why}.",
            value=choice.method,
            hint="Use `permutation` or `auto`.",
            pointer="/null/method",
        )
    return choice.method


def _closed_form(null: ClosedFormNull, options: ScoringOptions, value: float, cells: int) -> NullDistribution:
    """Take the null distribution of the best pair; over a grid, with a Bonferroni correction for its defined pairs.

    No aggregate exceeds the maximum, so that the bound for the maximum holds for all.
    """
    method: NullMethod = "analytic" if cells == 1 else "bonferroni"
    if isinstance(null, NullMean):
        reason = Reason(code="mean-only", detail="Only the mean has a closed form; use `permutation` for the rest.")
        return NullDistribution(method=method, layer_pairs=cells, mean=null.mean, reason=reason)
    p = min(1.0, null.p_value(value) * cells)
    moments = {"mean": null.mean, "sd": null.sd} if isinstance(null, PearsonNull) else {}
    return NullDistribution(
        method=method,
        layer_pairs=cells,
        threshold=null.threshold(options.null.alpha / cells),
        p_value=max(p, P_FLOOR),
        p_is_bound=cells > 1 or p < P_FLOOR,
        alpha=options.null.alpha,
        **moments,
    )


def _permute(
    metric: Metric, measurement: Measurement, comparison: Comparison, options: ScoringOptions, value: float
) -> NullDistribution:
    """Permute b's items; over a grid, one permutation serves every pair, and the aggregate of the grid is one draw."""
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
    """Correct the p-values of all scores of a document for their number, if the request says so."""
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


#: Level of the intervals of a curve, if the score itself has no interval.
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


def select(metric: Metric, measurement: Measurement, options: ScoringOptions) -> SelectedScore | None:
    """Reduce the grid to its value and best pair (the first one if several are equal); None if no pair is defined."""
    grid = measurement.grid
    if np.isnan(grid).all():
        return None
    sign = 1.0 if metric.score_direction == "similarity" else -1.0
    i, j = np.unravel_index(int(np.nanargmax(sign * grid)), grid.shape)
    return SelectedScore(sign * aggregate(sign * grid, options.aggregate, options.top_k), (int(i), int(j)))


def _calibrate(metric: Metric, value: float, threshold: float | None) -> float | None:
    """Calibrated score (value - tau) / (s_max - tau), at least 0: 0 at the threshold of chance, 1 at perfect agreement."""
    best = metric.ceiling
    if threshold is None or metric.score_direction == "distance" or best is None or threshold >= best:
        return None
    return min(1.0, max(0.0, (value - threshold) / (best - threshold)))


def _find_interval(
    measurement: Measurement, selected: SelectedScore, options: ScoringOptions
) -> tuple[Interval | None, tuple[str, ...]]:
    """Find the interval of the best pair, or a warning with the reason why there is none."""
    choice, target = options.interval, "population" if measurement.queries is None else "gallery"
    if choice is None or (choice.target == "gallery" and target == "population"):
        return None, ()  # an exact score has no sampling error in its own gallery
    if choice.target == "population" and target == "gallery":
        return None, (
            "No interval: a population interval needs the neighbours of every row, but only some rows are queries.",
        )
    if options.aggregate != "max" and measurement.grid.size > 1:
        return None, (f"No interval: the aggregate {options.aggregate} has none.",)
    found = measurement.interval(*selected.cell, choice.level)
    if isinstance(found, Reason):
        return None, (f"No interval: {found.detail}",)
    note = "The interval is that of the selected layer pair and does not account for the selection."
    interval = Interval(low=found.low, high=found.high, level=choice.level, target=target, method=found.method)
    return interval, (note,) if measurement.grid.size > 1 else ()


def _find_curve(
    measurement: Measurement, selected: SelectedScore, options: ScoringOptions
) -> tuple[tuple[GalleryPoint, ...] | None, tuple[str, ...]]:
    """Find the gallery-size curve of the best pair, if it was requested."""
    if measurement.curve is None:
        return None, ()
    if options.aggregate != "max" and measurement.grid.size > 1:
        return None, (f"No gallery-size curve: the aggregate {options.aggregate} has none.",)
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
    """Fields of an entry that do not depend on whether its score is defined."""
    return {
        "metric": metric.metric,
        "options": metric.options(),
        "definition": getattr(metric, "definition", "standard"),
        "direction": metric.score_direction,
        "aggregate": options.aggregate,
        "grid": tuple(tuple(None if isnan(v) else float(v) for v in row) for row in measurement.grid),
        "estimator": measurement.estimator,
        "queries": measurement.queries or comparison.n,
        "neighbours": measurement.neighbours,
    }
