"""The search in bfloat16 in parts whose rows are read for them: what `certified.build_certified` finds, and no layer is held.

Rows are gone through to measure them, by pairs of stripes to find candidates, and by blocks to decide among these.
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
class _Span:
    """Some rows to be measured."""

    rows: Rows
    span: slice
    centre: Float64Array


@dataclass(frozen=True)
class _Tiles:
    """Some tiles to be multiplied, and what is known of every row: its shift, and what a candidate must reach.

    Sent elsewhere, that is of the rows of its stripes alone.
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
        """Shifts and limits of the rows of its stripes."""
        return (self.shifts, self.limits) if self.alone else (self.shifts[items], self.limits[items])

    def __reduce__(self) -> tuple[type["_Tiles"], tuple[object, ...]]:
        """What is pickled."""
        known = self.known(Stripes.of(self.pairs, self.rows.n).items)
        return _Tiles, (self.rows, self.pairs, self.centre, *known, self.kept, self.groups, True)


def search_verified(
    rows: Rows,
    k: int,
    groups: IdArray | None,
    *,
    split: Sequence[Sequence[Pair]],
    executor: Executor,
    report: Callable[[int], None],
) -> tuple[DecidedNeighbours, BoolArray]:
    """Find the neighbours of all rows, and which rows are certified.

    Parameters
    ----------
    rows : access to the n rows, scaled so that their products stay in float32
    split : the tiles of each part, together all
    report : told how many of the tiles are done, in rows

    Returns
    -------
    Settled, for all rows; array of shape (n,): those that are not certified have candidates only
    """
    n, kept = rows.n, count_bfloat16_candidates(k, rows.n)
    centre = rows.take(np.arange(0, n, max(1, n // CENTRE_ROWS))).mean(axis=0, dtype=np.float64)
    rounded = _measure(rows, centre, executor)
    shifts, best = rounded.shifts.astype(np.float32), np.full((n, kept), NO_KEY)
    done, total = 0, sum(map(len, split))
    # What a row finds in its own stripe is what the others' tiles must reach: most of these values are passed over at once.
    for round_ in ([pairs for pairs in split if is_diagonal(pairs) == first] for first in (True, False)):
        limits = _find_limits(best)
        tiles = [_Tiles(rows, pairs, centre, shifts, limits, kept, groups) for pairs in round_]
        for pairs, found in zip(round_, executor.map(_multiply, tiles), strict=True):
            merge_keys([found], best)
            done += len(pairs)
            report(n * done // total)
    return break_ties_by_blocks(rows, best, rounded, k, executor)


def _find_limits(best: KeyArray) -> Float32Array:
    """The similarity of every row's last candidate, less than any where it has room for more."""
    last = read_similarities(best[:, -1:])[:, 0]
    return np.where(best[:, -1] == NO_KEY, np.float32(-np.inf), last)


def _measure(rows: Rows, centre: Float64Array, executor: Executor) -> RoundedRows:
    """What is known of the rounded rows, without them."""
    spans = [_Span(rows, span, centre) for span in split_rows(rows.n, rows.dim)]
    measures = np.concatenate(list(executor.map(_measure_span, spans)), axis=1)
    width = allocate_bits(0, rows.dim).shape[1]
    return describe_rounding(np.empty((0, width), np.uint16), measures, centre, rows.dim)


def _measure_span(part: _Span) -> Float64Array:
    found = []
    for start in range(part.span.start, part.span.stop, block_rows(part.rows.dim)):
        block = part.rows.read(start, min(start + block_rows(part.rows.dim), part.span.stop))
        found.append(_round(block, part.centre, allocate_bits(*block.shape)))
    return np.concatenate(found, axis=1)


def _round(block: Float32Array, centre: Float64Array, bits: np.ndarray) -> Float64Array:
    measures = np.empty((4, len(block)))
    map_rows(lambda part: round_rows(block, centre, part.start, part.stop, bits, measures), *block.shape)
    return measures


def _multiply(part: _Tiles) -> PartialGraph:
    n, dim = part.rows.n, part.rows.dim
    stripes = Stripes.of(part.pairs, n)
    owner = np.arange(n, dtype=np.int32) if part.groups is None else part.groups
    found = TileCandidates(stripes.items, owner, part.kept)
    rows = slice(len(stripes.items))
    found.shifts[rows], found.limits[rows] = part.known(stripes.items)
    bits = allocate_bits(len(stripes.items), dim)
    for (start, stop), (first, last) in zip(stripes.spans, pairwise(stripes.edges), strict=True):
        _round(part.rows.read(start, stop), part.centre, bits[first:last])
    multiply_rounded(bits, stripes.edges, stripes.pairs, found, lambda _: None)
    return PartialGraph(stripes.items, np.ascontiguousarray(found.best()))
