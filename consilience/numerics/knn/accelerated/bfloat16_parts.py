"""The search in bfloat16 in parts whose rows are read for them: what `certified.build_certified` finds, and no layer is held.

Rows are gone through to measure them, by pairs of stripes to find candidates, and by blocks to decide among these.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from consilience.numerics.knn.accelerated.bfloat16 import (
    BUILDER,
    CENTRE_ROWS,
    Rounded,
    allocate,
    count_kept,
    decide_rows,
    find_ends,
    multiply_rounded,
    round_rows,
)
from consilience.numerics.knn.graph import NeighbourGraph
from consilience.numerics.knn.symmetric import Found, Pair, PartialGraph, Stripes, gather, is_diagonal, read_graph
from consilience.numerics.knn.tile_kernels import NO_KEY, KeyArray
from consilience.numerics.neighbour_overlap.kernels import BoolArray, CountArray
from consilience.numerics.rows.arrays import Float32Array, Float64Array, IdArray
from consilience.numerics.rows.parallel import Parts, block_rows, map_rows, split_rows
from consilience.numerics.rows.prepared import Rows

#: Candidates that are read and decided at a time: 64 MB of rows of 1024 columns.
DECIDED = 1 << 14
_ID, _VALUE = np.uint64(0xFFFFFFFF), np.uint64(0xFFFFFFFF00000000)


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


@dataclass(frozen=True)
class _Candidates:
    """Some rows' candidates to be decided by the rows themselves; the parameters of `decide_rows`."""

    rows: Rows
    ids: IdArray
    keys: KeyArray
    counts: CountArray
    errors: Float64Array
    k: int


