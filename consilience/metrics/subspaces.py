"""Each metric of fitted directions, as a recipe: how a layer is weighed, what two layers have in common."""

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
from consilience.metrics.comparison import Comparison, Side
from consilience.metrics.measurement import Measurement, find_reasons
from consilience.numerics.rows.arrays import Float32Array, Float64Array
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

#: The score of other rows, paired, of two layers under a fit; from their sums along the fitted directions.
HeldOut = Callable[[ScaledDirections, ScaledDirections, PairSums], float]


@dataclass(frozen=True)
class Recipe:
    """How a metric weighs a layer and compares two of them.

    Attributes
    ----------
    kind : tells factors apart, with every option that they depend on
    weigh : a layer's factor from its spectrum
    value : the score of two factors, with b's rows permuted where asked
    held_out : the score of other rows under a fit; None: the interval is that of the block jackknife
    law : the closed-form null, where there is one
    centre, zscore, leading : how the spectrum is taken, and how many of its directions where not all are needed
    spare : a layer of rank n - spare or more makes the value the same whatever the pairing; None where no rank does
    """

    kind: str
    weigh: Callable[[Spectrum], ScaledDirections]
    value: Callable[[ScaledDirections, ScaledDirections, Permutation | None], float]
    held_out: HeldOut | None
    law: Callable[[ScaledDirections, ScaledDirections], ClosedFormNull] | None = None
    centre: bool = True
    zscore: bool = False
    leading: int | None = None
    spare: int | None = None

    def find_factor(self, side: Side, index: int) -> ScaledDirections:
        """A layer's factor; metrics that weigh layers alike share it, and all share the spectrum."""
        spectrum = f"spectrum centre={self.centre} zscore={self.zscore} leading={self.leading}"

        def find() -> ScaledDirections:
            return self.weigh(side.keep(index, spectrum, lambda: self._find_spectrum(side, index)))

        return side.keep(index, f"factor {self.kind}", find)

    def fit(self, rows: Float32Array | SumsLayer) -> ScaledDirections | None:
        """The factor of some of a layer's rows, or of their sums; None where it leaves the value undefined."""
        if isinstance(rows, SumsLayer):
            factor = self.weigh(self._decompose_moments(rows, rows.square))
        else:
            factor = self.weigh(self._decompose(rows))
        return None if factor.rank == 0 or self.fills(factor) else factor

    def _find_spectrum(self, side: Side, index: int) -> Spectrum:
        if not side.streams(index):
            return self._decompose(side.rows(index))
        layer = side.streamed(index)
        return self._decompose_moments(layer, layer.own.square)

    def _decompose(self, rows: Float32Array) -> Spectrum:
        return find_spectrum(rows, centre=self.centre, zscore=self.zscore, leading=self.leading)

    def _decompose_moments(self, products: CrossProductSource, square: FloatArray) -> Spectrum:
        return decompose_moments(products, square, centre=self.centre, zscore=self.zscore, leading=self.leading)

    def fills(self, factor: ScaledDirections) -> bool:
        """Whether a layer spans all that its rows have room for, where that settles the value."""
        return self.spare is not None and factor.rank >= factor.n - self.spare


#: Rows that a held-out part must have: two always correlate wholly.
_SCORED_MIN = 3

Cell = tuple[int, int]


def find_bounds(
    metric: Metric, recipe: Recipe, comparison: Comparison, cell: Cell, level: float
) -> ConfidenceInterval | Reason:
    """Find the interval of a layer pair: of the held-out value where the recipe has one, else by the block jackknife."""
    held_out = recipe.held_out
    found = _jackknife(recipe, comparison, cell) if held_out is None else _hold_out(recipe, held_out, comparison, cell)
    values = np.array(list(found))
    if np.isnan(values).any():
        return Reason(
            code="too-few-rows",
            detail=f"Parts of the {comparison.n} rows are too few for a fit, or for the rows that it is scored on.",
        )
    if held_out is not None:
        # A held-out correlation can be below 0, where the score itself cannot.
        low = metric.low if metric.score_direction == "distance" else None
        return held_out_interval(float(values.mean()), values, FOLDS, level, (low, metric.high))
    value = recipe.value(recipe.find_factor(comparison.a, cell[0]), recipe.find_factor(comparison.b, cell[1]), None)
    return block_jackknife_interval(value, values, level, (metric.low, metric.high))


def _hold_out(recipe: Recipe, held_out: HeldOut, comparison: Comparison, cell: Cell) -> Iterator[float]:
    """The held-out value of each split, NaN where a split leaves it undefined."""
    if streams(comparison, cell):
        yield from _hold_out_sums(recipe, held_out, comparison, cell)
        return
    a, b = comparison.a.rows(cell[0]), comparison.b.rows(cell[1])
    splits = list(split_folds(comparison.n, comparison.seed, comparison.groups))
    for done, (fitted, scored) in enumerate(splits):
        comparison.report("held-out", done, len(splits))
        side_a, side_b = recipe.fit(a[fitted]), recipe.fit(b[fitted])
        if side_a is None or side_b is None or len(scored) < _SCORED_MIN:
            yield nan
        else:
            yield held_out(side_a, side_b, sum_rows(side_a.project(a[scored]), side_b.project(b[scored])))


