"""Population intervals of metrics of fitted directions: everything is fitted again on parts of the rows."""

from collections.abc import Iterator
from math import nan

import numpy as np

from consilience.contract.metric import Metric
from consilience.contract.scores import Reason
from consilience.measures.comparison import Comparison
from consilience.measures.recipe import HeldOut, Recipe
from consilience.numerics.dealt_moments import Sums, add, find_dealt, project, sum_rows
from consilience.numerics.intervals import Bounds
from consilience.numerics.moments import Step
from consilience.numerics.resampling import (
    BLOCKS,
    PARTS,
    REPEATS,
    block_jackknife_bounds,
    deal_blocks,
    deal_repeatedly,
    held_out_bounds,
    leave_out,
    split,
)
from consilience.numerics.spectra import Factor
from consilience.numerics.streamed_layers import SumsLayer

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
    if streams(comparison, cell):
        yield from _hold_out_sums(recipe, held_out, comparison, cell)
        return
    a, b = comparison.a.rows(cell[0]), comparison.b.rows(cell[1])
    splits = list(split(comparison.n, comparison.seed, comparison.groups))
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
    for repeat, dealt in enumerate(deal_repeatedly(comparison.n, comparison.seed, comparison.groups)):
        parts = find_dealt(
            *rows, dealt, parts=comparison.a.parts, step=_report(comparison, "held-out", repeat, REPEATS)
        )
        for held in range(PARTS):
            if held >= len(parts) or parts[held].n < _SCORED_MIN:
                yield nan
                continue
            fits = _fit(recipe, add([part for place, part in enumerate(parts) if place != held]))
            if fits is None:
                yield nan
            else:
                mappings = ((fit.mean, fit.mapping) for fit in fits)
                yield held_out(*fits, project(parts[held], *mappings))


def _jackknife(recipe: Recipe, comparison: Comparison, cell: Cell) -> Iterator[float]:
    """The value without each block of rows, NaN where it is undefined."""
    n, seed, groups = comparison.n, comparison.seed, comparison.groups
    if streams(comparison, cell):
        rows = comparison.a.centred(cell[0]), comparison.b.centred(cell[1])
        parts = find_dealt(
            *rows,
            deal_blocks(n, seed, groups),
            parts=comparison.a.parts,
            step=_report(comparison, "block-jackknife", 0, 1),
        )
        for left_out in range(len(parts)):
            fits = _fit(recipe, add([part for place, part in enumerate(parts) if place != left_out]))
            yield nan if fits is None else recipe.value(*fits, None)
        return
    a, b = comparison.a.rows(cell[0]), comparison.b.rows(cell[1])
    for done, kept in enumerate(leave_out(n, seed, groups)):
        comparison.report("block-jackknife", done, BLOCKS)
        side_a, side_b = recipe.fit(a[kept]), recipe.fit(b[kept])
        yield nan if side_a is None or side_b is None else recipe.value(side_a, side_b, None)


def _fit(recipe: Recipe, sums: Sums) -> tuple[Factor, Factor] | None:
    """Both layers' factors of the rows that are in the sums."""
    a, b = recipe.fit(SumsLayer(sums, first=True)), recipe.fit(SumsLayer(sums, first=False))
    return None if a is None or b is None else (a, b)


def streams(comparison: Comparison, cell: Cell) -> bool:
    """Whether a pair of layers is read by blocks."""
    return comparison.a.streams(cell[0]) and comparison.b.streams(cell[1])


def _report(comparison: Comparison, stage: str, done: int, total: int) -> Step:
    return lambda rows, n: comparison.report(stage, done * n + rows, total * n)
