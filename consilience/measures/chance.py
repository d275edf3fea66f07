"""The chance level of a score: by closed form, by Bonferroni over a grid, or by relabelling.

The three are never mixed under one name.
"""

from collections.abc import Iterable

import numpy as np

from consilience.contract.jobs import NullChoice, ScoringOptions
from consilience.contract.metric import Metric, NullMethod
from consilience.contract.scores import Null, Reason, Score
from consilience.errors import InvalidRequest
from consilience.measures.comparison import Comparison
from consilience.measures.measurement import Measurement, Selected
from consilience.numerics.layers import aggregate
from consilience.numerics.multiplicity import adjust
from consilience.numerics.nulls import P_FLOOR, Law, MeanLaw, NullLaw
from consilience.numerics.permutations import PermutationNull


def find_null(
    metric: Metric, measurement: Measurement, comparison: Comparison, options: ScoringOptions, selected: Selected
) -> Null:
    """Find the chance level of a value by the method asked for.

    Raises
    ------
    InvalidRequest
        A method that the metric does not have.
    """
    method = choose_method(metric, options.null, grouped=comparison.grouped)
    if method == "none":
        return Null(method="none", cells=measurement.grid.size)
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


def _mean_alone(measurement: Measurement, selected: Selected) -> Null:
    """The mean where it is known without the list of every row; nothing else is."""
    cells, law = _count_cells(measurement), measurement.law(*selected.cell)
    reason = Reason(
        code="query-subset", detail="The chance level needs the neighbours of every row, and only some asked."
    )
    if not isinstance(law, MeanLaw):
        return Null(method="none", cells=cells, reason=reason)
    return Null(method="analytic" if cells == 1 else "bonferroni", cells=cells, mean=law.mean, reason=reason)


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


def _closed_form(law: Law, options: ScoringOptions, value: float, cells: int) -> Null:
    """Take the law of the best pair; over a grid, Bonferroni over its defined pairs.

    Every aggregate is at most the maximum, so that the bound for the maximum holds for all.
    """
    method: NullMethod = "analytic" if cells == 1 else "bonferroni"
    if isinstance(law, MeanLaw):
        reason = Reason(code="mean-only", detail="Only the mean has a closed form; permutation gives the rest.")
        return Null(method=method, cells=cells, mean=law.mean, reason=reason)
    p = min(1.0, law.p_value(value) * cells)
    moments = {"mean": law.mean, "sd": law.sd} if isinstance(law, NullLaw) else {}
    return Null(
        method=method,
        cells=cells,
        threshold=law.threshold(options.null.alpha / cells),
        p_value=max(p, P_FLOOR),
        p_is_bound=cells > 1 or p < P_FLOOR,
        alpha=options.null.alpha,
        **moments,
    )


def _permutation(
    metric: Metric, measurement: Measurement, comparison: Comparison, options: ScoringOptions, value: float
) -> Null:
    """Relabel b's items; over a grid, one relabelling serves every pair, and its aggregate is the draw."""
    sign = 1.0 if metric.score_direction == "similarity" else -1.0
    draws = np.empty(options.null.draws)
    for index, permutation in enumerate(comparison.permutations(options.null.draws)):
        comparison.report("permutations", index, options.null.draws)
        draws[index] = aggregate(sign * measurement.permuted(permutation), options.aggregate, options.top_k)
    null = PermutationNull(draws)
    return Null(
        method="permutation",
        cells=_count_cells(measurement),
        mean=sign * float(draws.mean()),
        sd=float(draws.std(ddof=1)),
        threshold=sign * null.threshold(sign * value, options.null.alpha),
        p_value=null.p_value(sign * value),
        draws=options.null.draws,
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
