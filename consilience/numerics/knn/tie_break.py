"""Tie-break among candidates from rounded products, whose error is bounded.

A row is verified if its k-th true similarity exceeds all non-candidates by more than the error bound. The few other rows are
searched by `queries`, which is always exact.
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

#: Number of candidates of float32 products beyond k: the error bound rarely leaves more open.
EXTRA_CANDIDATES = 8

#: Number of candidates that are read and ordered at a time: 64 MB of rows of 1024 columns.
BLOCK_CANDIDATES = 1 << 14
_ID, _VALUE = np.uint64(0xFFFFFFFF), np.uint64(0xFFFFFFFF00000000)


@dataclass(frozen=True)
class RoundedRows:
    """Rows as they are multiplied (possibly centred, possibly in bfloat16) and their error bounds (see `build_verified`).

    Attributes
    ----------
    values : array of shape (n, d), the bits of bfloat16, or float32; padded with columns of zeros. Without rows if they are
        rounded again for each product
    whole, rounded, left : arrays of shape (n,): upper bounds of |y|, |z| and |r|
    shifts : array of shape (n,): t
    centre : |c|
    product : relative error of a product by its final rounding
    summing : error of a sum per product, relative to |z_i| |z_j|
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
        """Create float32 rows that are multiplied unchanged; the lengths are those of `measure_lengths`."""
        none = np.zeros(len(lengths))
        return cls(x, lengths, lengths, none, none, summing=summing)

    def errors(self, rows: IdArray, ends: Float32Array) -> Float64Array:
        """Bound the errors of some rows' similarities; `ends` are the similarities of the first and the last candidate."""
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
    """Neighbours of some rows after the tie-break among candidates.

    Attributes
    ----------
    ids, similarities : arrays of shape (m, k), int32 and float32, best first
    least : array of shape (m,), float64, the k-th similarity
    """

    ids: IdArray
    similarities: Float32Array
    least: Float64Array

    @classmethod
    def empty(cls, m: int, k: int) -> Self:
        """Allocate the arrays for the k neighbours of m rows."""
        return cls(np.empty((m, k), np.int32), np.empty((m, k), np.float32), np.empty(m))

    def verify(self, counts: CountArray, kept: int, ends: Float32Array, errors: Float64Array) -> BoolArray:
        """Return True for each row with its true neighbours: all rows were candidates, or no other row is near enough."""
        verified: BoolArray = (counts < kept) | (self.least > ends[:, 1] + errors)
        return verified


def count_candidates(k_max: int, n: int) -> int:
    """Return the number of candidates of float32 products for k_max neighbours."""
    return min(k_max + EXTRA_CANDIDATES, n)


def read_end_similarities(keys: KeyArray, counts: CountArray) -> Float32Array:
    """Return the similarities of each row's first and last candidates."""
    return read_similarities(np.stack([keys[:, 0], keys[np.arange(len(keys)), counts - 1]], axis=1))


def read_similarities(keys: KeyArray) -> Float32Array:
    """Return the similarities of keys."""
    ids, similarities = np.empty(keys.shape, np.int32), np.empty(keys.shape, np.float32)
    read_keys(keys, 0, len(keys), ids, similarities)
    return similarities


