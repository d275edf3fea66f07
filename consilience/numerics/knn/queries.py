"""The exact neighbours of some rows among all rows, which are gone through by blocks and never held at once.

Rows that lie in galleries of fewer rows, each inside the next, can be told apart on the way: one pass gives the neighbours in
every one of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numba as nb
import numpy as np
import numpy.typing as npt

from consilience.numerics.knn.tile_kernels import NO_KEY, KeyArray, key_value, make_key, read_keys
from consilience.numerics.rows.arrays import Float32Array, IdArray
from consilience.numerics.rows.parallel import HERE, Parts, block_rows, map_rows, read_ahead
from consilience.numerics.rows.prepared import Rows

_TILE = nb.types.Array(nb.float32, 2, "C", readonly=True)
_ITEMS = nb.types.Array(nb.int32, 1, "C", readonly=True)
#: Columns looked at in one go: most hold nothing that is good enough.
_CHUNK = 64


@nb.njit(
    nb.void(_TILE, nb.int64, nb.int64, _ITEMS, _ITEMS, _ITEMS, nb.uint64[:, :], nb.int64[:], nb.uint64[:], nb.int64),
    cache=True,
    nogil=True,
)
def keep_best(  # noqa: PLR0917 - nested loops are what a kernel is, and compiled code takes no keywords
    tile: Float32Array,
    start: int,
    stop: int,
    ids: IdArray,
    groups: IdArray,
    own: IdArray,
    keys: KeyArray,
    counts: npt.NDArray[np.int64],
    floors: KeyArray,
    k: int,
) -> None:
    """Add the columns start to stop of a tile of similarities to the best of each row, in place.

    Parameters
    ----------
    tile : array of shape (q, b)
    ids, groups : arrays of shape (b,), the number and the group of each column's row
    own : array of shape (q,), the group of each row: its columns are left out
    keys : array of shape (q, w), w > k; the first `counts` of each row are candidates, among them its best k so far
    counts : array of shape (q,)
    floors : array of shape (q,), the worst of the best k so far, NO_KEY before there are k
    """
    width = keys.shape[1]
    for i in range(tile.shape[0]):
        floor, count, mine = floors[i], counts[i], own[i]
        least = np.float32(-np.inf) if floor == NO_KEY else key_value(floor)
        for first in range(start, stop, _CHUNK):
            last = min(first + _CHUNK, stop)
            chunk, hits = tile[i, first:last], np.int32(0)
            for c in range(len(chunk)):  # in this form the compiler looks at many columns at once
                hits |= np.int32(chunk[c] >= least)
            if hits == 0:
                continue
            for c in range(first, last):
                if tile[i, c] < least or groups[c] == mine:
                    continue
                key = make_key(tile[i, c], ids[c])
                if key > floor:
                    continue
                keys[i, count] = key
                count += 1
                if count == width:
                    keys[i, :] = np.sort(keys[i])
                    count = k
                    floor = keys[i, k - 1]
                    least = key_value(floor)
        floors[i], counts[i] = floor, count


#: Which gallery each row is first in: 0 the smallest.
RingArray = npt.NDArray[np.uint8]

#: Queries multiplied with a block at a time, so that their similarities stay in a processor's cache.
TILE_QUERIES = 1024
#: Values of the queries, and candidates of them, that one part holds.
PART_VALUES = 1 << 23
#: Multiply-adds of one part, a second or so, so that progress can be told and a lost part costs little.
PART_STEPS = 1e11
#: Blocks of the gallery in one part, at least.
PART_BLOCKS = 4
#: Candidates collected for each query beyond the k that are kept.
SLACK_MIN, SLACK_MAX = 16, 1024
#: The group that no row is in.
NOBODY = -1


@dataclass(frozen=True)
class Found:
    """Neighbours of m queries in each of S galleries, nearest first.

    Attributes
    ----------
    ids : array of shape (S, m, k), int32
        Row numbers, without the query's own; of equal similarities the smaller id first; -1 where a list ran out.
    similarities : array of shape (S, m, k), float32
        Of the rows as they were searched; 0 where a list ran out.
    """

    ids: IdArray
    similarities: Float32Array


@dataclass(frozen=True)
class Part:
    """Some queries against some rows of the gallery: all that is needed to search it anywhere.

    Attributes
    ----------
    gallery : access to all rows
    queries : ids of the rows that ask; where vectors ask, what is excluded from each one's neighbours: see `search_vectors`
    start, stop : the rows that answer
    k : neighbours kept for each query and ring
    own, groups : the group of each query, and of each row that answers; None: every row is a group of its own
    rings : the ring of each row that answers; None: there is one
    ring_count : number of rings
    vectors : what asks, where it is no row of the gallery; array of shape (m, d), float32
    """

    gallery: Rows
    queries: IdArray
    start: int
    stop: int
    k: int
    own: IdArray | None
    groups: IdArray | None
    rings: RingArray | None
    ring_count: int
    vectors: Float32Array | None = None


def search_queries(
    queries: IdArray,
    gallery: Rows,
    k: int,
    *,
    groups: IdArray | None = None,
    rings: RingArray | None = None,
    parts: Parts = HERE,
    report: Callable[[int], None] | None = None,
) -> Found:
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
    rings : array of shape (n,), uint8, optional
        Galleries: gallery s holds the rows whose ring is at most s. None: there is one, of all rows.
    parts : Parts
        Where the search runs.
    report : callable, optional
        Told how many rows have been gone through.

    Returns
    -------
    Found, for S galleries; O(m n d) time, O(m S (d + k)) memory beside the blocks
    """
    count = 1 if rings is None else int(rings.max()) + 1
    own = None if groups is None else groups[queries]
    places, split = _split(queries, gallery, k, own, groups, rings, count)
    best = np.full((count, len(queries), k), NO_KEY)
    _run(best, places, split, parts, report)
    for inner, outer in pairwise(range(count)):
        best[outer] = _best_of(best[inner], best[outer], k)
    return _decode(best)


