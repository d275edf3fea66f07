"""Exact neighbour graphs from half of the similarity matrix: each tile of it serves its rows and its columns.

A graph can be searched in parts, each a set of tiles, here or elsewhere. Tiles propose candidates; what the parts find is
settled to the same neighbours however they were cut, and whatever multiplied (see `settling`).
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

#: Numbers of the row block and the column block of a tile, the first not above the second.
Pair = tuple[int, int]

#: Below it, starting a product costs more than the threads gain.
TILE_ROWS_MIN = 256
#: Blocks that keep several threads busy.
BLOCKS_MIN = 8


def block_edges(n: int) -> list[int]:
    """Where the blocks of n rows begin, and the last one's end; by n alone, so that every product is the same everywhere."""
    blocks = count_blocks(n)
    return [n * block // blocks for block in range(blocks + 1)]


def count_blocks(n: int) -> int:
    """Number of blocks of n rows."""
    return max(ceil(n / TILE_ROWS), min(BLOCKS_MIN, ceil(n / TILE_ROWS_MIN)))


def all_pairs(blocks: int) -> list[Pair]:
    """Every pair of so many blocks once."""
    return [(i, j) for i in range(blocks) for j in range(i, blocks)]


def is_diagonal(pairs: Sequence[Pair]) -> bool:
    """Whether tiles hold some of the diagonal, where rows meet themselves."""
    return any(i == j for i, j in pairs)


class _Queue:
    """The tiles still to do."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        # The diagonal first: it gives every row a limit. Then pairs of one sum, which share no block.
        blocks = 1 + max(max(pair) for pair in pairs)
        self._waiting = sorted(pairs, key=lambda pair: (pair[0] != pair[1], sum(pair) % blocks, pair))
        self._busy: set[int] = set()
        self._changed = Condition()

    def take(self) -> Pair | None:
        """A tile whose rows and columns nobody is at, waiting for one; None where nothing is left."""
        with self._changed:
            while self._waiting:
                pair = next((pair for pair in self._waiting if self._busy.isdisjoint(pair)), None)
                if pair is not None:
                    self._waiting.remove(pair)
                    self._busy.update(pair)
                    return pair
                self._changed.wait()
            return None

    def give_back(self, pair: Pair) -> int:
        """Free a tile's rows and columns; how many tiles are left to take."""
        with self._changed:
            self._busy.difference_update(pair)
            self._changed.notify_all()
            return len(self._waiting)

    @contextmanager
    def emptied(self) -> Iterator[None]:
        """Whoever fails leaves the others nothing to do."""
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
    """Do every tile once, in any order; numpy's products use one thread each meanwhile.

    The threads are as many as FAISS uses, this one among them, and end with the call, so that a process may fork after it.

    Parameters
    ----------
    open_worker : callable
        Called once in each thread: what does one tile, with buffers of its own. The tiles that run at one time share no block.
    report : callable
        Told in this thread which share of the tiles is begun. What it raises ends the call.
    """
    queue = _Queue(pairs)

    def run(report: Callable[[float], None]) -> None:
        with queue.emptied():
            work = open_worker()
            while (pair := queue.take()) is not None:
                try:
                    work(pair)
                finally:
                    left = queue.give_back(pair)
                report(1 - left / len(pairs))

    others = min(count_threads(), len(pairs)) - 1
    with serial_products(), ThreadPoolExecutor(max(1, others)) as pool:
        running = [pool.submit(run, lambda _: None) for _ in range(others)]
        run(report)
        for future in running:
            future.result()


BUILDER = "symmetric"
#: Keys collected beyond the best k before a row is cut: as many as k, within these limits.
ROOM_MIN, ROOM_MAX = 32, 512
#: What merging a key costs beside a step of a kernel.
STEPS_PER_KEY = 16


class TileCandidates:
    """What some rows have found so far: the arrays that `compiled_tiles.select` writes to.

    Parameters
    ----------
    items : array of shape (m,), int32, ascending
        The rows' ids.
    owner : array of shape (n,), int32
        The group of every row, of one row alone where there are no groups.
    k : neighbours wanted
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
        """Add the similarities of a tile whose first row and column stand at these places."""
        if row == column:
            self._limit(tile, row)
        found = (self.keys, self.counts, self.limits, self.floors, self.k)
        kernel(tile, row, column, row != column, self.shifts, self.items, self.owner, *found)

    def _limit(self, tile: AnyArray, row: int) -> None:
        """Start the rows of a tile on the diagonal with what k of its own similarities reach, however many are its group's."""
        rank = tile.shape[1] - self.k - self._own
        if rank >= 0:
            rows = slice(row, row + len(tile))
            values = widen(tile) + self.shifts[rows, None] + self.shifts[rows]
            values.partition(rank, axis=1)
            self.limits[rows] = values[:, rank]

    def best(self) -> KeyArray:
        """The best k keys of each row, best first, `NO_KEY` where there are fewer: a view, and the end of the search."""

        def sort(part: slice) -> None:
            truncate_keys(self.keys, self.counts, self.k, part.start, part.stop)
            self.keys[part, : self.k].sort(axis=1)

        map_rows(sort, len(self.items), 4 * self.k)
        return self.keys[:, : self.k]


def widen(tile: AnyArray) -> Float32Array:
    """A tile's values as float32, where they are the bits of bfloat16."""
    wide = (tile.astype(np.uint32) << 16).view(np.float32) if tile.dtype == np.uint16 else tile
    return cast("Float32Array", wide)


@dataclass(frozen=True)
class TileTask:
    """Some tiles of a search: all that is needed to do them, in this process or in another one.

    Attributes
    ----------
    rows : access to the prepared rows; each block is read once, and all blocks of the part are held
    pairs : the tiles, by the numbers of their blocks
    k : neighbours wanted
    groups : array of shape (n,), int32; rows of one group are never each other's neighbours
    """

    rows: Rows
    pairs: Sequence[Pair]
    k: int
    groups: IdArray | None = None


@dataclass(frozen=True)
class Stripes:
    """The blocks of rows that some tiles are of, one behind the other.

    Attributes
    ----------
    items : array of shape (m,), int32, ascending
        The rows' ids.
    spans : each block's first row and the one behind its last
    edges : where each block begins among the m rows, and the last one's end
    pairs : the tiles, by the blocks' numbers among these
    """

    items: IdArray
    spans: list[tuple[int, int]]
    edges: list[int]
    pairs: list[Pair]

    @classmethod
    def of(cls, pairs: Sequence[Pair], n: int) -> Self:
        """Lay out the blocks of some tiles of n rows."""
        edges = block_edges(n)
        touched = sorted({block for pair in pairs for block in pair})
        spans = [(edges[block], edges[block + 1]) for block in touched]
        places = {block: place for place, block in enumerate(touched)}
        return cls(
            np.concatenate([np.arange(*span, dtype=np.int32) for span in spans]),
            spans,
            [0, *accumulate(stop - start for start, stop in spans)],
            [(places[i], places[j]) for i, j in pairs],
        )


@dataclass(frozen=True)
class PartialGraph:
    """What a part found, for the rows of its blocks.

    Attributes
    ----------
    items : array of shape (m,), int32, ascending
        The rows' ids.
    keys : array of shape (m, kept), uint64
        Similarities and ids (see `compiled_keys`), best first; `NO_KEY` where a row has found fewer.
    lengths : array of shape (m,), the rows' lengths where they are not known already
    """

    items: IdArray
    keys: KeyArray
    lengths: Float64Array | None = None


def build_symmetric(
    x: Float32Array, k_max: int, groups: IdArray | None = None, report: Callable[[int], None] | None = None
) -> NeighbourGraph:
    """Build the exact graph of the rows of x; the parameters are those of `neighbours.build_exact`.

    Returns
    -------
    NeighbourGraph, n^2 d multiply-adds and half of a flat search's time, O(n (k_max + d)) memory
    """
    if exponent := find_exponent(x):
        x = np.ldexp(x, exponent)
    part = TileTask(ArrayRows(x), all_pairs(count_blocks(len(x))), k_max, groups)
    found, lengths = _search(part, report)
    settled, certified = break_ties(
        x, found.items, found.best(), found.counts, rounded=RoundedRows.plain(x, lengths), k=k_max
    )
    search_unverified(part.rows, groups, settled, certified)
    if report is not None:
        report(len(x))
    return NeighbourGraph(settled.ids, settled.similarities, BUILDER)


def run_tile_task(part: TileTask) -> PartialGraph:
    """Do the tiles of a part: the candidates that its rows find in them."""
    found, lengths = _search(part, None)
    return PartialGraph(found.items, np.ascontiguousarray(found.best()), lengths)


def merge_partial_graphs(
    partials: Iterable[PartialGraph],
    rows: Rows,
    k_max: int,
    groups: IdArray | None = None,
    executor: Executor = LOCAL_EXECUTOR,
) -> NeighbourGraph:
    """Make one graph of parts that hold every tile once, in whatever order they come.

    Parameters
    ----------
    rows, k_max, groups : those of every part; each row must have k_max neighbours or more: n - 1, or n less the size of the
        largest group
    parts : where candidates are decided
    """
    n, lengths = rows.n, np.zeros(rows.n)
    keys = np.full((n, count_candidates(k_max, n)), NO_KEY)

    def told() -> Iterator[PartialGraph]:
        for found in partials:
            lengths[found.items] = found.lengths
            yield found

    merge_keys(told(), keys)
    rounded = RoundedRows.plain(np.empty((0, rows.dim), np.float32), lengths)
    settled, certified = break_ties_by_blocks(rows, keys, rounded, k_max, executor)
    search_unverified(rows, groups, settled, certified, executor)
    return NeighbourGraph(settled.ids, settled.similarities, BUILDER)


def merge_keys(partials: Iterable[PartialGraph], best: KeyArray) -> None:
    """Add what parts found to the best keys of every row, best first, in place."""
    for found in partials:
        map_rows(partial(_keep_best, best, found), len(found.items), STEPS_PER_KEY * best.shape[1])


def _keep_best(best: KeyArray, found: PartialGraph, part: slice) -> None:
    both = np.concatenate([best[found.items[part]], found.keys[part]], axis=1)
    both.sort(axis=1)
    best[found.items[part]] = both[:, : best.shape[1]]


def _search(part: TileTask, report: Callable[[int], None] | None) -> tuple[TileCandidates, Float64Array]:
    """Find the candidates of a part's rows; their lengths."""
    n = part.rows.n
    stripes = Stripes.of(part.pairs, n)
    owner = np.arange(n, dtype=np.int32) if part.groups is None else part.groups
    found = TileCandidates(stripes.items, owner, count_candidates(part.k, n))
    values = [part.rows.read(*span) for span in stripes.spans]

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
