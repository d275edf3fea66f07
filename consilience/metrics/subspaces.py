"""Metrics of fitted directions on two sides: a factor for each layer, a small matrix for each layer pair.

A `SubspaceMetric` describes one metric: the whitening or scaling of a layer, and the value of two layers. `measure_fit`
measures all of them in the same way, and computes population intervals by fitting again on parts of the rows.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from math import nan

import numpy as np

from consilience.contract.metric import Metric
from consilience.contract.scores import Reason
from consilience.contract.subspace_metrics import (
    AngularShape,
    Bures,
    CcaMean,
    CcaR2,
    EigenspaceOverlap,
    Gulp,
    ProcrustesSimilarity,
    Pwcca,
    Svcca,
)
from consilience.limits import BLOCKS, FOLDS, REPEATS
from consilience.metrics.comparison import Cell, Comparison, Measurement, find_reasons
from consilience.metrics.sides import CacheKey, PreparedSide
from consilience.numerics.rows.arrays import Float32Array, Float64Array, IdArray
from consilience.numerics.stats.intervals import (
    ConfidenceInterval,
    assign_blocks,
    assign_folds_repeatedly,
    block_jackknife_interval,
    held_out_interval,
    leave_blocks_out,
    split_folds,
)
from consilience.numerics.stats.nulls import ClosedFormNull, Permutation
from consilience.numerics.subspaces import cca, shapes
from consilience.numerics.subspaces.moments import (
    FloatArray,
    PairSums,
    RowProgress,
    add_sums,
    find_fold_sums,
    project_sums,
    sum_rows,
)
from consilience.numerics.subspaces.spectra import (
    CrossProductSource,
    ScaledDirections,
    Spectrum,
    SumsLayer,
    decompose_moments,
    find_spectrum,
    scale_directions,
)

#: Factors of both layers of a pair.
Fit = tuple[ScaledDirections, ScaledDirections]
#: Returns the score of other rows, paired, of two layers under a fit, from their sums along the fitted directions.
HeldOutScore = Callable[[ScaledDirections, ScaledDirections, PairSums], float]

#: Smallest number of rows of a held-out part: two rows are always perfectly correlated.
_SCORED_MIN = 3

FIT_WARNING = (
    "Directions are fitted and scored on the same rows, which overstates the agreement. The interval is that of the held-out "
    "value (fitted on four fifths of the rows, scored on the rest), so it may not contain the score."
)


@dataclass(frozen=True)
class SpectrumKey(CacheKey[Spectrum]):
    """Spectrum of a layer."""

    centre: bool
    zscore: bool
    leading: int | None


@dataclass(frozen=True)
class Scaling:
    """Whitening or scaling of a layer's spectrum; metrics with equal scalings share the factors.

    Attributes
    ----------
    name : name of the scaling
    options : every option that the result depends on
    centre, zscore : True if columns are centred, or scaled to variance 1, before the decomposition
    leading : number of directions, if not all are needed
    """

    name: str
    options: tuple[object, ...] = ()
    centre: bool = True
    zscore: bool = False
    leading: int | None = None

    @property
    def spectrum(self) -> SpectrumKey:
        """Key of the spectrum that is scaled."""
        return SpectrumKey(self.centre, self.zscore, self.leading)


@dataclass(frozen=True)
class FactorKey(CacheKey[ScaledDirections]):
    """Factor of a layer."""

    scaling: Scaling


@dataclass(frozen=True)
class SubspaceMetric:
    """One metric of fitted directions.

    Attributes
    ----------
    scaling : name and options of the whitening or scaling
    scale : computes a layer's factor from its spectrum
    value : value of two factors, with b's rows permuted if a permutation is given
    held_out : score of other rows under a fit; None: the interval is that of the block jackknife
    null : closed-form null distribution, if there is one
    rank_slack : a layer of rank n - rank_slack or more makes the value the same for every pairing; None if no rank does
    """

    scaling: Scaling
    scale: Callable[[Spectrum], ScaledDirections]
    value: Callable[[ScaledDirections, ScaledDirections, Permutation | None], float]
    held_out: HeldOutScore | None
    null: Callable[[ScaledDirections, ScaledDirections], ClosedFormNull] | None = None
    rank_slack: int | None = None

    def factor(self, side: PreparedSide, index: int) -> ScaledDirections:
        """Factor of a layer; metrics with equal scalings share it, and all share the spectrum."""

        def find() -> ScaledDirections:
            return self.scale(side.memoize(index, self.scaling.spectrum, lambda: self._find_spectrum(side, index)))

        return side.memoize(index, FactorKey(self.scaling), find)

    def factors(self, comparison: Comparison, cell: Cell) -> Fit:
        """Factors of both layers of a pair."""
        return self.factor(comparison.a, cell[0]), self.factor(comparison.b, cell[1])

    def fit(self, rows: Float32Array | SumsLayer) -> ScaledDirections | None:
        """Factor of some of a layer's rows, or of their sums; None if the value would be undefined."""
        if isinstance(rows, SumsLayer):
            factor = self.scale(self._decompose_moments(rows, rows.square))
        else:
            factor = self.scale(self._decompose(rows))
        return None if factor.rank == 0 or self.is_saturated(factor) else factor

    def fit_pair(self, a: Float32Array | SumsLayer, b: Float32Array | SumsLayer) -> Fit | None:
        """Factors of some rows of both layers; None if the value would be undefined."""
        of_a, of_b = self.fit(a), self.fit(b)
        return None if of_a is None or of_b is None else (of_a, of_b)

    def is_saturated(self, factor: ScaledDirections) -> bool:
        """Return True if a layer's directions use up all that its rows allow, so that the value is fixed."""
        return self.rank_slack is not None and factor.rank >= factor.n - self.rank_slack

    def _find_spectrum(self, side: PreparedSide, index: int) -> Spectrum:
        if not side.rows.is_streamed(index):
            return self._decompose(side.rows.array(index))
        layer = side.streamed(index)
        return self._decompose_moments(layer, layer.own.square)

    def _decompose(self, rows: Float32Array) -> Spectrum:
        scaling = self.scaling
        return find_spectrum(rows, centre=scaling.centre, zscore=scaling.zscore, leading=scaling.leading)

    def _decompose_moments(self, products: CrossProductSource, square: FloatArray) -> Spectrum:
        scaling = self.scaling
        return decompose_moments(
            products, square, centre=scaling.centre, zscore=scaling.zscore, leading=scaling.leading
        )


