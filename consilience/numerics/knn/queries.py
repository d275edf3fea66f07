"""Exact neighbours of query rows or vectors among all rows, which are read by blocks and never all in memory.

Galleries can be nested, each inside the next: one pass gives the neighbours in every gallery.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Self

import numba as nb
import numpy as np
import numpy.typing as npt

from consilience.numerics.knn.bounds import bound_errors, measure_lengths
from consilience.numerics.knn.order import NO_NEIGHBOUR, inner_product, merge_neighbours, sort_neighbours
from consilience.numerics.knn.tile_kernels import KeyArray, key_item, key_value, make_key, partition
from consilience.numerics.rows.arrays import Float32Array, Float64Array, IdArray
from consilience.numerics.rows.parallel import LOCAL_EXECUTOR, Executor, block_rows, map_rows, prefetch_blocks
from consilience.numerics.rows.prepared import Rows

_TILE = nb.types.Array(nb.float32, 2, "C", readonly=True)
_ITEMS = nb.types.Array(nb.int32, 1, "C", readonly=True)
_ERRORS = nb.types.Array(nb.float64, 1, "C", readonly=True)
#: Number of columns compared at once: most contain no candidate.
_CHUNK = 64
#: Smallest and largest number of candidates beyond k that are collected before the limit is raised.
_ROOM_MIN, _ROOM_MAX = 16, 1024


@nb.njit(nogil=True)
def _drop_below(keys: KeyArray, count: int, limit: np.float32) -> int:
    """Remove the candidates below a limit and return the number of those left."""
    left = 0
    for t in range(count):
        if key_value(keys[0, t]) >= limit:
            keys[0, left] = keys[0, t]
            left += 1
    return left


@nb.njit(
    nb.void(
        *(_TILE, nb.int64, nb.int64, _TILE, _TILE, _ITEMS, _ITEMS, _ITEMS, _ERRORS),
        *(nb.int32[:, :], nb.float64[:, :]),
    ),
    cache=True,
    nogil=True,
)
def keep_best(  # noqa: C901, PLR0917 - nested loops are what a kernel is, and compiled code takes no keywords
    tile: Float32Array,
    start: int,
    stop: int,
    queries: Float32Array,
    rows: Float32Array,
    items: IdArray,
    groups: IdArray,
    own: IdArray,
    errors: Float64Array,
    ids: IdArray,
    similarities: Float64Array,
) -> None:
    """Update the best neighbours of each query with the columns start to stop of a tile of products, in place.

    Parameters
    ----------
    tile : array of shape (q, b)
    queries, rows : arrays of shape (q, d) and (b, d), the factors of the products
    items, groups : arrays of shape (b,), id and group of each column's row
    own : array of shape (q,), group of each query, whose columns are excluded
    errors : array of shape (q,), error bound of each query's products
    ids, similarities : arrays of shape (q, k), the best neighbours of each query so far, best first; -1 and minus infinity for
        none
    """
    k = ids.shape[1]
    first_room = k + min(max(k, _ROOM_MIN), _ROOM_MAX)
    keys = np.empty((1, stop - start), np.uint64)
    found, names = np.empty(k + stop - start), np.empty(k + stop - start, np.int32)
    order, buffer = np.empty(k + stop - start, np.int32), np.empty(k + stop - start, np.int32)
    for i in range(tile.shape[0]):
        limit, count, room, mine = np.float32(similarities[i, k - 1] - errors[i]), 0, first_room, own[i]
        for first in range(start, stop, _CHUNK):
            last = min(first + _CHUNK, stop)
            chunk, hits = tile[i, first:last], np.int32(0)
            for c in range(len(chunk)):  # in this form the compiler compares many columns at once
                hits |= np.int32(chunk[c] >= limit)
            if hits == 0:
                continue
            for c in range(first, last):
                if tile[i, c] < limit or groups[c] == mine:
                    continue
                keys[0, count] = make_key(tile[i, c], c)
                count += 1
                if count == room:
                    # The k best are not below this, so that every better candidate reaches the limit.
                    partition(keys, 0, count, k)
                    limit = max(limit, np.float32(key_value(keys[0, k - 1]) - 2 * errors[i]))
                    count = _drop_below(keys, count, limit)
                    room = max(first_room, 2 * count)
        if count > k:
            partition(keys, 0, count, k)
            limit = max(limit, np.float32(key_value(keys[0, k - 1]) - 2 * errors[i]))
            count = _drop_below(keys, count, limit)
        if count == 0:
            continue
        for t in range(k):
            found[t], names[t] = similarities[i, t], ids[i, t]
        for t in range(count):
            column = key_item(keys[0, t])
            found[k + t], names[k + t] = inner_product(queries, i, rows, column), items[column]
        order[: k + count] = np.arange(k + count)
        sort_neighbours(order, 0, k + count, found, names, buffer)
        for t in range(k):
            similarities[i, t], ids[i, t] = found[order[t]], names[order[t]]


#: Number of the smallest gallery that contains each row, from 0.
GalleryArray = npt.NDArray[np.uint8]

#: Number of queries multiplied with a block at a time, so that their similarities fit in a processor's cache.
TILE_QUERIES = 1024
#: Number of values of queries, or of their candidates, per task.
PART_VALUES = 1 << 23
#: Multiply-adds per task, about a second, so that progress can be reported and a lost task costs little.
PART_STEPS = 1e11
#: Smallest number of gallery blocks per task.
PART_BLOCKS = 4

#: Number of no group.
NO_GROUP = -1


@dataclass(frozen=True)
class Neighbours:
    """Neighbours of m queries in each of S galleries, nearest first.

    Attributes
    ----------
    ids : array of shape (S, m, k), int32
        Row numbers, without the query's own, in the order of `order.precedes`; -1 at the end of an incomplete list.
    similarities : array of shape (S, m, k), float32
        Similarities of the searched (possibly scaled) rows; 0 at the end of an incomplete list.
    """

    ids: IdArray
    similarities: Float32Array


@dataclass(frozen=True)
class NearestSoFar:
    """Best neighbours of m queries so far in each of S galleries, best first.

    Attributes
    ----------
    ids : array of shape (S, m, k), int32; -1 for no neighbour
    similarities : array of shape (S, m, k), float64; minus infinity for no neighbour
    """

    ids: IdArray
    similarities: Float64Array

    @classmethod
    def empty(cls, galleries: int, m: int, k: int) -> Self:
        """Create the state at the start of a search."""
        return cls(np.full((galleries, m, k), NO_NEIGHBOUR, np.int32), np.full((galleries, m, k), -np.inf))

    def result(self) -> Neighbours:
        """Return the result of the search."""
        similarities = self.similarities.astype(np.float32)
        similarities[self.ids == NO_NEIGHBOUR] = 0
        return Neighbours(self.ids, similarities)


@dataclass(frozen=True)
class SearchTask:
    """Task: search some queries among some rows of the gallery, in any process.

    Attributes
    ----------
    gallery : access to all rows
    queries : ids of the query rows; for query vectors, the row or group excluded for each: see `search_vectors`
    start, stop : range of gallery rows
    k : number of neighbours per query and gallery
    own, groups : group of each query, and of each gallery row; None: every row is its own group
    galleries : smallest gallery of each row; None: there is one gallery
    gallery_count : number of galleries
    vectors : query vectors that are no rows of the gallery; array of shape (m, d), float32
    """

    gallery: Rows
    queries: IdArray
    start: int
    stop: int
    k: int
    own: IdArray | None
    groups: IdArray | None
    galleries: GalleryArray | None
    gallery_count: int
    vectors: Float32Array | None = None


def search_queries(
    queries: IdArray,
    gallery: Rows,
    k: int,
    *,
    groups: IdArray | None = None,
    galleries: GalleryArray | None = None,
    executor: Executor = LOCAL_EXECUTOR,
    report: Callable[[int], None] | None = None,
) -> Neighbours:
    """Find the exact k nearest other rows of each query, by inner product.

    Parameters
    ----------
    queries : array of shape (m,), int32
        Ids of the query rows.
    gallery : Rows
        All n rows, read by blocks; each block is read while the previous one is multiplied.
    k : int, k >= 1
    groups : array of shape (n,), int32, optional
        Rows of one group are never neighbours of each other. None: every row is its own group.
    galleries : array of shape (n,), uint8, optional
        Smallest gallery of each row: gallery s contains the rows with a value of at most s. None: one gallery of all rows.
    executor : Executor
        Runs the tasks of the search.
    report : callable, optional
        Called with the number of rows searched.

    Returns
    -------
    Neighbours, for S galleries; O(m n d) time, O(m S (d + k)) memory beside the blocks
    """
    count = 1 if galleries is None else int(galleries.max()) + 1
    own = None if groups is None else groups[queries]
    spans, tasks = _split_tasks(queries, gallery, k, own, groups, galleries, count)
    best = NearestSoFar.empty(count, len(queries), k)
    _run_tasks(best, spans, tasks, executor, report)
    for inner, outer in pairwise(range(count)):
        merge_neighbours(best.ids[outer], best.similarities[outer], best.ids[inner], best.similarities[inner])
    return best.result()


def search_vectors(
    vectors: Float32Array,
    gallery: Rows,
    k: int,
    *,
    own: IdArray | None = None,
    groups: IdArray | None = None,
    executor: Executor = LOCAL_EXECUTOR,
    report: Callable[[int], None] | None = None,
) -> Neighbours:
    """Find the exact k nearest rows of each vector, by inner product.

    Parameters
    ----------
    vectors : array of shape (m, d), float32
    gallery, k, groups, executor, report : as in `search_queries`
    own : array of shape (m,), int32, optional
        The row, or with groups the group, to exclude from each vector's neighbours; -1 for none. None: nothing is excluded.

    Returns
    -------
    Neighbours, for one gallery
    """
    excluded = np.full(len(vectors), NO_GROUP, np.int32) if own is None else own
    spans, tasks = _split_tasks(excluded, gallery, k, excluded, groups, None, 1, vectors)
    best = NearestSoFar.empty(1, len(vectors), k)
    _run_tasks(best, spans, tasks, executor, report)
    return best.result()


def _run_tasks(
    best: NearestSoFar,
    spans: Sequence[slice],
    tasks: Sequence[SearchTask],
    executor: Executor,
    report: Callable[[int], None] | None,
) -> None:
    """Run every task and update the best neighbours of each query in place."""
    for done, (span, found) in enumerate(zip(spans, executor.map(run_search_task, tasks), strict=True), 1):
        for number in range(len(best.ids)):
            kept = (best.ids[number, span], best.similarities[number, span])
            merge_neighbours(*kept, found.ids[number], found.similarities[number])
        if report is not None:
            report(tasks[0].gallery.n * done // len(tasks))


def _split_tasks(  # noqa: PLR0917 - the fields of every task
    queries: IdArray,
    gallery: Rows,
    k: int,
    own: IdArray | None,
    groups: IdArray | None,
    galleries: GalleryArray | None,
    count: int,
    vectors: Float32Array | None = None,
) -> tuple[list[slice], list[SearchTask]]:
    """Split queries and gallery into tasks by their sizes only; return the range of queries of each task too."""
    held = min(len(queries), max(1, PART_VALUES // max(gallery.dim, 2 * count * k)))
    block = block_rows(gallery.dim)
    length = block * max(PART_BLOCKS, int(PART_STEPS / (held * gallery.dim * block)))
    spans, tasks = [], []
    for first in range(0, len(queries), held):
        span = slice(first, min(first + held, len(queries)))
        for start in range(0, gallery.n, length):
            rows = slice(start, min(start + length, gallery.n))
            spans.append(span)
            tasks.append(
                SearchTask(
                    gallery=gallery,
                    queries=queries[span],
                    start=rows.start,
                    stop=rows.stop,
                    k=k,
                    own=None if own is None else own[span],
                    groups=None if groups is None else groups[rows],
                    galleries=None if galleries is None else galleries[rows],
                    gallery_count=count,
                    vectors=None if vectors is None else vectors[span],
                )
            )
    return spans, tasks


def run_search_task(task: SearchTask) -> NearestSoFar:
    """Find the best k rows of a task, per gallery and query."""
    queries = _take_sorted(task.gallery, task.queries) if task.vectors is None else task.vectors
    own, lengths = task.queries if task.own is None else task.own, measure_lengths(queries)
    found = NearestSoFar.empty(task.gallery_count, len(queries), task.k)
    tile = np.empty(TILE_QUERIES * min(block_rows(task.gallery.dim), task.stop - task.start), np.float32)
    for _, block in prefetch_blocks(partial(_read, task), slice(task.start, task.stop), block_rows(task.gallery.dim)):
        errors = bound_errors(lengths, measure_lengths(block.rows), task.gallery.dim)
        for first in range(0, len(queries), TILE_QUERIES):
            rows = slice(first, min(first + TILE_QUERIES, len(queries)))
            shape = (rows.stop - rows.start, len(block.ids))
            products = np.matmul(queries[rows], block.rows.T, out=tile[: shape[0] * shape[1]].reshape(shape))
            best = (found.ids[:, rows], found.similarities[:, rows])
            _keep(products, block, queries[rows], own[rows], errors[rows], *best)
    return found


@dataclass(frozen=True)
class _Block:
    """Rows of the gallery, sorted by their smallest gallery; `edges` are the ends of each of these."""

    rows: Float32Array
    ids: IdArray
    groups: IdArray
    edges: Sequence[int]


def _read(task: SearchTask, start: int, stop: int) -> _Block:
    rows = task.gallery.read(start, stop)
    ids = np.arange(start, stop, dtype=np.int32)
    local = slice(start - task.start, stop - task.start)
    groups = ids if task.groups is None else task.groups[local]
    if task.galleries is None:
        return _Block(rows, ids, groups, (0, len(rows)))
    galleries = task.galleries[local]
    order = np.argsort(galleries, kind="stable")
    edges = np.searchsorted(galleries[order], np.arange(task.gallery_count + 1))
    return _Block(rows[order], ids[order], groups[order], edges.tolist())


def _take_sorted(gallery: Rows, ids: IdArray) -> Float32Array:
    """Return rows in the order of the ids, read in the order of the rows."""
    order = np.argsort(ids, kind="stable")
    taken = np.empty((len(ids), gallery.dim), np.float32)
    taken[order] = gallery.take(ids[order])
    return taken


def _keep(  # noqa: PLR0917 - the arguments of a kernel
    products: Float32Array,
    block: _Block,
    queries: Float32Array,
    own: IdArray,
    errors: Float64Array,
    ids: IdArray,
    similarities: Float64Array,
) -> None:
    """Update the best neighbours with a tile of products, gallery by gallery, on several threads."""

    def keep(rows: slice) -> None:
        for number, (start, stop) in enumerate(pairwise(block.edges)):
            if start < stop:
                operands = (queries[rows], block.rows, block.ids, block.groups, own[rows], errors[rows])
                keep_best(products[rows], start, stop, *operands, ids[number, rows], similarities[number, rows])

    map_rows(keep, len(products), products.shape[1])
