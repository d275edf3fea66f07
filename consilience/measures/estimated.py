"""Metrics of neighbour lists where only some rows ask: the mean of their scores, and how far it can be off."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from consilience.contract.kernel_metrics import Cknna
from consilience.contract.metric import NeighbourMetric
from consilience.contract.neighbour_metrics import CycleKnn, LcsKnn, SecondOrderCosine
from consilience.contract.scores import NeighboursRecord, Reason
from consilience.measures.comparison import Side
from consilience.measures.list_scores import find_score
from consilience.measures.measurement import Measurement, find_reasons
from consilience.measures.survey import Answers, Survey
from consilience.numerics import compiled_lists
from consilience.numerics.arrays import Float32Array, Float64Array, IdArray
from consilience.numerics.cknna import enter_self
from consilience.numerics.cknna_rows import LocalGraph, Weights, cknna_row_scores
from consilience.numerics.estimates import Estimate, Limits, estimate, gallery_bounds
from consilience.numerics.intervals import Bounds
from consilience.numerics.nulls import Law, MeanLaw
from consilience.numerics.row_scores import cycle_row_scores

#: The score of each row that asked, in two layers.
RowScores = Callable[[Answers, Answers], Float64Array]
Kernel = Callable[[IdArray, IdArray, int], Float64Array]

#: Below it scores that are not bounded differ by rounding alone.
VARIANCE_MIN = 1e-20


def estimate_cell(metric: NeighbourMetric, survey: Survey, cell: tuple[int, int], gallery: int = -1) -> Estimate | None:
    """Estimate the agreement of one layer pair in one gallery, from the rows that have asked; None where it has no value."""
    (k,) = metric.k
    a, b = survey.answers("a", cell[0], gallery), survey.answers("b", cell[1], gallery)
    whole = (a.ids[:, k - 1] >= 0) & (b.ids[:, k - 1] >= 0)
    scores = find_row_scores(metric)(a, b)[whole]
    return estimate(scores, a.size) if len(scores) > 1 and np.isfinite(scores).all() else None


def measure_estimated(metric: NeighbourMetric, survey: Survey) -> Measurement:
    """Estimate the agreement of the neighbour lists of every layer pair at one k."""
    comparison = survey.comparison
    reasons = find_reasons(comparison, Side.reason)
    grid = np.full((len(comparison.a.layers), len(comparison.b.layers)), np.nan)
    found: dict[tuple[int, int], Estimate] = {}
    for done, cell in enumerate(np.ndindex(*grid.shape)):
        comparison.report(metric.metric, done, grid.size)
        if cell in reasons:
            continue
        if (value := estimate_cell(metric, survey, cell)) is None:
            reasons[cell] = find_score(metric).undefined
        else:
            found[cell], grid[cell] = value, value.value
    return Measurement(
        grid=grid,
        reasons=reasons,
        law=partial(_law, metric, survey),
        permuted=_no_draws,
        bounds=lambda i, j, level: find_bounds(metric, found[i, j], level),
        neighbours=NeighboursRecord(builder="queries", recall=1.0, cache=_cached(survey.hits)),
        asked=survey.asked,
    )


def find_limits(metric: NeighbourMetric) -> Limits:
    """The least and the largest score of a row."""
    return metric.low, metric.ceiling


def find_bounds(metric: NeighbourMetric, found: Estimate, level: float) -> Bounds | Reason:
    """Find the interval of an estimate for the score of its gallery, or the reason why there is none."""
    limits = find_limits(metric)
    if None in limits and found.variance <= VARIANCE_MIN:
        return Reason(
            code="no-variance", detail="All rows that asked score the same, which says nothing of the others."
        )
    return gallery_bounds(found, level, limits)


def _law(metric: NeighbourMetric, survey: Survey, _i: int, _j: int) -> Law | None:
    """What is known of the null law without every row's list: the mean of mutual_knn, where all relabellings are allowed."""
    if metric.metric == "mutual_knn" and not survey.comparison.grouped:
        return MeanLaw(metric.k[0] / (survey.comparison.n - 1))
    return None


def _no_draws(_: object) -> Float64Array:
    raise LookupError("draws are refused before anything is estimated")


def _cached(hits: set[bool]) -> str:
    return "mixed" if len(hits) == 2 else "hit" if hits == {True} else "miss"


def find_row_scores(metric: NeighbourMetric) -> RowScores:
    """Find how the score of a row that asked is computed."""
    return _ROW_SCORES[metric.metric](metric)


def _by_lists(kernel: Kernel, metric: NeighbourMetric) -> RowScores:
    (k,) = metric.k
    return lambda a, b: kernel(a.first(k), b.first(k), a.n)


def _lcs(metric: LcsKnn) -> RowScores:
    lengths = _by_lists(compiled_lists.lcs_rows, metric)
    return lambda a, b: lengths(a, b) / (1 if metric.raw else metric.k[0])


def _cycle(metric: CycleKnn) -> RowScores:
    (k,) = metric.k

    def one_way(stepped: Answers, back: Answers) -> Float64Array:
        return cycle_row_scores(stepped.queries, stepped.first(k), back.second, k)

    ways: dict[str, RowScores] = {
        "ab": lambda a, b: one_way(b, a),
        "ba": one_way,
        "mean": lambda a, b: (one_way(b, a) + one_way(a, b)) / 2,
    }
    return ways[metric.direction]


def _second_order(metric: SecondOrderCosine) -> RowScores:
    (k,) = metric.k

    def score(a: Answers, b: Answers) -> Float64Array:
        ids_a, ids_b = a.first(k), b.first(k)
        in_a, in_b = np.ascontiguousarray(a.similarities[:, :k]), np.ascontiguousarray(b.similarities[:, :k])
        return compiled_lists.second_order_rows(
            ids_a, in_a, b.similarities_to(ids_a), ids_b, a.similarities_to(ids_b), in_b, a.n
        )

    return score


def _cknna(metric: Cknna) -> RowScores:
    return lambda a, b: cknna_row_scores(_weigh(a, metric), _weigh(b, metric), metric.variant)


def _weigh(answers: Answers, metric: Cknna) -> LocalGraph:
    """Turn lists into the weighted graph of a variant, as `cknna.weigh` does."""
    (k,) = metric.k

    def weigh(items: IdArray, ids: IdArray, similarities: Float32Array) -> Weights:
        cut, values = np.ascontiguousarray(ids[:, :k]), similarities[:, :k].astype(np.float64)
        if metric.variant == "biased":
            return enter_self(cut, values, items, answers.lengths(items))
        if metric.variant == "paper":
            values -= answers.mean_similarities()[:, None]
        return cut, values

    return LocalGraph(
        queries=answers.queries,
        weights=weigh(answers.queries, answers.ids, answers.similarities),
        second=lambda items: weigh(items, *answers.second(items)),
        size=answers.size,
        n=answers.n,
    )


_ROW_SCORES: dict[str, Callable[[Any], RowScores]] = {
    "mutual_knn": partial(_by_lists, compiled_lists.overlap_rows),
    "jaccard_knn": partial(_by_lists, compiled_lists.jaccard_rows),
    "rank_similarity": partial(_by_lists, compiled_lists.rank_rows),
    "lcs_knn": _lcs,
    "edit_distance_knn": partial(_by_lists, compiled_lists.edit_rows),
    "second_order_cosine": _second_order,
    "cycle_knn": _cycle,
    "cknna": _cknna,
}