def _hold_out_sums(recipe: Recipe, held_out: HeldOut, comparison: Comparison, cell: Cell) -> Iterator[float]:
    """The same from sums over the parts: one pass for each of the two dealings, whatever the parts."""
    rows = comparison.a.centred(cell[0]), comparison.b.centred(cell[1])
    for repeat, dealt in enumerate(assign_folds_repeatedly(comparison.n, comparison.seed, comparison.groups)):
        parts = find_fold_sums(
            *rows, dealt, parts=comparison.a.parts, progress=_report(comparison, "held-out", repeat, REPEATS)
        )
        for held in range(FOLDS):
            if held >= len(parts) or parts[held].n < _SCORED_MIN:
                yield nan
                continue
            fits = _fit(recipe, add_sums([part for place, part in enumerate(parts) if place != held]))
            if fits is None:
                yield nan
            else:
                mappings = ((fit.mean, fit.mapping) for fit in fits)
                yield held_out(*fits, project_sums(parts[held], *mappings))


def _jackknife(recipe: Recipe, comparison: Comparison, cell: Cell) -> Iterator[float]:
    """The value without each block of rows, NaN where it is undefined."""
    n, seed, groups = comparison.n, comparison.seed, comparison.groups
    if streams(comparison, cell):
        rows = comparison.a.centred(cell[0]), comparison.b.centred(cell[1])
        parts = find_fold_sums(
            *rows,
            assign_blocks(n, seed, groups),
            parts=comparison.a.parts,
            progress=_report(comparison, "block-jackknife", 0, 1),
        )
        for left_out in range(len(parts)):
            fits = _fit(recipe, add_sums([part for place, part in enumerate(parts) if place != left_out]))
            yield nan if fits is None else recipe.value(*fits, None)
        return
    a, b = comparison.a.rows(cell[0]), comparison.b.rows(cell[1])
    for done, kept in enumerate(leave_blocks_out(n, seed, groups)):
        comparison.report("block-jackknife", done, BLOCKS)
        side_a, side_b = recipe.fit(a[kept]), recipe.fit(b[kept])
        yield nan if side_a is None or side_b is None else recipe.value(side_a, side_b, None)


def _fit(recipe: Recipe, sums: PairSums) -> tuple[ScaledDirections, ScaledDirections] | None:
    """Both layers' factors of the rows that are in the sums."""
    a, b = recipe.fit(SumsLayer(sums, first=True)), recipe.fit(SumsLayer(sums, first=False))
    return None if a is None or b is None else (a, b)


def streams(comparison: Comparison, cell: Cell) -> bool:
    """Whether a pair of layers is read by blocks."""
    return comparison.a.streams(cell[0]) and comparison.b.streams(cell[1])


def _report(comparison: Comparison, stage: str, done: int, total: int) -> RowProgress:
    return lambda rows, n: comparison.report(stage, done * n + rows, total * n)


FITTED = (
    "Directions are fitted and scored on the same rows, which overstates the agreement; an interval is that of the held-out "
    "value (fitted on four fifths of the rows, scored on the others) and need not hold the score."
)


def measure_fit(metric: Metric, recipe: Recipe, comparison: Comparison) -> Measurement:
    """Measure every layer pair by a recipe."""
    _read_pairs(comparison)
    reasons = find_reasons(comparison, partial(_layer_reason, recipe))
    a, b = comparison.a, comparison.b
    shape = (len(a.layers), len(b.layers))
    cells = [cell for cell in np.ndindex(*shape) if cell not in reasons]

    def fill(permutation: Permutation | None, stage: str | None) -> Float64Array:
        grid = np.full(shape, np.nan)
        for done, (i, j) in enumerate(cells):
            if stage is not None:
                comparison.report(stage, done, len(cells))
            grid[i, j] = recipe.value(recipe.find_factor(a, i), recipe.find_factor(b, j), permutation)
        return grid

    def law(i: int, j: int) -> ClosedFormNull:
        if recipe.law is None:
            raise AssertionError(f"{metric.metric} declares a closed-form null and has none")
        return recipe.law(recipe.find_factor(a, i), recipe.find_factor(b, j))

    return Measurement(
        grid=fill(None, metric.metric),
        reasons=reasons,
        law=law,
        permuted=lambda permutation: fill(permutation, None),
        bounds=lambda i, j, level: find_bounds(metric, recipe, comparison, (i, j), level),
        warnings=_find_warnings(recipe, comparison, cells),
    )


def _read_pairs(comparison: Comparison) -> None:
    """Go over the pairs of layers that are read by blocks: every metric of fitted directions shares what it finds."""
    a, b = comparison.a, comparison.b
    cells = list(np.ndindex(len(a.layers), len(b.layers)))
    for done, (i, j) in enumerate(cells):
        if a.streams(i) and b.streams(j):

            def step(rows: int, n: int, before: int = done) -> None:
                comparison.report("moments", before * n + rows, len(cells) * n)

            a.streamed(i).load_cross(b.streamed(j), step)