def find_interval(
    metric: Metric, fitted: SubspaceMetric, comparison: Comparison, cell: Cell, level: float
) -> ConfidenceInterval | Reason:
    """Find the interval of a layer pair: of the held-out value if the metric has one, else by the block jackknife."""
    held_out = fitted.held_out
    if held_out is None:
        values = np.array(list(_leave_blocks_out(fitted, comparison, cell)))
    else:
        values = np.array(list(_hold_out(fitted, held_out, comparison, cell)))
    if np.isnan(values).any():
        return Reason(
            code="too-few-rows",
            detail=f"Some parts of the {comparison.n} rows are too small for a fit, or for the score of the held-out rows.",
        )
    if held_out is not None:
        # A held-out correlation can be negative even if the score itself cannot.
        low = metric.low if metric.score_direction == "distance" else None
        return held_out_interval(float(values.mean()), values, FOLDS, level, (low, metric.high))
    value = fitted.value(*fitted.factors(comparison, cell), None)
    return block_jackknife_interval(value, values, level, (metric.low, metric.high))


@dataclass(frozen=True)
class _FoldFit:
    """A fit without one fold, and a function for the sums of that fold's rows along the fitted directions."""

    fit: Fit
    project: Callable[[ScaledDirections, ScaledDirections], PairSums]


def _hold_out(fitted: SubspaceMetric, held_out: HeldOutScore, comparison: Comparison, cell: Cell) -> Iterator[float]:
    """Yield the held-out value of each fold, NaN if it is undefined."""
    find = _fit_sums if comparison.is_streamed(cell) else _fit_rows
    for fold in find(fitted, comparison, cell):
        yield nan if fold is None else held_out(*fold.fit, fold.project(*fold.fit))


def _fit_rows(fitted: SubspaceMetric, comparison: Comparison, cell: Cell) -> Iterator[_FoldFit | None]:
    """Fit the rows without each fold, in memory."""
    a, b = comparison.a.rows.array(cell[0]), comparison.b.rows.array(cell[1])
    splits = list(split_folds(comparison.n, comparison.seed, comparison.groups))
    for done, (train, test) in enumerate(splits):
        comparison.report("held-out", done, len(splits))
        fit = fitted.fit_pair(a[train], b[train])

        def project(x: ScaledDirections, y: ScaledDirections, test: Permutation = test) -> PairSums:
            return sum_rows(x.project(a[test]), y.project(b[test]))

        yield None if fit is None or len(test) < _SCORED_MIN else _FoldFit(fit, project)


