"""Results of a study that need all its cells.

Corrected p-values, distances and layouts of the models, trends with numbers of the models, factors, differences between two
models, and the agreement of metrics.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np

from consilience.contract.alignments import IntervalChoice, Layers, ScoringOptions
from consilience.contract.metric import Metric
from consilience.contract.scores import Interval, Reason
from consilience.contract.studies import Difference, Factor, StudyOptions, Trend, is_mirrored
from consilience.contract.study_results import (
    Agreement,
    Association,
    DifferenceResult,
    FactorResult,
    ModelCoordinates,
    ModelLayout,
    StudyCell,
    StudyDocument,
    StudyMatrix,
    StudyMember,
    TrendBin,
    TrendPoint,
    TrendResult,
)
from consilience.metrics.comparison import Report
from consilience.metrics.graph_sources import GraphSource
from consilience.metrics.registry import measure
from consilience.numerics.rows.arrays import Float64Array
from consilience.numerics.rows.parallel import Executor
from consilience.numerics.rows.sources import SideSource
from consilience.numerics.stats.correlations import Correlation, partial_correlation, pearson, spearman
from consilience.numerics.stats.intervals import Replicates, difference_interval
from consilience.numerics.stats.layouts import (
    ITEMS_MIN,
    find_distances,
    is_umap_installed,
    order_leaves,
    smacof,
    umap_coordinates,
)
from consilience.numerics.stats.nulls import adjust
from consilience.numerics.stats.trends import Bin, bin_edges, bin_means, bin_pairs, correlate_metrics, monotone_trend
from consilience.planning.studies import find_member, read_quantities, read_series
from consilience.scoring import SideLoader, open_comparison

#: Sources by side and label.
Sources = Mapping[str, Mapping[str, SideSource]]
SELECTION_WARNING = "The interval is that of the selected layer pairs; it does not account for the selection."


@dataclass(frozen=True)
class ReplicateScorer:
    """Scorer of replicates: the score of a pair of models on parts of the rows."""

    options: ScoringOptions
    graphs: GraphSource
    report: Report
    sides: SideLoader
    executor: Executor
    device: str

    def replicate(self, metric: Metric, cell: StudyCell, sources: Sources) -> Replicates | Reason:
        """Score the best layer pair of a cell on parts of the rows."""
        a, b = sources["rows"][cell.row], sources["columns"][cell.column]
        names = [{layer.name for layer in source.layers} for source in (a, b)]
        if cell.layer_a not in names[0] or cell.layer_b not in names[1]:
            return Reason(code="concat-layer", detail="The best layer of one model is the concatenation of all layers.")
        update = {
            "metrics": (metric,),
            "layers": Layers(a=(cell.layer_a,), b=(cell.layer_b,)),
            "concat": False,
            "interval": IntervalChoice(),  # makes neighbour lists long enough for replicates
            "estimate": "all",
        }
        options = self.options.model_copy(update=update)
        _, comparison = open_comparison(
            options, a, b, self.graphs, self.report, sides=self.sides, executor=self.executor, device=self.device
        )
        found = measure(metric, comparison).replicates
        if found is None:
            return Reason(
                code="no-paired-interval", detail=f"The metric {metric.metric} has no replicates on parts of the rows."
            )
        return found(0, 0)


def compare_models(
    differences: Sequence[Difference], document: StudyDocument, comparisons: ReplicateScorer, sources: Sources
) -> tuple[DifferenceResult, ...]:
    """Compute every difference under every metric."""
    singles = list(chain.from_iterable(metric.each() for metric in comparisons.options.metrics))
    return tuple(
        _compare(difference, matrix, single, comparisons, sources)
        for difference in differences
        for matrix, single in zip(document.matrices, singles, strict=True)
    )


def _compare(
    difference: Difference, matrix: StudyMatrix, metric: Metric, comparisons: ReplicateScorer, sources: Sources
) -> DifferenceResult:
    first, second = (_find_cell(matrix, label, difference.reference) for label in (difference.first, difference.second))
    if first.value is None or second.value is None:
        reason = first.reason or second.reason
        return DifferenceResult(metric=matrix.name, difference=difference, status="undefined", reason=reason)
    bounds = _difference_interval(difference, metric, (first, second), comparisons, sources)
    return DifferenceResult(
        metric=matrix.name,
        difference=difference,
        status="defined",
        reason=bounds if isinstance(bounds, Reason) else None,
        value=first.value - second.value,
        interval=bounds if isinstance(bounds, Interval) else None,
        warnings=(SELECTION_WARNING,)
        if isinstance(bounds, Interval) and max(first.null.layer_pairs, second.null.layer_pairs) > 1
        else (),
    )


def _difference_interval(
    difference: Difference,
    metric: Metric,
    cells: tuple[StudyCell, StudyCell],
    comparisons: ReplicateScorer,
    sources: Sources,
) -> Interval | Reason:
    """Compute the confidence interval of a difference, or return the reason why it has none."""
    options, (first, second) = comparisons.options, cells
    if options.pairing == "id":
        return Reason(
            code="paired-by-id", detail="If models are paired by id, two pairs of models can have different items."
        )
    if options.aggregate != "max" and max(first.null.layer_pairs, second.null.layer_pairs) > 1:
        return Reason(
            code="aggregate", detail=f"Differences have no interval under the aggregate {options.aggregate}; use `max`."
        )
    if first.estimator == "estimated":
        return Reason(
            code="query-subset",
            detail="The interval needs the neighbours of every row, but the request estimates from a sample of query rows.",
        )
    of_first, of_second = (comparisons.replicate(metric, cell, sources) for cell in cells)
    for found in (of_first, of_second):
        if isinstance(found, Reason):
            return found
    if not isinstance(of_first, Replicates) or not isinstance(of_second, Replicates):
        raise TypeError("found is neither Replicates nor a Reason")
    values = first.value or 0.0, second.value or 0.0
    bounds = difference_interval(*values, (of_first, of_second), difference.level)
    if bounds is None:
        return Reason(code="undefined-without-some-rows", detail="A score is undefined if some rows are left out.")
    return Interval(low=bounds.low, high=bounds.high, level=difference.level, target="population", method=bounds.method)


def _find_cell(matrix: StudyMatrix, row: str, column: str) -> StudyCell:
    """Return the cell of two models; a square study has it in one order only."""
    for cell in matrix.cells:
        if (cell.row, cell.column) == (row, column):
            return cell
    return next(cell for cell in matrix.cells if (cell.row, cell.column) == (column, row))


#: Smallest number of models for a correlation.
MODELS_MIN = 3


def read_matrix(document: StudyDocument, matrix: StudyMatrix, value: str = "score") -> Float64Array:
    """Return the scores or calibrated scores by row and column; NaN if undefined or not computed."""
    rows, columns = (
        {member.label: number for number, member in enumerate(members)} for members in (document.rows, document.columns)
    )
    out = np.full((len(rows), len(columns)), np.nan)
    for cell in matrix.cells:
        found = _read(cell, value)
        out[rows[cell.row], columns[cell.column]] = np.nan if found is None else found
    return out


def _read(cell: StudyCell, value: str) -> float | None:
    return cell.value if value == "score" else cell.calibrated


def _oriented(document: StudyDocument, matrix: StudyMatrix, of: str, value: str) -> Float64Array:
    """Return the scores with the models of one side in rows; in a square study, both triangles are filled."""
    scores = read_matrix(document, matrix, value)
    if document.square:
        scores = np.where(np.isnan(scores), scores.T, scores)
    return scores if of == "rows" else scores.T


def _sides(document: StudyDocument, of: str) -> tuple[Sequence[StudyMember], Sequence[StudyMember]]:
    sides = document.rows, document.columns
    return sides if of == "rows" else sides[::-1]


def compute_trend(trend: Trend, document: StudyDocument, matrix: StudyMatrix) -> TrendResult:
    """Compute a trend under one metric."""
    members, others = _sides(document, trend.side)
    scores = _oriented(document, matrix, trend.side, trend.value)
    x = np.array(read_quantities(members, trend.by))
    covariates = np.array([read_quantities(members, key) for key in trend.covariates]).T
    y = _mean_scores(scores, None if trend.reference is None else find_member(others, trend.reference, "/trends"))
    known = ~np.isnan(y)
    reason = _undefined_trend_reason(trend, x[known])
    if reason is not None:
        return TrendResult(metric=matrix.name, trend=trend, status="undefined", reason=reason)
    undefined = [member.label for member, is_known in zip(members, known, strict=True) if not is_known]
    x, y = x[known], y[known]
    points = [
        TrendPoint(label=member.label, x=float(a), y=float(b))
        for member, a, b in zip([m for m, is_known in zip(members, known, strict=True) if is_known], x, y, strict=True)
    ]
    fixed = covariates[known] if trend.covariates else None
    return TrendResult(
        metric=matrix.name,
        trend=trend,
        status="defined",
        points=tuple(points),
        spearman=describe_correlation(spearman(x, y, trend.level)),
        pearson=describe_correlation(pearson(x, y, trend.level)),
        partial_spearman=None if fixed is None else describe_correlation(partial_correlation(x, y, fixed, trend.level)),
        partial_pearson=None
        if fixed is None
        else describe_correlation(partial_correlation(x, y, fixed, trend.level, ranks=False)),
        bins=_find_bins(trend, x, y, scores[np.ix_(known, known)] if document.square else None),
        warnings=((f"Models without a score are left out: {', '.join(undefined)}.",) if undefined else ()),
    )


def _mean_scores(scores: Float64Array, against: int | None) -> Float64Array:
    """Return the score of each model with one other model, or its mean score with all others."""
    if against is not None:
        return np.asarray(scores[:, against])
    counts = (~np.isnan(scores)).sum(axis=1)
    means = np.divide(np.nansum(scores, axis=1), counts, out=np.full(len(scores), np.nan), where=counts > 0)
    return np.asarray(means)


def _undefined_trend_reason(trend: Trend, x: Float64Array) -> Reason | None:
    if len(x) < MODELS_MIN:
        return Reason(
            code="too-few-models",
            detail=f"A trend needs at least {MODELS_MIN} models with a score; there are {len(x)}.",
        )
    if np.ptp(x) == 0:
        return Reason(code="constant-metadata", detail=f"The value of {trend.by!r} is {x[0]:g} for all models.")
    return None


def _find_bins(trend: Trend, x: Float64Array, y: Float64Array, square: Float64Array | None) -> tuple[TrendBin, ...]:
    if trend.bins is None:
        return ()
    edges = bin_edges(x, trend.bins) if isinstance(trend.bins, int) else np.array(trend.bins)
    found = bin_pairs(x, square, edges) if square is not None and trend.reference is None else bin_means(x, y, edges)
    return tuple(_write_bin(each) for each in found)


def _write_bin(found: Bin) -> TrendBin:
    return TrendBin(low=found.low, high=found.high, n=found.n, mean=found.mean, se=found.se)


def describe_correlation(found: Correlation | None) -> Association | None:
    """Describe a correlation as a document of the contract."""
    return None if found is None else Association(**vars(found))


def compute_factor(factor: Factor, document: StudyDocument, matrix: StudyMatrix) -> FactorResult:
    """Compute a factor under one metric: one series for each model of the other side and each value of `within`."""
    members, _ = _sides(document, factor.side)
    series = read_series(members, factor)
    scores = _oriented(document, matrix, factor.side, factor.value)
    blocks = np.concatenate([scores[list(members)].T for members in series.members])
    whole = blocks[~np.isnan(blocks).any(axis=1)]

    def undefined(code: str, detail: str) -> FactorResult:
        reason = Reason(code=code, detail=detail)
        return FactorResult(metric=matrix.name, factor=factor, status="undefined", reason=reason, levels=series.levels)

    if len(series.levels) < MODELS_MIN:
        return undefined(
            "too-few-levels", f"A trend needs at least {MODELS_MIN} levels; {factor.by!r} has {len(series.levels)}."
        )
    if not len(whole):
        return undefined("undefined-scores", "No series has a score at every level.")
    found = monotone_trend(whole, independent=factor.independent, alternative=factor.alternative)
    if found is None:
        return undefined("constant-scores", "All scores are equal.")
    return FactorResult(
        metric=matrix.name,
        factor=factor,
        status="defined",
        levels=series.levels,
        means=tuple(float(mean) for mean in whole.mean(axis=0)),
        series=len(whole),
        value=found.value,
        p_value=found.p_value,
        exact=found.exact,
        test="page" if factor.independent else "joint",
    )


#: Number of neighbours of UMAP, as in figure 2 of the article.
UMAP_NEIGHBOURS = 10


def complete_study(options: StudyOptions, document: StudyDocument) -> StudyDocument:
    """Add the results that need all cells to the document."""
    matrices = tuple(_complete_matrix(options, document, matrix) for matrix in document.matrices)
    return document.model_copy(
        update={
            "matrices": matrices,
            "trends": tuple(compute_trend(trend, document, each) for trend in options.trends for each in matrices),
            "factors": tuple(compute_factor(factor, document, each) for factor in options.factors for each in matrices),
            "agreement": _find_agreement(options, document, matrices),
        }
    )


def _complete_matrix(options: StudyOptions, document: StudyDocument, matrix: StudyMatrix) -> StudyMatrix:
    scores = read_matrix(document, matrix)
    distances = find_distances(scores) if matrix.direction == "similarity" else scores
    update: dict[str, object] = {
        "cells": correct_cells(matrix.cells),
        "distances": _write_distances(document, distances),
    }
    if document.square:
        update |= _compute_layouts(options, document, distances)
    return matrix.model_copy(update=update)


def correct_cells(cells: Sequence[StudyCell]) -> tuple[StudyCell, ...]:
    """Correct the p-values of all cells, by both methods."""
    tested = [number for number, cell in enumerate(cells) if cell.null.p_value is not None]
    p_values = np.array([cells[number].null.p_value for number in tested], dtype=np.float64)
    holm, hochberg = (adjust(p_values, method).tolist() for method in ("holm", "benjamini_hochberg"))
    corrected = {number: pair for number, *pair in zip(tested, holm, hochberg, strict=True)}
    return tuple(
        cell.model_copy(
            update={"p_holm": corrected[number][0], "p_benjamini_hochberg": corrected[number][1]}
            if number in corrected
            else {}
        )
        for number, cell in enumerate(cells)
    )


def _write_distances(document: StudyDocument, distances: Float64Array) -> tuple[tuple[float | None, ...], ...]:
    full = _mirror(distances) if document.square else distances
    return tuple(tuple(float(value) if np.isfinite(value) else None for value in row) for row in full)


def _mirror(distances: Float64Array) -> Float64Array:
    """Fill both triangles: the mean of both orders if both are known, 0 on the diagonal."""
    with np.errstate(invalid="ignore"):
        both = np.where(
            np.isnan(distances), distances.T, np.where(np.isnan(distances.T), distances, (distances + distances.T) / 2)
        )
    np.fill_diagonal(both, 0.0)
    return np.asarray(both)


def _compute_layouts(options: StudyOptions, document: StudyDocument, distances: Float64Array) -> dict[str, object]:
    """Compute layouts and an order of the models that have distances to all others."""
    full = _mirror(distances)
    kept, warnings = _models_with_distances(document, full)
    labels = [document.rows[index].label for index in kept]
    square = full[np.ix_(kept, kept)]
    if not np.isfinite(square).any() or len(kept) < 2:
        reason = Reason(code="undefined-distances", detail="Fewer than two models have distances to each other.")
        return {"layouts": (ModelLayout(method="mds", reason=reason),)}
    far = ~np.isfinite(square)
    if far.any():
        warnings += (
            f"{int(far.sum()) // 2} pairs of models without any similarity get the largest distance of the other pairs.",
        )
        square = np.where(far, square[~far].max(), square)
    layout = smacof(square)
    mds = ModelLayout(
        method="mds", coordinates=_coordinates(labels, layout.coordinates), stress=layout.stress, warnings=warnings
    )
    layouts = (mds, _umap_layout(options, labels, square, warnings)) if options.umap else (mds,)
    return {"layouts": layouts, "dendrogram_order": tuple(labels[leaf] for leaf in order_leaves(square))}


def _models_with_distances(document: StudyDocument, full: Float64Array) -> tuple[list[int], tuple[str, ...]]:
    """Leave out models until no distance is undefined, those with most undefined distances first."""
    kept = list(range(len(full)))
    while kept and (undefined := np.isnan(full[np.ix_(kept, kept)]).sum(axis=1)).any():
        del kept[int(undefined.argmax())]
    undefined = [member.label for index, member in enumerate(document.rows) if index not in kept]
    return kept, (f"Models with undefined scores are left out: {', '.join(undefined)}.",) if undefined else ()


def _umap_layout(
    options: StudyOptions, labels: Sequence[str], square: Float64Array, warnings: tuple[str, ...]
) -> ModelLayout:
    if not is_umap_installed():
        detail = "UMAP is not installed. Run: pip install 'consilience[studies]'"
        return ModelLayout(method="umap", reason=Reason(code="missing-extra", detail=detail))
    if len(square) < ITEMS_MIN:
        detail = f"UMAP needs at least {ITEMS_MIN} models; there are {len(square)}."
        return ModelLayout(method="umap", reason=Reason(code="too-few-models", detail=detail))
    coordinates = umap_coordinates(square, UMAP_NEIGHBOURS, options.seed)
    return ModelLayout(method="umap", coordinates=_coordinates(labels, coordinates), warnings=warnings)


def _coordinates(labels: Sequence[str], coordinates: Float64Array) -> tuple[ModelCoordinates, ...]:
    return tuple(
        ModelCoordinates(label=label, x=float(x), y=float(y)) for label, (x, y) in zip(labels, coordinates, strict=True)
    )


def _find_agreement(
    options: StudyOptions, document: StudyDocument, matrices: Sequence[StudyMatrix]
) -> tuple[Agreement, ...]:
    """Compute the agreement of every two metrics; distances change sign, so that metrics that agree have values above 0."""
    is_mirrored_square = document.square and is_mirrored(options)
    scores = [read_matrix(document, each) * (1.0 if each.direction == "similarity" else -1.0) for each in matrices]
    return tuple(
        Agreement(
            first=matrices[i].name,
            second=matrices[j].name,
            spearman=describe_correlation(
                correlate_metrics(scores[i], scores[j], square=is_mirrored_square, seed=options.seed)
            ),
        )
        for i, j in combinations(range(len(matrices)), 2)
    )
