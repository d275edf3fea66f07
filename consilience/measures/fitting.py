"""The one way in which metrics of fitted directions are measured: a factor a layer, one small matrix a layer pair."""

from collections.abc import Collection
from functools import partial

import numpy as np

from consilience.contract.metric import Metric
from consilience.contract.scores import Reason
from consilience.measures.comparison import Comparison, Side
from consilience.measures.measurement import Measurement, find_reasons
from consilience.measures.recipe import Recipe
from consilience.measures.refitting import Cell, find_bounds
from consilience.numerics.arrays import Float64Array
from consilience.numerics.nulls import Law
from consilience.numerics.permutations import Permutation

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

    def law(i: int, j: int) -> Law:
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

            a.streamed(i).meet(b.streamed(j), step)


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