def _fit_sums(fitted: SubspaceMetric, comparison: Comparison, cell: Cell) -> Iterator[_FoldFit | None]:
    """Fit the sums without each fold, from one streamed pass for each random assignment to folds."""
    assignments = assign_folds_repeatedly(comparison.n, comparison.seed, comparison.groups)
    for repeat, assigned in enumerate(assignments):
        folds = _find_sums(comparison, cell, assigned, _progress(comparison, "held-out", repeat, REPEATS))
        for number in range(FOLDS):
            if number >= len(folds) or folds[number].n < _SCORED_MIN:
                yield None
                continue
            fit = _fit_without(fitted, folds, number)

            def project(x: ScaledDirections, y: ScaledDirections, sums: PairSums = folds[number]) -> PairSums:
                return project_sums(sums, (x.mean, x.mapping), (y.mean, y.mapping))

            yield None if fit is None else _FoldFit(fit, project)


def _leave_blocks_out(fitted: SubspaceMetric, comparison: Comparison, cell: Cell) -> Iterator[float]:
    """Yield the value without each block of rows, NaN if it is undefined."""
    n, seed, groups = comparison.n, comparison.seed, comparison.groups
    if comparison.is_streamed(cell):
        progress = _progress(comparison, "block-jackknife", 0, 1)
        blocks = _find_sums(comparison, cell, assign_blocks(n, seed, groups), progress)
        fits: Iterator[Fit | None] = (_fit_without(fitted, blocks, number) for number in range(len(blocks)))
    else:
        fits = _fit_kept_rows(fitted, comparison, cell)
    for fit in fits:
        yield nan if fit is None else fitted.value(*fit, None)


def _fit_kept_rows(fitted: SubspaceMetric, comparison: Comparison, cell: Cell) -> Iterator[Fit | None]:
    a, b = comparison.a.rows.array(cell[0]), comparison.b.rows.array(cell[1])
    for done, kept in enumerate(leave_blocks_out(comparison.n, comparison.seed, comparison.groups)):
        comparison.report("block-jackknife", done, BLOCKS)
        yield fitted.fit_pair(a[kept], b[kept])


def _find_sums(comparison: Comparison, cell: Cell, assigned: IdArray, progress: RowProgress) -> list[PairSums]:
    """Return the sums of each part of the rows, from one streamed pass over both layers."""
    x, y = comparison.a.centred(cell[0]), comparison.b.centred(cell[1])
    return list(find_fold_sums(x, y, assigned, executor=comparison.executor, progress=progress))


def _fit_without(fitted: SubspaceMetric, parts: list[PairSums], left_out: int) -> Fit | None:
    """Fit the sums of all parts but one."""
    sums = add_sums([part for number, part in enumerate(parts) if number != left_out])
    return fitted.fit_pair(SumsLayer(sums, first=True), SumsLayer(sums, first=False))


def _progress(comparison: Comparison, stage: str, done: int, total: int) -> RowProgress:
    return lambda rows, n: comparison.report(stage, done * n + rows, total * n)


def measure_fit(metric: Metric, fitted: SubspaceMetric, comparison: Comparison) -> Measurement:
    """Measure every layer pair by a metric of fitted directions."""
    _stream_pairs(comparison)
    reasons = find_reasons(comparison, partial(_layer_reason, fitted))
    cells = [cell for cell in np.ndindex(*comparison.shape) if cell not in reasons]

    def fill(permutation: Permutation | None, stage: str | None) -> Float64Array:
        grid = np.full(comparison.shape, np.nan)
        for done, cell in enumerate(cells):
            if stage is not None:
                comparison.report(stage, done, len(cells))
            grid[cell] = fitted.value(*fitted.factors(comparison, cell), permutation)
        return grid

    def null(i: int, j: int) -> ClosedFormNull:
        if fitted.null is None:
            raise AssertionError(f"{metric.metric} declares a closed-form null and has none.")
        return fitted.null(*fitted.factors(comparison, (i, j)))

    return Measurement(
        grid=fill(None, metric.metric),
        reasons=reasons,
        null=null,
        permuted=lambda permutation: fill(permutation, None),
        interval=lambda i, j, level: find_interval(metric, fitted, comparison, (i, j), level),
        warnings=_find_warnings(fitted, comparison, cells),
    )


def _stream_pairs(comparison: Comparison) -> None:
    """Read the pairs of streamed layers once: every metric of fitted directions uses the moments."""
    cells = list(np.ndindex(*comparison.shape))
    for done, (i, j) in enumerate(cells):
        if comparison.is_streamed((i, j)):
            progress = _progress(comparison, "moments", done, len(cells))
            comparison.a.streamed(i).load_cross(comparison.b.streamed(j), progress)


def _layer_reason(fitted: SubspaceMetric, side: PreparedSide, index: int) -> Reason | None:
    reason = side.reason(index)
    if reason is not None:
        return reason
    factor, name = fitted.factor(side, index), side.layers[index].name
    if factor.rank == 0:
        return Reason(code="constant-rows", detail=f"The rows of layer {name} differ by rounding alone.")
    if not fitted.is_saturated(factor):
        return None
    return Reason(
        code="not-enough-rows",
        detail=f"Layer {name} has {factor.rank} directions, the maximum for {factor.n} rows: the value would be the same for "
        "every pairing. Give more rows than dimensions, or use svcca, procrustes or cka.",
    )


