"""Population intervals of metrics of fitted directions: everything is fitted again on parts of the rows."""

from collections.abc import Iterator
from math import nan

import numpy as np

from consilience.contract.metric import Metric
from consilience.contract.scores import Reason
from consilience.measures.comparison import Comparison
from consilience.measures.recipe import HeldOut, Recipe
from consilience.numerics.intervals import Bounds
from consilience.numerics.resampling import BLOCKS, PARTS, block_jackknife_bounds, held_out_bounds, leave_out, split

#: Rows that a held-out part must have: two always correlate wholly.
_SCORED_MIN = 3

Cell = tuple[int, int]


def find_bounds(metric: Metric, recipe: Recipe, comparison: Comparison, cell: Cell, level: float) -> Bounds | Reason:
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
        return held_out_bounds(float(values.mean()), values, PARTS, level, (low, metric.high))
    value = recipe.value(recipe.find_factor(comparison.a, cell[0]), recipe.find_factor(comparison.b, cell[1]), None)
    return block_jackknife_bounds(value, values, level, (metric.low, metric.high))


def _hold_out(recipe: Recipe, held_out: HeldOut, comparison: Comparison, cell: Cell) -> Iterator[float]:
    """The held-out value of each split, NaN where a split leaves it undefined."""
    a, b = comparison.a.rows(cell[0]), comparison.b.rows(cell[1])
    splits = list(split(comparison.n, comparison.seed, comparison.groups))
    for done, (fitted, scored) in enumerate(splits):
        comparison.report("held-out", done, len(splits))
        side_a, side_b = recipe.fit(a[fitted]), recipe.fit(b[fitted])
        if side_a is None or side_b is None or len(scored) < _SCORED_MIN:
            yield nan
        else:
            yield held_out(side_a, side_b, a[scored], b[scored])


def _jackknife(recipe: Recipe, comparison: Comparison, cell: Cell) -> Iterator[float]:
    """The value without each block of rows, NaN where it is undefined."""
    a, b = comparison.a.rows(cell[0]), comparison.b.rows(cell[1])
    for done, kept in enumerate(leave_out(comparison.n, comparison.seed, comparison.groups)):
        comparison.report("block-jackknife", done, BLOCKS)
        side_a, side_b = recipe.fit(a[kept]), recipe.fit(b[kept])
        yield nan if side_a is None or side_b is None else recipe.value(side_a, side_b, None)