def search_vectors(
    vectors: Float32Array,
    gallery: Rows,
    k: int,
    *,
    own: IdArray | None = None,
    groups: IdArray | None = None,
    parts: Parts = HERE,
    report: Callable[[int], None] | None = None,
) -> Found:
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
    excluded = np.full(len(vectors), NOBODY, np.int32) if own is None else own
    places, split = _split(excluded, gallery, k, excluded, groups, None, 1, vectors)
    best = np.full((1, len(vectors), k), NO_KEY)
    _run(best, places, split, parts, report)
    return _decode(best)


def _run(
    best: KeyArray, places: Sequence[slice], split: Sequence[Part], parts: Parts, report: Callable[[int], None] | None
) -> None:
    """Search every part, and keep the best of each query in place."""
    for done, (place, keys) in enumerate(zip(places, parts.map(search_part, split), strict=True), 1):
        best[:, place] = _best_of(best[:, place], keys, best.shape[2])
        if report is not None:
            report(split[0].gallery.n * done // len(split))


def _split(  # noqa: PLR0917 - what every part is told
    queries: IdArray,
    gallery: Rows,
    k: int,
    own: IdArray | None,
    groups: IdArray | None,
    rings: RingArray | None,
    count: int,
    vectors: Float32Array | None = None,
) -> tuple[list[slice], list[Part]]:
    """Cut queries and gallery into parts by their sizes alone; say which queries each part is about."""
    held = min(len(queries), max(1, PART_VALUES // max(gallery.dim, count * _width(k))))
    block = block_rows(gallery.dim)
    length = block * max(PART_BLOCKS, int(PART_STEPS / (held * gallery.dim * block)))
    places, split = [], []
    for first in range(0, len(queries), held):
        place = slice(first, min(first + held, len(queries)))
        for start in range(0, gallery.n, length):
            rows = slice(start, min(start + length, gallery.n))
            places.append(place)
            split.append(
                Part(
                    gallery=gallery,
                    queries=queries[place],
                    start=rows.start,
                    stop=rows.stop,
                    k=k,
                    own=None if own is None else own[place],
                    groups=None if groups is None else groups[rows],
                    rings=None if rings is None else rings[rows],
                    ring_count=count,
                    vectors=None if vectors is None else vectors[place],
                )
            )
    return places, split


def _width(k: int) -> int:
    """Candidates collected for each query before they are cut to the best k."""
    return k + min(max(k, SLACK_MIN), SLACK_MAX)


def search_part(part: Part) -> KeyArray:
    """Find the keys of the best k of a part, per ring and query: shape (rings, queries, k), best first, NO_KEY for none."""
    asking = _take_sorted(part.gallery, part.queries) if part.vectors is None else part.vectors
    own = part.queries if part.own is None else part.own
    shape = (part.ring_count, len(asking))
    keys, counts = np.full((*shape, _width(part.k)), NO_KEY), np.zeros(shape, np.int64)
    floors = np.full(shape, NO_KEY)
    tile = np.empty(TILE_QUERIES * min(block_rows(part.gallery.dim), part.stop - part.start), np.float32)
    for _, block in read_ahead(partial(_read, part), slice(part.start, part.stop), block_rows(part.gallery.dim)):
        for first in range(0, len(asking), TILE_QUERIES):
            rows = slice(first, min(first + TILE_QUERIES, len(asking)))
            shape = (rows.stop - rows.start, len(block.ids))
            products = np.matmul(asking[rows], block.rows.T, out=tile[: shape[0] * shape[1]].reshape(shape))
            _keep(products, block, own[rows], keys[:, rows], counts[:, rows], floors[:, rows], part.k)
    return _first(keys, counts, part.k)


@dataclass(frozen=True)
class _Block:
    """Rows of the gallery; those of one ring lie side by side, from one edge to the next."""

    rows: Float32Array
    ids: IdArray
    groups: IdArray
    edges: Sequence[int]


def _read(part: Part, start: int, stop: int) -> _Block:
    rows = part.gallery.read(start, stop)
    ids = np.arange(start, stop, dtype=np.int32)
    here = slice(start - part.start, stop - part.start)
    groups = ids if part.groups is None else part.groups[here]
    if part.rings is None:
        return _Block(rows, ids, groups, (0, len(rows)))
    rings = part.rings[here]
    order = np.argsort(rings, kind="stable")
    edges = np.searchsorted(rings[order], np.arange(part.ring_count + 1))
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
    own: IdArray,
    keys: KeyArray,
    counts: npt.NDArray[np.int64],
    floors: KeyArray,
    k: int,
) -> None:
    """Put a tile's best similarities beside the best so far, ring by ring, on several threads."""

    def keep(rows: slice) -> None:
        for ring, (start, stop) in enumerate(pairwise(block.edges)):
            if start < stop:
                kept = (keys[ring, rows], counts[ring, rows], floors[ring, rows])
                keep_best(products[rows], start, stop, block.ids, block.groups, own[rows], *kept, k)

    map_rows(keep, len(products), products.shape[1])


def _first(keys: KeyArray, counts: npt.NDArray[np.int64], k: int) -> KeyArray:
    """Sort the candidates of each row and cut them to k, best first."""
    keys[np.arange(keys.shape[2]) >= counts[:, :, None]] = NO_KEY
    keys.sort(axis=2)
    return np.ascontiguousarray(keys[:, :, :k])


def _best_of(one: KeyArray, other: KeyArray, k: int) -> KeyArray:
    """The best k of two sets of keys, best first: whichever of them came first."""
    both = np.concatenate([one, other], axis=-1)
    both.sort(axis=-1)
    return both[..., :k]


def _decode(keys: KeyArray) -> Found:
    """Ids and similarities of keys."""
    ids, similarities = np.empty(keys.shape, np.int32), np.empty(keys.shape, np.float32)
    for gallery in range(len(keys)):
        read_keys(keys[gallery], 0, keys.shape[1], ids[gallery], similarities[gallery])
    similarities[keys == NO_KEY] = 0
    return Found(ids, similarities)
