"""Verified bfloat16 search by the tasks of an executor, which read their rows: the same result, without a layer in memory.

The rows are read once to measure them, by pairs of stripes to find candidates, and by blocks for the tie-break.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from consilience.numerics.knn.accelerated.bfloat16 import (
    CENTRE_ROWS,
    allocate_bits,
    count_bfloat16_candidates,
    describe_rounding,
    multiply_rounded,
    round_rows,
)
from consilience.numerics.knn.symmetric import Pair, PartialGraph, Stripes, TileCandidates, is_diagonal, merge_keys
from consilience.numerics.knn.tie_break import DecidedNeighbours, RoundedRows, break_ties_by_blocks, read_similarities
from consilience.numerics.knn.tile_kernels import NO_KEY, KeyArray
from consilience.numerics.rows.arrays import BoolArray, Float32Array, Float64Array, IdArray
from consilience.numerics.rows.parallel import Executor, block_rows, map_rows, split_rows
from consilience.numerics.rows.prepared import Rows


@dataclass(frozen=True)
class _MeasureTask:
    """Task: measure some rows."""

    rows: Rows
    span: slice
    centre: Float64Array


@dataclass(frozen=True)
class _MultiplyTask:
    """Task: multiply some tiles, given the shift of every row and the limit that its candidates must reach.

    A pickled task contains only the shifts and limits of the rows of its stripes (`alone`).
    """

    rows: Rows
    pairs: Sequence[Pair]
    centre: Float64Array
    shifts: Float32Array
    limits: Float32Array
    kept: int
    groups: IdArray | None
    alone: bool = False

    def known(self, items: IdArray) -> tuple[Float32Array, Float32Array]:
        """Return the shifts and limits of the rows of its stripes."""
        return (self.shifts, self.limits) if self.alone else (self.shifts[items], self.limits[items])

    def __reduce__(self) -> tuple[type["_MultiplyTask"], tuple[object, ...]]:
        """Pickle only the shifts and limits of the rows of its stripes."""
        known = self.known(Stripes.of(self.pairs, self.rows.n).items)
        return _MultiplyTask, (self.rows, self.pairs, self.centre, *known, self.kept, self.groups, True)


def search_verified(
    rows: Rows,
    k: int,
    groups: IdArray | None,
    *,
    tiles_of_tasks: Sequence[Sequence[Pair]],
    executor: Executor,
    report: Callable[[int], None],
) -> tuple[DecidedNeighbours, BoolArray]:
    """Find the neighbours of all rows and the verified rows.

    Parameters
    ----------
    rows : access to the n rows, scaled so that their products stay in float32
    tiles_of_tasks : tiles of each task, together all tiles
    report : called with the number of rows that corresponds to the tiles done

    Returns
    -------
    DecidedNeighbours of all rows; array of shape (n,): unverified rows have candidates only
    """
    n, kept = rows.n, count_bfloat16_candidates(k, rows.n)
    centre = rows.take(np.arange(0, n, max(1, n // CENTRE_ROWS))).mean(axis=0, dtype=np.float64)
    rounded = _measure(rows, centre, executor)
    shifts, best = rounded.shifts.astype(np.float32), np.full((n, kept), NO_KEY)
    done, total = 0, sum(map(len, tiles_of_tasks))
    # Candidates from a row's own stripe set the limit for all other tiles, so that most of their values are skipped.
    for batch in ([pairs for pairs in tiles_of_tasks if is_diagonal(pairs) == first] for first in (True, False)):
        limits = _find_limits(best)
        tiles = [_MultiplyTask(rows, pairs, centre, shifts, limits, kept, groups) for pairs in batch]
        for pairs, found in zip(batch, executor.map(_multiply, tiles), strict=True):
            merge_keys([found], best)
            done += len(pairs)
            report(n * done // total)
    return break_ties_by_blocks(rows, best, rounded, k, executor)


def _find_limits(best: KeyArray) -> Float32Array:
    """Return the similarity of every row's last candidate, minus infinity if its list is not full."""
    last = read_similarities(best[:, -1:])[:, 0]
    return np.where(best[:, -1] == NO_KEY, np.float32(-np.inf), last)


def _measure(rows: Rows, centre: Float64Array, executor: Executor) -> RoundedRows:
    """Measure the rounded rows without keeping them."""
    spans = [_MeasureTask(rows, span, centre) for span in split_rows(rows.n, rows.dim)]
    measures = np.concatenate(list(executor.map(_measure_span, spans)), axis=1)
    width = allocate_bits(0, rows.dim).shape[1]
    return describe_rounding(np.empty((0, width), np.uint16), measures, centre, rows.dim)


def _measure_span(task: _MeasureTask) -> Float64Array:
    found = []
    for start in range(task.span.start, task.span.stop, block_rows(task.rows.dim)):
        block = task.rows.read(start, min(start + block_rows(task.rows.dim), task.span.stop))
        found.append(_round(block, task.centre, allocate_bits(*block.shape)))
    return np.concatenate(found, axis=1)


def _round(block: Float32Array, centre: Float64Array, bits: np.ndarray) -> Float64Array:
    measures = np.empty((4, len(block)))
    map_rows(lambda span: round_rows(block, centre, span.start, span.stop, bits, measures), *block.shape)
    return measures


def _multiply(task: _MultiplyTask) -> PartialGraph:
    n, dim = task.rows.n, task.rows.dim
    stripes = Stripes.of(task.pairs, n)
    owner = np.arange(n, dtype=np.int32) if task.groups is None else task.groups
    found = TileCandidates(stripes.items, owner, task.kept)
    rows = slice(len(stripes.items))
    found.shifts[rows], found.limits[rows] = task.known(stripes.items)
    bits = allocate_bits(len(stripes.items), dim)
    for (start, stop), (first, last) in zip(stripes.spans, pairwise(stripes.edges), strict=True):
        _round(task.rows.read(start, stop), task.centre, bits[first:last])
    multiply_rounded(bits, stripes.edges, stripes.pairs, found, lambda _: None)
    return PartialGraph(stripes.items, np.ascontiguousarray(found.best()))