def _layer_reason(recipe: Recipe, side: Side, index: int) -> Reason | None:
    reason = side.reason(index)
    if reason is not None:
        return reason
    factor, name = recipe.find_factor(side, index), side.layers[index].name
    if factor.rank == 0:
        return Reason(code="constant-rows", detail=f"Rows of layer {name} differ by rounding alone.")
    if not recipe.fills(factor):
        return None
    return Reason(
        code="not-enough-rows",
        detail=f"Layer {name} has {factor.rank} directions, all that {factor.n} rows have room for: the value would be the "
        "same whatever the pairing. Give more rows than dimensions, or use svcca, procrustes or cka.",
    )


def _find_warnings(recipe: Recipe, comparison: Comparison, cells: Collection[Cell]) -> tuple[str, ...]:
    """Say what a fit overstates, and where two spaces must share directions because they outnumber the rows."""
    if recipe.held_out is None or not cells:
        return ()
    if recipe.spare is None:
        return (FITTED,)
    a, b = comparison.a, comparison.b
    ranks = (recipe.find_factor(a, i).rank + recipe.find_factor(b, j).rank for i, j in cells)
    excess = max(ranks) - (comparison.n - recipe.spare)
    if excess <= 0:
        return (FITTED,)
    return (
        FITTED,
        f"With {comparison.n} rows, two layers share {excess} directions whatever the pairing: too many dimensions.",
    )


def measure_cca_mean(metric: CcaMean, comparison: Comparison) -> Measurement:
    """Measure the mean canonical correlation of every layer pair."""
    return measure_fit(
        metric, Recipe("white", scale_directions, cca.cca_mean, cca.held_out_cca_mean, spare=1), comparison
    )


def measure_cca_r2(metric: CcaR2, comparison: Comparison) -> Measurement:
    """Measure the mean squared canonical correlation of every layer pair."""
    recipe = Recipe("white", scale_directions, cca.cca_r2, cca.held_out_cca_r2, cca.cca_r2_null, spare=1)
    return measure_fit(metric, recipe, comparison)


def measure_svcca(metric: Svcca, comparison: Comparison) -> Measurement:
    """Measure the mean canonical correlation of the leading components of every layer pair."""
    recipe = Recipe(
        f"leading {metric.components} {metric.variance} {metric.scaling}",
        partial(cca.leading_components, components=metric.components, variance=metric.variance),
        cca.cca_mean,
        cca.held_out_cca_mean,
        zscore=metric.scaling == "zscore",
        leading=metric.components,
        spare=1,
    )
    return measure_fit(metric, recipe, comparison)


def measure_pwcca(metric: Pwcca, comparison: Comparison) -> Measurement:
    """Measure the projection-weighted canonical correlation of every layer pair."""
    return measure_fit(metric, Recipe("white", scale_directions, cca.pwcca, cca.held_out_pwcca, spare=1), comparison)


def measure_eigenspace_overlap(metric: EigenspaceOverlap, comparison: Comparison) -> Measurement:
    """Measure the overlap of the column spaces of every layer pair."""
    value, law = cca.eigenspace_overlap, cca.eigenspace_null
    return measure_fit(metric, Recipe("columns", scale_directions, value, None, law, centre=False, spare=0), comparison)


def measure_procrustes(metric: ProcrustesSimilarity, comparison: Comparison) -> Measurement:
    """Measure the cosine after the best rotation of every layer pair."""
    return measure_fit(metric, Recipe("shape 1.0", _rotated, shapes.procrustes, cca.held_out_cosine), comparison)


def measure_angular_shape(metric: AngularShape, comparison: Comparison) -> Measurement:
    """Measure the angle after the best rotation of every layer pair."""
    recipe = Recipe(
        f"shape {metric.alpha}",
        partial(shapes.unit_shape, alpha=metric.alpha),
        shapes.angular_shape,
        cca.held_out_angle,
        spare=1 if metric.alpha == 0 else None,
    )
    return measure_fit(metric, recipe, comparison)


def measure_bures(metric: Bures, comparison: Comparison) -> Measurement:
    """Measure the distance after the best rotation of every layer pair."""
    return measure_fit(metric, Recipe("shape 1.0", _rotated, shapes.bures, cca.held_out_bures), comparison)


def measure_gulp(metric: Gulp, comparison: Comparison) -> Measurement:
    """Measure the distance of ridge predictions of every layer pair."""
    recipe = Recipe(
        f"ridge {metric.ridge}",
        partial(shapes.ridge_shape, ridge=metric.ridge),
        shapes.gulp,
        None,
        spare=1 if metric.ridge == 0 else None,
    )
    return measure_fit(metric, recipe, comparison)


_rotated = partial(shapes.unit_shape, alpha=1.0)
