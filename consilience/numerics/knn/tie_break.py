"""Neighbours decided among candidates that rounded products have proposed: how far these can be off is bounded.

A row whose k-th true similarity exceeds by more than that whatever is no candidate is certified; the few others are searched by
`queries`, which leaves nothing open.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from consilience.numerics.knn.bounds import EPSILON, FLOAT32_SUMMING, NEAREST_SUMMING, TINY
from consilience.numerics.knn.order import break_row_ties
from consilience.numerics.knn.queries import search_queries
from consilience.numerics.knn.tile_kernels import NO_KEY, KeyArray, read_keys
from consilience.numerics.rows.arrays import AnyArray, BoolArray, CountArray, Float32Array, Float64Array, IdArray
from consilience.numerics.rows.parallel import LOCAL_EXECUTOR, Executor, map_rows
from consilience.numerics.rows.prepared import Rows

#: Candidates of float32 products beyond the k wanted: the bound seldom leaves more open.
EXTRA_CANDIDATES = 8

#: Candidates that are read and decided at a time: 64 MB of rows of 1024 columns.
BLOCK_CANDIDATES = 1 << 14
_ID, _VALUE = np.uint64(0xFFFFFFFF), np.uint64(0xFFFFFFFF00000000)


@dataclass(frozen=True)
class RoundedRows:
    """What is known of rows as they were multiplied: perhaps centred, perhaps in bfloat16 (see `certified.build_certified`).

    Attributes
    ----------
    values : array of shape (n, d), the bits of bfloat16, or float32; with columns of zeros behind. No rows, where they are
        rounded again when they are multiplied
    whole, rounded, left : arrays of shape (n,): |y|, |z| and |r|, not below the true ones
    shifts : array of shape (n,): t
    centre : |c|
    product : by how much of itself a product can be off for its rounding
    summing : by how much of |z_i| |z_j|, for each of d products, its sum can be off
    """

    values: AnyArray
    whole: Float64Array
    rounded: Float64Array
    left: Float64Array
    shifts: Float64Array
    centre: float = 0.0
    product: float = 0.0
    summing: float = FLOAT32_SUMMING

    @classmethod
    def plain(cls, x: Float32Array, lengths: Float64Array, summing: float = NEAREST_SUMMING) -> Self:
        """Rows of float32, multiplied as they are; the lengths are those of `measure_lengths`."""
        none = np.zeros(len(lengths))
        return cls(x, lengths, lengths, none, none, summing=summing)

    @property
    def rough(self) -> bool:
        """Whether products of these rows are as good as float32's: so they can be told."""
        return self.values.dtype == np.float32

    def errors(self, rows: IdArray, ends: Float32Array) -> Float64Array:
        """How far some rows' similarities can be off, from the first candidate on, where `ends` has the first and the last."""
        d, t, all_t = self.values.shape[1], self.shifts[rows], self.shifts
        largest = np.abs(ends).max(axis=1).astype(np.float64)
        edges = (all_t.min(), all_t.max())
        furthest = np.max([np.abs(ends[:, end] - t - shift) for end in (0, 1) for shift in edges], axis=0)
        terms = (
            self.left[rows] * self.whole.max() + self.rounded[rows] * self.left.max(),
            d * self.summing * self.rounded[rows] * self.rounded.max(),
            self.product * furthest,
            4 * FLOAT32_SUMMING * (largest + np.abs(t) + np.abs(all_t).max()),
            d * TINY * (2 + 2 * self.rounded.max()),
            4 * d * EPSILON * (self.whole.max() + self.centre) ** 2,
        )
        total: Float64Array = np.sum(np.broadcast_arrays(*terms), axis=0)
        return total


@dataclass(frozen=True)
class DecidedNeighbours:
    """The neighbours of some rows, as they are decided among candidates.

    Attributes
    ----------
    ids, similarities : arrays of shape (m, k), int32 and float32, best first
    least : array of shape (m,), float64, what the k-th similarity is not below
    """

    ids: IdArray
    similarities: Float32Array
    least: Float64Array

    @classmethod
    def empty(cls, m: int, k: int) -> Self:
        """Take the room for the k neighbours of m rows."""
        return cls(np.empty((m, k), np.int32), np.empty((m, k), np.float32), np.empty(m))

    def certify(self, counts: CountArray, kept: int, ends: Float32Array, errors: Float64Array) -> BoolArray:
        """Whether each row has its true neighbours: it has had all rows as candidates, or none of the others comes near."""
        certified: BoolArray = (counts < kept) | (self.least > ends[:, 1] + errors)
        return certified


def count_candidates(k_max: int, n: int) -> int:
    """How many candidates of float32 products a row has for its k_max neighbours."""
    return min(k_max + EXTRA_CANDIDATES, n)


def read_end_similarities(keys: KeyArray, counts: CountArray) -> Float32Array:
    """The similarities of each row's first candidate and of its last."""
    return read_similarities(np.stack([keys[:, 0], keys[np.arange(len(keys)), counts - 1]], axis=1))


