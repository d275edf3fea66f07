"""What scores have to do with numbers of the models."""

from collections.abc import Sequence

import numpy as np

from consilience.contract.questions import Factor, Trend
from consilience.contract.scores import Reason
from consilience.contract.study_results import (
    Association,
    FactorResult,
    StudyCell,
    StudyDocument,
    StudyMatrix,
    StudyMember,
    TrendBin,
    TrendPoint,
    TrendResult,
)
from consilience.numerics.arrays import Float64Array
from consilience.numerics.correlations import Correlation, partial, pearson, spearman
from consilience.numerics.trends import Bin, bin_means, bin_pairs, cut, monotone_trend
from consilience.planning.studies import find_member, read_quantities, read_series

#: Fewer models have no correlation.
MODELS_MIN = 3


def read_matrix(document: StudyDocument, matrix: StudyMatrix, value: str = "score") -> Float64Array:
    """Scores or calibrated scores by row and column; NaN where there is none. One triangle stays one."""
    rows, columns = (
        {member.label: place for place, member in enumerate(members)} for members in (document.rows, document.columns)
    )
    out = np.full((len(rows), len(columns)), np.nan)
    for cell in matrix.cells:
        found = _read(cell, value)
        out[rows[cell.row], columns[cell.column]] = np.nan if found is None else found
    return out


def _read(cell: StudyCell, value: str) -> float | None:
    return cell.value if value == "score" else cell.calibrated


def _oriented(document: StudyDocument, matrix: StudyMatrix, of: str, value: str) -> Float64Array:
    """The scores of each model of a side in a row; of models against themselves, both triangles."""
    scores = read_matrix(document, matrix, value)
    if document.square:
        scores = np.where(np.isnan(scores), scores.T, scores)
    return scores if of == "rows" else scores.T


def _sides(document: StudyDocument, of: str) -> tuple[Sequence[StudyMember], Sequence[StudyMember]]:
    sides = document.rows, document.columns
    return sides if of == "rows" else sides[::-1]


def find_trend(trend: Trend, document: StudyDocument, matrix: StudyMatrix) -> TrendResult:
    """What a trend comes to under one metric."""
    members, others = _sides(document, trend.of)
    scores = _oriented(document, matrix, trend.of, trend.value)
    x = np.array(read_quantities(members, trend.by))
    covariates = np.array([read_quantities(members, key) for key in trend.covariates]).T
    y = _reduce(scores, None if trend.against is None else find_member(others, trend.against, "/trends"))
    known = ~np.isnan(y)
    reason = _find_reason(trend, x[known])
    if reason is not None:
        return TrendResult(metric=matrix.name, trend=trend, status="undefined", reason=reason)
    lost = [member.label for member, is_known in zip(members, known, strict=True) if not is_known]
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
        spearman=associate(spearman(x, y, trend.level)),
        pearson=associate(pearson(x, y, trend.level)),
        partial_spearman=None if fixed is None else associate(partial(x, y, fixed, trend.level)),
        partial_pearson=None if fixed is None else associate(partial(x, y, fixed, trend.level, ranks=False)),
        bins=_find_bins(trend, x, y, scores[np.ix_(known, known)] if document.square else None),
        warnings=(f"Without a score, and left out: {', '.join(lost)}.",) if lost else (),
    )


def _reduce(scores: Float64Array, against: int | None) -> Float64Array:
    """The score of each model with one other, or the mean over those that it has one with."""
    if against is not None:
        return np.asarray(scores[:, against])
    counts = (~np.isnan(scores)).sum(axis=1)
    means = np.divide(np.nansum(scores, axis=1), counts, out=np.full(len(scores), np.nan), where=counts > 0)
    return np.asarray(means)


def _find_reason(trend: Trend, x: Float64Array) -> Reason | None:
    if len(x) < MODELS_MIN:
        return Reason(code="too-few-models", detail=f"{len(x)} models have a value, and a trend needs {MODELS_MIN}.")
    if np.ptp(x) == 0:
        return Reason(code="constant-metadata", detail=f"{trend.by} is {x[0]:g} for all models.")
    return None


def _find_bins(trend: Trend, x: Float64Array, y: Float64Array, square: Float64Array | None) -> tuple[TrendBin, ...]:
    if trend.bins is None:
        return ()
    edges = cut(x, trend.bins) if isinstance(trend.bins, int) else np.array(trend.bins)
    found = bin_pairs(x, square, edges) if square is not None and trend.against is None else bin_means(x, y, edges)
    return tuple(_write_bin(each) for each in found)


def _write_bin(found: Bin) -> TrendBin:
    return TrendBin(low=found.low, high=found.high, n=found.n, mean=found.mean, se=found.se)


def associate(found: Correlation | None) -> Association | None:
    """A correlation in the contract's words."""
    return None if found is None else Association(**vars(found))


def find_factor(factor: Factor, document: StudyDocument, matrix: StudyMatrix) -> FactorResult:
    """What a factor comes to under one metric: a series for each model of the other side, and for each value of `within`."""
    members, _ = _sides(document, factor.of)
    series = read_series(members, factor)
    scores = _oriented(document, matrix, factor.of, factor.value)
    blocks = np.concatenate([scores[list(places)].T for places in series.members])
    whole = blocks[~np.isnan(blocks).any(axis=1)]

    def undefined(code: str, detail: str) -> FactorResult:
        reason = Reason(code=code, detail=detail)
        return FactorResult(metric=matrix.name, factor=factor, status="undefined", reason=reason, levels=series.levels)

    if len(series.levels) < MODELS_MIN:
        return undefined(
            "too-few-levels", f"{factor.by} has {len(series.levels)} levels, and a trend needs {MODELS_MIN}."
        )
    if not len(whole):
        return undefined("undefined-scores", "No series has a score at every level.")
    found = monotone_trend(whole, independent=factor.independent, alternative=factor.alternative)
    if found is None:
        return undefined("constant-scores", "The scores are the same at every level.")
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