def _find_warnings(fitted: SubspaceMetric, comparison: Comparison, cells: Collection[Cell]) -> tuple[str, ...]:
    """Warn of overstated fits, and of directions that two spaces share because they have more dimensions than rows."""
    if fitted.held_out is None or not cells:
        return ()
    if fitted.rank_slack is None:
        return (FIT_WARNING,)
    ranks = (sum(factor.rank for factor in fitted.factors(comparison, cell)) for cell in cells)
    excess = max(ranks) - (comparison.n - fitted.rank_slack)
    if excess <= 0:
        return (FIT_WARNING,)
    return (
        FIT_WARNING,
        f"With {comparison.n} rows, two layers share {excess} directions for every pairing: there are too many dimensions.",
    )


_WHITE = Scaling("white")
_UNIT = Scaling("shape", (1.0,))
_unit_shape = partial(shapes.unit_shape, alpha=1.0)


def measure_cca_mean(metric: CcaMean, comparison: Comparison) -> Measurement:
    """Measure the mean canonical correlation of every layer pair."""
    fitted = SubspaceMetric(_WHITE, scale_directions, cca.cca_mean, cca.held_out_cca_mean, rank_slack=1)
    return measure_fit(metric, fitted, comparison)


def measure_cca_r2(metric: CcaR2, comparison: Comparison) -> Measurement:
    """Measure the mean squared canonical correlation of every layer pair."""
    fitted = SubspaceMetric(_WHITE, scale_directions, cca.cca_r2, cca.held_out_cca_r2, cca.cca_r2_null, rank_slack=1)
    return measure_fit(metric, fitted, comparison)


def measure_svcca(metric: Svcca, comparison: Comparison) -> Measurement:
    """Measure the mean canonical correlation of the leading components of every layer pair."""
    scaling = Scaling("leading", (metric.variance,), zscore=metric.scaling == "zscore", leading=metric.components)
    scale = partial(cca.leading_components, components=metric.components, variance=metric.variance)
    fitted = SubspaceMetric(scaling, scale, cca.cca_mean, cca.held_out_cca_mean, rank_slack=1)
    return measure_fit(metric, fitted, comparison)


def measure_pwcca(metric: Pwcca, comparison: Comparison) -> Measurement:
    """Measure the projection-weighted canonical correlation of every layer pair."""
    fitted = SubspaceMetric(_WHITE, scale_directions, cca.pwcca, cca.held_out_pwcca, rank_slack=1)
    return measure_fit(metric, fitted, comparison)


def measure_eigenspace_overlap(metric: EigenspaceOverlap, comparison: Comparison) -> Measurement:
    """Measure the overlap of the column spaces of every layer pair."""
    fitted = SubspaceMetric(
        Scaling("columns", centre=False),
        scale_directions,
        cca.eigenspace_overlap,
        held_out=None,
        null=cca.eigenspace_null,
        rank_slack=0,
    )
    return measure_fit(metric, fitted, comparison)


def measure_procrustes(metric: ProcrustesSimilarity, comparison: Comparison) -> Measurement:
    """Measure the cosine after the best rotation of every layer pair."""
    fitted = SubspaceMetric(_UNIT, _unit_shape, shapes.procrustes, cca.held_out_cosine)
    return measure_fit(metric, fitted, comparison)


def measure_angular_shape(metric: AngularShape, comparison: Comparison) -> Measurement:
    """Measure the angle after the best rotation of every layer pair."""
    fitted = SubspaceMetric(
        Scaling("shape", (metric.alpha,)),
        partial(shapes.unit_shape, alpha=metric.alpha),
        shapes.angular_shape,
        cca.held_out_angle,
        rank_slack=1 if metric.alpha == 0 else None,
    )
    return measure_fit(metric, fitted, comparison)


def measure_bures(metric: Bures, comparison: Comparison) -> Measurement:
    """Measure the distance after the best rotation of every layer pair."""
    return measure_fit(metric, SubspaceMetric(_UNIT, _unit_shape, shapes.bures, cca.held_out_bures), comparison)


def measure_gulp(metric: Gulp, comparison: Comparison) -> Measurement:
    """Measure the distance of ridge predictions of every layer pair."""
    fitted = SubspaceMetric(
        Scaling("ridge", (metric.ridge,)),
        partial(shapes.ridge_shape, ridge=metric.ridge),
        shapes.gulp,
        held_out=None,
        rank_slack=1 if metric.ridge == 0 else None,
    )
    return measure_fit(metric, fitted, comparison)