def read_similarities(keys: KeyArray) -> Float32Array:
    """The similarities that keys hold."""
    ids, similarities = np.empty(keys.shape, np.int32), np.empty(keys.shape, np.float32)
    read_keys(keys, 0, len(keys), ids, similarities)
    return similarities


def decide(  # noqa: PLR0917 - the parameters of the kernel
    x: Float32Array,
    items: IdArray,
    rows: IdArray,
    keys: KeyArray,
    counts: CountArray,
    errors: Float64Array,
    rough: bool,
    k: int,
) -> DecidedNeighbours:
    """Decide among candidates on several threads; the parameters are those of `compiled_order.decide_rows`."""
    m = len(rows)
    found = DecidedNeighbours.empty(m, k)

    def work(part: slice) -> None:
        written = (found.ids, found.similarities, found.least)
        break_row_ties(x, items, rows, keys, counts, errors, rough, part.start, part.stop, *written)

    map_rows(work, m, 2 * k * x.shape[1])
    return found


def break_ties(
    x: Float32Array, rows: IdArray, keys: KeyArray, counts: CountArray, *, rounded: RoundedRows, k: int
) -> tuple[DecidedNeighbours, BoolArray]:
    """Decide among the candidates of some rows: their neighbours, and which of the rows are certified.

    Parameters
    ----------
    x : array of shape (n, d), all rows
    rows : array of shape (m,), int32
    keys : array of shape (m, kept): candidates, most similar first
    counts : array of shape (m,), how many candidates each row has, at least k
    """
    ends = read_end_similarities(keys, counts)
    errors = rounded.errors(rows, ends)
    found = decide(x, np.arange(len(x), dtype=np.int32), rows, keys, counts, errors, rounded.rough, k)
    return found, found.certify(counts, keys.shape[1], ends, errors)


@dataclass(frozen=True)
class _TieBreakTask:
    """Some rows' candidates to be decided by the rows themselves; the parameters of `compiled_order.decide_rows`."""

    rows: Rows
    ids: IdArray
    keys: KeyArray
    counts: CountArray
    errors: Float64Array
    rough: bool
    k: int


def break_ties_by_blocks(
    rows: Rows, keys: KeyArray, rounded: RoundedRows, k: int, executor: Executor
) -> tuple[DecidedNeighbours, BoolArray]:
    """Do for all rows what `settle` does, by blocks of rows that are read for it, here or elsewhere."""
    counts = np.count_nonzero(keys != NO_KEY, axis=1)
    ends = read_end_similarities(keys, counts)
    errors = rounded.errors(np.arange(rows.n, dtype=np.int32), ends)
    step = max(1, BLOCK_CANDIDATES // keys.shape[1])
    blocks = []
    for start in range(0, rows.n, step):
        span = slice(start, min(start + step, rows.n))
        ids, needed = np.arange(span.start, span.stop, dtype=np.int32), _count_needed(keys[span], errors[span], k)
        near = keys[span, : needed.max()]
        blocks.append(_TieBreakTask(rows, ids, near, np.minimum(needed, counts[span]), errors[span], rounded.rough, k))
    found = list(executor.map(_decide_block, blocks))
    whole = DecidedNeighbours(
        np.concatenate([block.ids for block in found]),
        np.concatenate([block.similarities for block in found]),
        np.concatenate([block.least for block in found]),
    )
    return whole, whole.certify(counts, keys.shape[1], ends, errors)


def _count_needed(keys: KeyArray, errors: Float64Array, k: int) -> CountArray:
    """How many of some rows' candidates can be among the k best: none that lies further below the k-th than both can be off."""
    found = read_similarities(keys)
    possible = found >= (found[:, k - 1] - 2 * errors)[:, None]
    counts: CountArray = np.maximum(possible.sum(axis=1), k)
    return counts


def _decide_block(part: _TieBreakTask) -> DecidedNeighbours:
    """Decide among some rows' candidates."""
    real = np.arange(part.keys.shape[1]) < part.counts[:, None]
    items = (part.keys & _ID).astype(np.int32)
    near = np.union1d(part.ids, items[real])
    places = np.searchsorted(near, items).astype(np.uint64)
    keys = np.where(real, (part.keys & _VALUE) | places, NO_KEY)
    asking = np.searchsorted(near, part.ids).astype(np.int32)
    return decide(part.rows.take(near), near, asking, keys, part.counts, part.errors, part.rough, part.k)


def search_unverified(
    rows: Rows, groups: IdArray | None, found: DecidedNeighbours, certified: BoolArray, executor: Executor = LOCAL_EXECUTOR
) -> None:
    """Search the rows that are not certified among all rows, in place."""
    left = np.flatnonzero(~certified).astype(np.int32)
    if len(left):
        anew = search_queries(left, rows, found.ids.shape[1], groups=groups, executor=executor)
        found.ids[left], found.similarities[left] = anew.ids[0], anew.similarities[0]
