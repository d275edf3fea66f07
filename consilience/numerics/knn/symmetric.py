"""Exact neighbour graphs from half of the similarity matrix: each tile is used for its rows and its columns.

A search can be split into tasks, each a set of tiles, for any executor. Tiles propose candidates; the tie-break gives the same
neighbours for any split and any library of matrix products (see `tie_break`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from math import ceil
from threading import Condition
from typing import Self, cast

import numpy as np

from consilience.limits import TILE_ROWS
from consilience.numerics.knn.accelerated.lanes import LANES
from consilience.numerics.knn.bounds import measure_lengths
from consilience.numerics.knn.graph import NeighbourGraph, find_exponent
from consilience.numerics.knn.tie_break import (
    RoundedRows,
    break_ties,
    break_ties_by_blocks,
    count_candidates,
    search_unverified,
)
from consilience.numerics.knn.tile_kernels import NO_KEY, KeyArray, select_from_tile, truncate_keys
from consilience.numerics.rows.arrays import AnyArray, Float32Array, Float64Array, IdArray
from consilience.numerics.rows.parallel import LOCAL_EXECUTOR, Executor, count_threads, map_rows, serial_products
from consilience.numerics.rows.prepared import ArrayRows, Rows

#: Numbers of the row block and the column block of a tile, with the first not above the second.
Pair = tuple[int, int]

#: Smallest number of rows of a tile: for smaller ones, starting a product costs more than threads save.
TILE_ROWS_MIN = 256
#: Number of blocks that keeps several threads busy.
BLOCKS_MIN = 8


def block_edges(n: int) -> list[int]:
    """Return the starts of the blocks of n rows and the end of the last; by n only, so that all products are reproducible."""
    blocks = count_blocks(n)
    return [n * block // blocks for block in range(blocks + 1)]


def count_blocks(n: int) -> int:
    """Return the number of blocks of n rows."""
    return max(ceil(n / TILE_ROWS), min(BLOCKS_MIN, ceil(n / TILE_ROWS_MIN)))


def all_pairs(blocks: int) -> list[Pair]:
    """Return every pair of blocks once."""
    return [(i, j) for i in range(blocks) for j in range(i, blocks)]


def is_diagonal(pairs: Sequence[Pair]) -> bool:
    """Return True if some tile is on the diagonal."""
    return any(i == j for i, j in pairs)


class _Queue:
    """Queue of the tiles not started yet."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        # The diagonal first: it gives every row a limit. Then pairs with equal sums, which share no block.
        blocks = 1 + max(max(pair) for pair in pairs)
        self._waiting = sorted(pairs, key=lambda pair: (pair[0] != pair[1], sum(pair) % blocks, pair))
        self._busy: set[int] = set()
        self._changed = Condition()

    def take(self) -> Pair | None:
        """Wait for a tile whose rows and columns no other thread uses and return it; None if no tile is left."""
        with self._changed:
            while self._waiting:
                pair = next((pair for pair in self._waiting if self._busy.isdisjoint(pair)), None)
                if pair is not None:
                    self._waiting.remove(pair)
                    self._busy.update(pair)
                    return pair
                self._changed.wait()
            return None

    def release(self, pair: Pair) -> int:
        """Release a tile's rows and columns and return the number of tiles left."""
        with self._changed:
            self._busy.difference_update(pair)
            self._changed.notify_all()
            return len(self._waiting)

    @contextmanager
    def cleared_on_error(self) -> Iterator[None]:
        """Clear the queue if the block raises, so that the other threads stop."""
        try:
            yield
        except BaseException:
            with self._changed:
                self._waiting.clear()
                self._changed.notify_all()
            raise


def run_pairs(
    pairs: Sequence[Pair], open_worker: Callable[[], Callable[[Pair], None]], report: Callable[[float], None]
) -> None:
    """Process every tile once, in any order, with single-threaded numpy products.

    The number of threads, including this one, is that of FAISS. They end with the call, so that the process may fork
    afterwards.

    Parameters
    ----------
    open_worker : callable
        Called once in each thread; returns a function that processes one tile, with its own buffers. Tiles processed at the
        same time share no block.
    report : callable
        Called in this thread with the share of the tiles started. An exception of it ends the call.
    """
    queue = _Queue(pairs)

    def run(report: Callable[[float], None]) -> None:
        with queue.cleared_on_error():
            work = open_worker()
            while (pair := queue.take()) is not None:
                try:
                    work(pair)
                finally:
                    left = queue.release(pair)
                report(1 - left / len(pairs))

    others = min(count_threads(), len(pairs)) - 1
    with serial_products(), ThreadPoolExecutor(max(1, others)) as pool:
        running = [pool.submit(run, lambda _: None) for _ in range(others)]
        run(report)
        for future in running:
            future.result()