def search_certified(
    rows: Rows,
    k: int,
    groups: IdArray | None,
    *,
    split: Sequence[Sequence[Pair]],
    parts: Parts,
    report: Callable[[int], None],
) -> tuple[NeighbourGraph, BoolArray]:
    """Find the neighbours of all rows, and which rows are certified.

    Parameters
    ----------
    rows : access to the n rows, scaled so that their products stay in float32
    split : the tiles of each part, together all
    report : told how many of the tiles are done, in rows

    Returns
    -------
    NeighbourGraph of shape (n, k); array of shape (n,): those that are not certified have candidates only
    """
    n, kept = rows.n, count_kept(k, rows.n)
    centre = rows.take(np.arange(0, n, max(1, n // CENTRE_ROWS))).mean(axis=0, dtype=np.float64)
    rounded = _measure(rows, centre, parts)
    shifts, best = rounded.shifts.astype(np.float32), np.full((n, kept), NO_KEY)
    done, total = 0, sum(map(len, split))
    # What a row finds in its own stripe is what the others' tiles must reach: most of these values are passed over at once.
    for round_ in ([pairs for pairs in split if is_diagonal(pairs) == first] for first in (True, False)):
        limits = _find_limits(best)
        tiles = [_Tiles(rows, pairs, centre, shifts, limits, kept, groups) for pairs in round_]
        for pairs, found in zip(round_, parts.map(_multiply, tiles), strict=True):
            gather([found], best)
            done += len(pairs)
            report(n * done // total)
    return _settle(rows, best, rounded, k, parts)


def _find_limits(best: KeyArray) -> Float32Array:
    """The similarity of every row's last candidate, less than any where it has room for more."""
    last = read_graph(best[:, -1:], BUILDER).similarities[:, 0]
    return np.where(best[:, -1] == NO_KEY, np.float32(-np.inf), last)


def _measure(rows: Rows, centre: Float64Array, parts: Parts) -> Rounded:
    """What is known of the rounded rows, without them."""
    spans = [_Span(rows, span, centre) for span in split_rows(rows.n, rows.dim)]
    measures = np.concatenate(list(parts.map(_measure_span, spans)), axis=1)
    width = allocate(0, rows.dim).shape[1]
    return Rounded.of(np.empty((0, width), np.uint16), measures, centre, rows.dim)


def _measure_span(part: _Span) -> Float64Array:
    found = []
    for start in range(part.span.start, part.span.stop, block_rows(part.rows.dim)):
        block = part.rows.read(start, min(start + block_rows(part.rows.dim), part.span.stop))
        found.append(_round(block, part.centre, allocate(*block.shape)))
    return np.concatenate(found, axis=1)


def _round(block: Float32Array, centre: Float64Array, bits: np.ndarray) -> Float64Array:
    measures = np.empty((4, len(block)))
    map_rows(lambda part: round_rows(block, centre, part.start, part.stop, bits, measures), *block.shape)
    return measures


def _multiply(part: _Tiles) -> PartialGraph:
    n, dim = part.rows.n, part.rows.dim
    stripes = Stripes.of(part.pairs, n)
    owner = np.arange(n, dtype=np.int32) if part.groups is None else part.groups
    found = Found(stripes.items, owner, part.kept)
    rows = slice(len(stripes.items))
    found.shifts[rows], found.limits[rows] = part.known(stripes.items)
    bits = allocate(len(stripes.items), dim)
    for (start, stop), (first, last) in zip(stripes.spans, pairwise(stripes.edges), strict=True):
        _round(part.rows.read(start, stop), part.centre, bits[first:last])
    multiply_rounded(bits, stripes.edges, stripes.pairs, found, lambda _: None)
    return PartialGraph(stripes.items, np.ascontiguousarray(found.best()))


def _settle(rows: Rows, best: KeyArray, rounded: Rounded, k: int, parts: Parts) -> tuple[NeighbourGraph, BoolArray]:
    """Decide by blocks of rows, as `certified.settle` does at once."""
    counts = np.count_nonzero(best != NO_KEY, axis=1)
    ends = find_ends(best, counts)
    errors = rounded.errors(np.arange(rows.n, dtype=np.int32), ends)
    step = max(1, DECIDED // best.shape[1])
    blocks = []
    for start in range(0, rows.n, step):
        span = slice(start, min(start + step, rows.n))
        ids, needed = np.arange(span.start, span.stop, dtype=np.int32), _count_needed(best[span], errors[span], k)
        keys = best[span, : needed.max()]
        blocks.append(_Candidates(rows, ids, keys, np.minimum(needed, counts[span]), errors[span], k))
    graph = read_graph(np.concatenate(list(parts.map(_decide, blocks))), BUILDER)
    return graph, (counts < best.shape[1]) | (graph.similarities[:, -1] > ends[:, 1] + errors)


def _count_needed(keys: KeyArray, errors: Float64Array, k: int) -> CountArray:
    """How many of some rows' candidates can be among the k best: none that lies further below the k-th than both can be off."""
    found = read_graph(keys, BUILDER).similarities
    possible = found >= (found[:, k - 1] - 2 * errors)[:, None]
    counts: CountArray = np.maximum(possible.sum(axis=1), k)
    return counts


def _decide(part: _Candidates) -> KeyArray:
    """The best k keys of some rows, best first."""
    real = np.arange(part.keys.shape[1]) < part.counts[:, None]
    items = (part.keys & _ID).astype(np.int32)
    near = np.union1d(part.ids, items[real])
    # Numbers among the rows at hand, which ascend as the ids do: of equal similarities the same one comes first.
    places = np.searchsorted(near, items).astype(np.uint64)
    keys = np.where(real, (part.keys & _VALUE) | places, NO_KEY)
    own, x = np.searchsorted(near, part.ids).astype(np.int32), part.rows.take(near)

    def decide(span: slice) -> None:
        decide_rows(x, own, keys, part.counts, part.errors, part.k, span.start, span.stop)
        keys[span].sort(axis=1)

    map_rows(decide, len(own), 2 * part.k * x.shape[1])
    found = keys[:, : part.k]
    return (found & _VALUE) | near[(found & _ID).astype(np.int64)].astype(np.uint64)
