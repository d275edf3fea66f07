"""The exact neighbours of some rows among all rows, which are gone through by blocks and never held at once.

Rows that lie in galleries of fewer rows, each inside the next, can be told apart on the way: one pass gives the neighbours in
every one of them.
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
#: Columns looked at in one go: most hold nothing that is good enough.
_CHUNK = 64
#: Candidates beyond k that are collected before the limit is raised.
_ROOM_MIN, _ROOM_MAX = 16, 1024


@nb.njit(nogil=True)
def _drop_below(keys: KeyArray, count: int, limit: np.float32) -> int:
    """Drop the candidates that do not reach a limit; how many are left."""
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
    asking: Float32Array,
    rows: Float32Array,
    items: IdArray,
    groups: IdArray,
    own: IdArray,
    errors: Float64Array,
    ids: IdArray,
    similarities: Float64Array,
) -> None:
    """Add the columns start to stop of a tile of products to the best of each row, in place.

    Parameters
    ----------
    tile : array of shape (q, b)
    asking, rows : arrays of shape (q, d) and (b, d), whose products it holds
    items, groups : arrays of shape (b,), the id and the group of each column's row
    own : array of shape (q,), the group of each row that asks: its columns are left out
    errors : array of shape (q,), how far a row's products can be off
    ids, similarities : arrays of shape (q, k), the best of each row so far, best first; id -1 and minus infinity for none
    """
    k = ids.shape[1]
    first_room = k + min(max(k, _ROOM_MIN), _ROOM_MAX)
    keys = np.empty((1, stop - start), np.uint64)
    found, names = np.empty(k + stop - start), np.empty(k + stop - start, np.int32)
    order, spare = np.empty(k + stop - start, np.int32), np.empty(k + stop - start, np.int32)
    for i in range(tile.shape[0]):
        limit, count, room, mine = np.float32(similarities[i, k - 1] - errors[i]), 0, first_room, own[i]
        for first in range(start, stop, _CHUNK):
            last = min(first + _CHUNK, stop)
            chunk, hits = tile[i, first:last], np.int32(0)
            for c in range(len(chunk)):  # in this form the compiler looks at many columns at once
                hits |= np.int32(chunk[c] >= limit)
            if hits == 0:
                continue
            for c in range(first, last):
                if tile[i, c] < limit or groups[c] == mine:
                    continue
                keys[0, count] = make_key(tile[i, c], c)
                count += 1
                if count == room:
                    # The k best of them are no worse than this, so that whatever is better reaches the limit.
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
            found[k + t], names[k + t] = inner_product(asking, i, rows, column), items[column]
        order[: k + count] = np.arange(k + count)
        sort_neighbours(order, 0, k + count, found, names, spare)
        for t in range(k):
            similarities[i, t], ids[i, t] = found[order[t]], names[order[t]]


#: Which gallery each row is first in: 0 the smallest.
GalleryArray = npt.NDArray[np.uint8]

#: Queries multiplied with a block at a time, so that their similarities stay in a processor's cache.
TILE_QUERIES = 1024
#: Values of the queries, and candidates of them, that one part holds.
PART_VALUES = 1 << 23
#: Multiply-adds of one part, a second or so, so that progress can be told and a lost part costs little.
PART_STEPS = 1e11
#: Blocks of the gallery in one part, at least.
PART_BLOCKS = 4

#: The group that no row is in.
NO_GROUP = -1


@dataclass(frozen=True)
class Neighbours:
    """Neighbours of m queries in each of S galleries, nearest first.

    Attributes
    ----------
    ids : array of shape (S, m, k), int32
        Row numbers, without the query's own, in the order of `compiled_order`; -1 where a list ran out.
    similarities : array of shape (S, m, k), float32
        Of the rows as they were searched; 0 where a list ran out.
    """

    ids: IdArray
    similarities: Float32Array


@dataclass(frozen=True)
class NearestSoFar:
    """What m queries have found so far in each of S galleries, best first.

    Attributes
    ----------
    ids : array of shape (S, m, k), int32; -1 where fewer have been found
    similarities : array of shape (S, m, k), float64; minus infinity there
    """

    ids: IdArray
    similarities: Float64Array

    @classmethod
    def none(cls, galleries: int, m: int, k: int) -> Self:
        """Nothing has been found."""
        return cls(np.full((galleries, m, k), NO_NEIGHBOUR, np.int32), np.full((galleries, m, k), -np.inf))

    def rounded(self) -> Neighbours:
        """Give the end of the search."""
        similarities = self.similarities.astype(np.float32)
        similarities[self.ids == NO_NEIGHBOUR] = 0
        return Neighbours(self.ids, similarities)


@dataclass(frozen=True)
class SearchTask:
    """Some queries against some rows of the gallery: all that is needed to search it anywhere.

    Attributes
    ----------
    gallery : access to all rows
    queries : ids of the rows that ask; where vectors ask, what is excluded from each one's neighbours: see `search_vectors`
    start, stop : the rows that answer
    k : neighbours kept for each query and gallery_number
    own, groups : the group of each query, and of each row that answers; None: every row is a group of its own
    galleries : the gallery_number of each row that answers; None: there is one
    gallery_count : number of galleries
    vectors : what asks, where it is no row of the gallery; array of shape (m, d), float32
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
        Ids of the rows that ask.
    gallery : Rows
        All n rows; they are read by blocks, each block while the one before it is multiplied.
    k : int, k >= 1
    groups : array of shape (n,), int32, optional
        Rows of one group are never each other's neighbours. None: every row is a group of its own.
    galleries : array of shape (n,), uint8, optional
        Galleries: gallery s holds the rows whose gallery_number is at most s. None: there is one, of all rows.
    parts : Parts
        Where the search runs.
    report : callable, optional
        Told how many rows have been gone through.

    Returns
    -------
    Found, for S galleries; O(m n d) time, O(m S (d + k)) memory beside the blocks
    """
    count = 1 if galleries is None else int(galleries.max()) + 1
    own = None if groups is None else groups[queries]
    places, split = _split_tasks(queries, gallery, k, own, groups, galleries, count)
    best = NearestSoFar.none(count, len(queries), k)
    _run_tasks(best, places, split, executor, report)
    for inner, outer in pairwise(range(count)):
        merge_neighbours(best.ids[outer], best.similarities[outer], best.ids[inner], best.similarities[inner])
    return best.rounded()


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
    gallery, k, groups, parts, report : as for `search_queries`
    own : array of shape (m,), int32, optional
        The row, or with groups the group, that is no neighbour of the vector; -1 for none. None: nothing is excluded.

    Returns
    -------
    Found, for one gallery
    """
    excluded = np.full(len(vectors), NO_GROUP, np.int32) if own is None else own
    places, split = _split_tasks(excluded, gallery, k, excluded, groups, None, 1, vectors)
    best = NearestSoFar.none(1, len(vectors), k)
    _run_tasks(best, places, split, executor, report)
    return best.rounded()