def break_ties_on_threads(  # noqa: PLR0917 - the parameters of the kernel
    x: Float32Array,
    items: IdArray,
    rows: IdArray,
    keys: KeyArray,
    counts: CountArray,
    errors: Float64Array,
    k: int,
) -> DecidedNeighbours:
    """Select and order the nearest candidates on several threads; parameters as in `order.break_row_ties`."""
    m = len(rows)
    found = DecidedNeighbours.empty(m, k)

    def work(part: slice) -> None:
        written = (found.ids, found.similarities, found.least)
        break_row_ties(x, items, rows, keys, counts, errors, part.start, part.stop, *written)

    # A vector instruction multiplies eight columns.
    map_rows(work, m, k * x.shape[1] // 8)
    return found


def break_ties(
    x: Float32Array, rows: IdArray, keys: KeyArray, counts: CountArray, *, rounded: RoundedRows, k: int
) -> tuple[DecidedNeighbours, BoolArray]:
    """Select the neighbours of some rows among their candidates, and find which of the rows are verified.

    Parameters
    ----------
    x : array of shape (n, d), all rows
    rows : array of shape (m,), int32
    keys : array of shape (m, kept): candidates, most similar first
    counts : array of shape (m,), number of candidates of each row, at least k
    """
    ends = read_end_similarities(keys, counts)
    errors = rounded.errors(rows, ends)
    found = break_ties_on_threads(x, np.arange(len(x), dtype=np.int32), rows, keys, counts, errors, k)
    return found, found.verify(counts, keys.shape[1], ends, errors)


@dataclass(frozen=True)
class _TieBreakTask:
    """Task: break the ties among some rows' candidates; fields as the parameters of `order.break_row_ties`."""

    rows: Rows
    ids: IdArray
    keys: KeyArray
    counts: CountArray
    errors: Float64Array
    k: int


def break_ties_by_blocks(
    rows: Rows, keys: KeyArray, rounded: RoundedRows, k: int, executor: Executor
) -> tuple[DecidedNeighbours, BoolArray]:
    """Apply `break_ties` to all rows by blocks, which the tasks of an executor read."""
    counts = np.count_nonzero(keys != NO_KEY, axis=1)
    ends = read_end_similarities(keys, counts)
    errors = rounded.errors(np.arange(rows.n, dtype=np.int32), ends)
    step = max(1, BLOCK_CANDIDATES // keys.shape[1])
    blocks = []
    for start in range(0, rows.n, step):
        span = slice(start, min(start + step, rows.n))
        ids, needed = np.arange(span.start, span.stop, dtype=np.int32), _count_needed(keys[span], errors[span], k)
        near = keys[span, : needed.max()]
        blocks.append(_TieBreakTask(rows, ids, near, np.minimum(needed, counts[span]), errors[span], k))
    found = list(executor.map(_run_task, blocks))
    whole = DecidedNeighbours(
        np.concatenate([block.ids for block in found]),
        np.concatenate([block.similarities for block in found]),
        np.concatenate([block.least for block in found]),
    )
    return whole, whole.verify(counts, keys.shape[1], ends, errors)


def _count_needed(keys: KeyArray, errors: Float64Array, k: int) -> CountArray:
    """Count the candidates that can be among the k best: those not below the k-th by more than both error bounds."""
    found = read_similarities(keys)
    possible = found >= (found[:, k - 1] - 2 * errors)[:, None]
    counts: CountArray = np.maximum(possible.sum(axis=1), k)
    return counts


def _run_task(task: _TieBreakTask) -> DecidedNeighbours:
    """Break the ties among some rows' candidates."""
    real = np.arange(task.keys.shape[1]) < task.counts[:, None]
    items = (task.keys & _ID).astype(np.int32)
    near = np.union1d(task.ids, items[real])
    positions = np.searchsorted(near, items).astype(np.uint64)
    keys = np.where(real, (task.keys & _VALUE) | positions, NO_KEY)
    queries = np.searchsorted(near, task.ids).astype(np.int32)
    return break_ties_on_threads(task.rows.take(near), near, queries, keys, task.counts, task.errors, task.k)


def search_unverified(
    rows: Rows,
    groups: IdArray | None,
    found: DecidedNeighbours,
    verified: BoolArray,
    executor: Executor = LOCAL_EXECUTOR,
) -> None:
    """Search the unverified rows among all rows, in place."""
    left = np.flatnonzero(~verified).astype(np.int32)
    if len(left):
        searched = search_queries(left, rows, found.ids.shape[1], groups=groups, executor=executor)
        found.ids[left], found.similarities[left] = searched.ids[0], searched.similarities[0]