BUILDER = "symmetric"
#: Number of keys collected beyond the best k before a row is truncated: k, within these limits.
ROOM_MIN, ROOM_MAX = 32, 512
#: Cost of merging a key, in steps of a kernel.
STEPS_PER_KEY = 16


class TileCandidates:
    """Candidates of some rows so far: the arrays that `tile_kernels.select_from_tile` writes to.

    Parameters
    ----------
    items : array of shape (m,), int32, ascending
        Ids of the rows.
    owner : array of shape (n,), int32
        Group of every row; a number of its own for each row without groups.
    k : number of neighbours
    """

    def __init__(self, items: IdArray, owner: IdArray, k: int) -> None:
        self.items, self.owner, self.k = items, owner[items], k
        room = max(k + 1, min(len(owner), k + min(max(k, ROOM_MIN), ROOM_MAX)))
        self.keys = np.empty((len(items), room), np.uint64)
        self.counts = np.zeros(len(items), np.int64)
        self.limits = np.full(len(items) + LANES, -np.inf, np.float32)
        self.floors = np.full(len(items), NO_KEY)
        self.shifts = np.zeros(len(items) + LANES, np.float32)
        self._own = int(np.bincount(owner).max())

    def add(self, tile: AnyArray, row: int, column: int, kernel: Callable[..., None] = select_from_tile) -> None:
        """Add the similarities of a tile with the given first row and column."""
        if row == column:
            self._limit(tile, row)
        found = (self.keys, self.counts, self.limits, self.floors, self.k)
        kernel(tile, row, column, row != column, self.shifts, self.items, self.owner, *found)

    def _limit(self, tile: AnyArray, row: int) -> None:
        """Set the limits of the rows of a diagonal tile: k of its similarities outside the largest group reach them."""
        rank = tile.shape[1] - self.k - self._own
        if rank >= 0:
            rows = slice(row, row + len(tile))
            values = widen(tile) + self.shifts[rows, None] + self.shifts[rows]
            values.partition(rank, axis=1)
            self.limits[rows] = values[:, rank]

    def best(self) -> KeyArray:
        """Return a view of the best k keys of each row, best first, with `NO_KEY` for missing ones; ends the search."""

        def sort(part: slice) -> None:
            truncate_keys(self.keys, self.counts, self.k, part.start, part.stop)
            self.keys[part, : self.k].sort(axis=1)

        map_rows(sort, len(self.items), 4 * self.k)
        return self.keys[:, : self.k]


def widen(tile: AnyArray) -> Float32Array:
    """Return a tile's values as float32, converting bits of bfloat16."""
    wide = (tile.astype(np.uint32) << 16).view(np.float32) if tile.dtype == np.uint16 else tile
    return cast("Float32Array", wide)


@dataclass(frozen=True)
class TileTask:
    """Task: search some tiles, in any process.

    Attributes
    ----------
    rows : access to the prepared rows; each block is read once, and all blocks of the task stay in memory
    pairs : the tiles, by the numbers of their blocks
    k : number of neighbours
    groups : array of shape (n,), int32; rows of one group are never neighbours of each other
    """

    rows: Rows
    pairs: Sequence[Pair]
    k: int
    groups: IdArray | None = None


@dataclass(frozen=True)
class Stripes:
    """Blocks of rows of some tiles, one after the other.

    Attributes
    ----------
    items : array of shape (m,), int32, ascending
        Ids of the rows.
    spans : start and stop of each block among all rows
    edges : start of each block among the m rows, and the end of the last
    pairs : the tiles, by the numbers of these blocks
    """

    items: IdArray
    spans: list[tuple[int, int]]
    edges: list[int]
    pairs: list[Pair]

    @classmethod
    def of(cls, pairs: Sequence[Pair], n: int) -> Self:
        """Find the blocks of some tiles of n rows."""
        edges = block_edges(n)
        touched = sorted({block for pair in pairs for block in pair})
        spans = [(edges[block], edges[block + 1]) for block in touched]
        numbers = {block: number for number, block in enumerate(touched)}
        return cls(
            np.concatenate([np.arange(*span, dtype=np.int32) for span in spans]),
            spans,
            [0, *accumulate(stop - start for start, stop in spans)],
            [(numbers[i], numbers[j]) for i, j in pairs],
        )