def _run_tasks(
    best: NearestSoFar,
    places: Sequence[slice],
    split: Sequence[SearchTask],
    executor: Executor,
    report: Callable[[int], None] | None,
) -> None:
    """Search every part, and keep the best of each query in place."""
    for done, (place, found) in enumerate(zip(places, executor.map(run_search_task, split), strict=True), 1):
        for gallery_number in range(len(best.ids)):
            kept = (best.ids[gallery_number, place], best.similarities[gallery_number, place])
            merge_neighbours(*kept, found.ids[gallery_number], found.similarities[gallery_number])
        if report is not None:
            report(split[0].gallery.n * done // len(split))


def _split_tasks(  # noqa: PLR0917 - what every part is told
    queries: IdArray,
    gallery: Rows,
    k: int,
    own: IdArray | None,
    groups: IdArray | None,
    galleries: GalleryArray | None,
    count: int,
    vectors: Float32Array | None = None,
) -> tuple[list[slice], list[SearchTask]]:
    """Cut queries and gallery into parts by their sizes alone; say which queries each part is about."""
    held = min(len(queries), max(1, PART_VALUES // max(gallery.dim, 2 * count * k)))
    block = block_rows(gallery.dim)
    length = block * max(PART_BLOCKS, int(PART_STEPS / (held * gallery.dim * block)))
    places, split = [], []
    for first in range(0, len(queries), held):
        place = slice(first, min(first + held, len(queries)))
        for start in range(0, gallery.n, length):
            rows = slice(start, min(start + length, gallery.n))
            places.append(place)
            split.append(
                SearchTask(
                    gallery=gallery,
                    queries=queries[place],
                    start=rows.start,
                    stop=rows.stop,
                    k=k,
                    own=None if own is None else own[place],
                    groups=None if groups is None else groups[rows],
                    galleries=None if galleries is None else galleries[rows],
                    gallery_count=count,
                    vectors=None if vectors is None else vectors[place],
                )
            )
    return places, split


def run_search_task(part: SearchTask) -> NearestSoFar:
    """Find the best k rows of a part, per gallery_number and query."""
    asking = _take_sorted(part.gallery, part.queries) if part.vectors is None else part.vectors
    own, lengths = part.queries if part.own is None else part.own, measure_lengths(asking)
    found = NearestSoFar.none(part.gallery_count, len(asking), part.k)
    tile = np.empty(TILE_QUERIES * min(block_rows(part.gallery.dim), part.stop - part.start), np.float32)
    for _, block in prefetch_blocks(partial(_read, part), slice(part.start, part.stop), block_rows(part.gallery.dim)):
        errors = bound_errors(lengths, measure_lengths(block.rows), part.gallery.dim)
        for first in range(0, len(asking), TILE_QUERIES):
            rows = slice(first, min(first + TILE_QUERIES, len(asking)))
            shape = (rows.stop - rows.start, len(block.ids))
            products = np.matmul(asking[rows], block.rows.T, out=tile[: shape[0] * shape[1]].reshape(shape))
            best = (found.ids[:, rows], found.similarities[:, rows])
            _keep(products, block, asking[rows], own[rows], errors[rows], *best)
    return found


@dataclass(frozen=True)
class _Block:
    """Rows of the gallery; those of one gallery_number lie side by side, from one edge to the next."""

    rows: Float32Array
    ids: IdArray
    groups: IdArray
    edges: Sequence[int]


def _read(part: SearchTask, start: int, stop: int) -> _Block:
    rows = part.gallery.read(start, stop)
    ids = np.arange(start, stop, dtype=np.int32)
    here = slice(start - part.start, stop - part.start)
    groups = ids if part.groups is None else part.groups[here]
    if part.galleries is None:
        return _Block(rows, ids, groups, (0, len(rows)))
    galleries = part.galleries[here]
    order = np.argsort(galleries, kind="stable")
    edges = np.searchsorted(galleries[order], np.arange(part.gallery_count + 1))
    return _Block(rows[order], ids[order], groups[order], edges.tolist())


def _take_sorted(gallery: Rows, ids: IdArray) -> Float32Array:
    """Rows in the ids' order, read in the order in which they lie."""
    order = np.argsort(ids, kind="stable")
    taken = np.empty((len(ids), gallery.dim), np.float32)
    taken[order] = gallery.take(ids[order])
    return taken


def _keep(  # noqa: PLR0917 - what a kernel is told
    products: Float32Array,
    block: _Block,
    asking: Float32Array,
    own: IdArray,
    errors: Float64Array,
    ids: IdArray,
    similarities: Float64Array,
) -> None:
    """Put a tile's best similarities beside the best so far, gallery_number by gallery_number, on several threads."""

    def keep(rows: slice) -> None:
        for gallery_number, (start, stop) in enumerate(pairwise(block.edges)):
            if start < stop:
                asked = (asking[rows], block.rows, block.ids, block.groups, own[rows], errors[rows])
                keep_best(products[rows], start, stop, *asked, ids[gallery_number, rows], similarities[gallery_number, rows])

    map_rows(keep, len(products), products.shape[1])