@dataclass(frozen=True)
class PartialGraph:
    """Candidates found by a task, for the rows of its blocks.

    Attributes
    ----------
    items : array of shape (m,), int32, ascending
        Ids of the rows.
    keys : array of shape (m, kept), uint64
        Similarities and ids (see `tile_kernels.make_key`), best first; `NO_KEY` for missing ones.
    lengths : array of shape (m,), lengths of the rows, unless known already
    """

    items: IdArray
    keys: KeyArray
    lengths: Float64Array | None = None


def build_symmetric(
    x: Float32Array, k_max: int, groups: IdArray | None = None, report: Callable[[int], None] | None = None
) -> NeighbourGraph:
    """Build the exact graph of the rows of x by tiles; the parameters are those of `graph.build_exact`.

    Returns
    -------
    NeighbourGraph; half of the multiply-adds of a flat search, O(n (k_max + d)) memory
    """
    if exponent := find_exponent(x):
        x = np.ldexp(x, exponent)
    task = TileTask(ArrayRows(x), all_pairs(count_blocks(len(x))), k_max, groups)
    found, lengths = _search(task, report)
    decided, verified = break_ties(
        x, found.items, found.best(), found.counts, rounded=RoundedRows.plain(x, lengths), k=k_max
    )
    search_unverified(task.rows, groups, decided, verified)
    if report is not None:
        report(len(x))
    return NeighbourGraph(decided.ids, decided.similarities, BUILDER)


def run_tile_task(task: TileTask) -> PartialGraph:
    """Search the tiles of a task for candidates of its rows."""
    found, lengths = _search(task, None)
    return PartialGraph(found.items, np.ascontiguousarray(found.best()), lengths)


def merge_partial_graphs(
    partials: Iterable[PartialGraph],
    rows: Rows,
    k_max: int,
    groups: IdArray | None = None,
    executor: Executor = LOCAL_EXECUTOR,
) -> NeighbourGraph:
    """Merge the results of tasks that contain every tile once, in any order.

    Parameters
    ----------
    rows, k_max, groups : those of every task; each row must have at least k_max neighbours: n - 1, or n less the size of the
        largest group
    executor : runs the tasks of the tie-break
    """
    n, lengths = rows.n, np.zeros(rows.n)
    keys = np.full((n, count_candidates(k_max, n)), NO_KEY)

    def with_lengths() -> Iterator[PartialGraph]:
        for found in partials:
            lengths[found.items] = found.lengths
            yield found

    merge_keys(with_lengths(), keys)
    rounded = RoundedRows.plain(np.empty((0, rows.dim), np.float32), lengths)
    decided, verified = break_ties_by_blocks(rows, keys, rounded, k_max, executor)
    search_unverified(rows, groups, decided, verified, executor)
    return NeighbourGraph(decided.ids, decided.similarities, BUILDER)


def merge_keys(partials: Iterable[PartialGraph], best: KeyArray) -> None:
    """Merge the keys of tasks into the best keys of every row, best first, in place."""
    for found in partials:
        map_rows(partial(_keep_best, best, found), len(found.items), STEPS_PER_KEY * best.shape[1])


def _keep_best(best: KeyArray, found: PartialGraph, part: slice) -> None:
    both = np.concatenate([best[found.items[part]], found.keys[part]], axis=1)
    both.sort(axis=1)
    best[found.items[part]] = both[:, : best.shape[1]]


def _search(task: TileTask, report: Callable[[int], None] | None) -> tuple[TileCandidates, Float64Array]:
    """Find the candidates of a task's rows, and the rows' lengths."""
    n = task.rows.n
    stripes = Stripes.of(task.pairs, n)
    owner = np.arange(n, dtype=np.int32) if task.groups is None else task.groups
    found = TileCandidates(stripes.items, owner, count_candidates(task.k, n))
    values = [task.rows.read(*span) for span in stripes.spans]

    def open_worker() -> Callable[[Pair], None]:
        buffer = np.empty(max(map(len, values)) ** 2 + LANES, np.float32)

        def work(pair: Pair) -> None:
            i, j = pair
            tile = buffer[: len(values[i]) * len(values[j])].reshape(len(values[i]), len(values[j]))
            np.matmul(values[i], values[j].T, out=tile)
            found.add(tile, stripes.edges[i], stripes.edges[j])

        return work

    run_pairs(stripes.pairs, open_worker, lambda share: report and report(int(share * n)))
    return found, np.concatenate([measure_lengths(block) for block in values])
