"""Approximate neighbour graphs: an index proposes candidates, exact similarities rank them, and the recall is measured.

Ties and similarities are those of an exact graph; neighbours that the index does not propose are missing. Such a graph is never
called exact.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from consilience.errors import InvalidRequest
from consilience.limits import POINTS_PER_CENTROID, POINTS_PER_COLUMN, SAMPLE_MIN, TURN_ROUNDS
from consilience.numerics.knn.graph import NeighbourGraph, scale_exponent
from consilience.numerics.knn.order import NO_NEIGHBOUR, rank_rows
from consilience.numerics.knn.queries import search_queries
from consilience.numerics.rows.arrays import Float32Array, Float64Array, IdArray, RowIndex
from consilience.numerics.rows.parallel import map_rows
from consilience.numerics.rows.prepared import ArrayRows, Rows, blocks, scaled


def train_index(text: str, rows: Rows, seed: int) -> Any:
    """Create an index of inner products and train it on a sample of the rows, without adding rows.

    Raises
    ------
    InvalidRequest
        FAISS cannot create this index for these rows.
    """
    try:
        index = faiss.index_factory(rows.dim, text, faiss.METRIC_INNER_PRODUCT)
        kept = [_set_defaults(part) for part in _components(index)]
        wanted = max(SAMPLE_MIN, *(_training_rows(part) for part in _components(index)), POINTS_PER_COLUMN * rows.dim)
        with _threads(1):
            _train(index, _sample(rows, wanted, seed))
        del kept
    except RuntimeError as error:
        raise InvalidRequest(
            f"FAISS cannot create the index {text!r} for {rows.n} rows with {rows.dim} columns.",
            value=text,
            hint=f"FAISS reports: {str(error).rpartition('Error: ')[2].splitlines()[0]}",
            pointer="/builder/index",
        ) from error
    return index


def fill_index(index: Any, rows: Rows) -> None:
    """Add all rows to the index, block by block."""
    linked = any(isinstance(part, faiss.IndexHNSW) for part in _components(index, quantisers=False))
    with _threads(1 if linked else faiss.omp_get_max_threads()):
        for _, block in blocks(rows):
            index.add(block)


def set_effort(index: Any, effort: int | None, width: int) -> None:
    """Set the number of probed lists, or the search width of an HNSW graph (at least the number of candidates)."""
    for part in _components(index, quantisers=False):
        if isinstance(part, faiss.IndexIVF):
            part.nprobe = effort or 1
            quantiser = faiss.downcast_index(part.quantizer)
            if isinstance(quantiser, faiss.IndexHNSW):
                quantiser.hnsw.efSearch = max(64, 2 * part.nprobe)
        elif isinstance(part, faiss.IndexHNSW):
            part.hnsw.efSearch = max(effort or 1, width)


def _components(index: Any, *, quantisers: bool = True) -> Iterator[Any]:
    """Yield the index, its transforms, and the indices inside it."""
    index = faiss.downcast_index(index)
    yield index
    if isinstance(index, faiss.IndexPreTransform):
        chain: Any = index.chain
        yield from (faiss.downcast_VectorTransform(chain.at(i)) for i in range(chain.size()))
        yield from _components(index.index, quantisers=quantisers)
    if isinstance(index, faiss.IndexHNSW):
        yield from _components(index.storage, quantisers=quantisers)
    if quantisers and isinstance(index, faiss.IndexIVF):
        yield from _components(index.quantizer)


def _set_defaults(part: Any) -> Any:
    """Set what the factory leaves open; return an object that must live until the component is trained."""
    for words in (getattr(part, "cp", None), getattr(getattr(part, "pq", None), "cp", None)):
        if words is not None:
            words.min_points_per_centroid = 1  # no warning for fewer: the recall is measured
    if hasattr(part, "do_polysemous_training"):
        part.do_polysemous_training = False  # it would take most of the time, for an unused filter
    if isinstance(part, faiss.OPQMatrix):
        part.niter = TURN_ROUNDS
        quantiser = faiss.ProductQuantizer(part.d_out, part.M, 8)
        quantiser.cp.min_points_per_centroid = 1
        part.pq = quantiser
        return quantiser
    return None


def _training_rows(part: Any) -> int:
    """Return the number of rows to train a component on."""
    lists = part.nlist if isinstance(part, faiss.IndexIVF) else 0
    quantiser = getattr(part, "pq", None)
    return int(POINTS_PER_CENTROID * max(lists, quantiser.ksub if quantiser is not None else 0))


def _sample(rows: Rows, count: int, seed: int) -> Float32Array:
    if count >= rows.n:
        return rows.read(0, rows.n)
    drawn = np.random.default_rng(seed).choice(rows.n, count, replace=False)
    return rows.take(np.sort(drawn))


def _train(index: Any, sample: Float32Array) -> None:
    for part in _components(index):
        if isinstance(part, faiss.PCAMatrix):
            # It would subtract the mean row, which changes the order of inner products.
            part.train(sample)
            part.have_bias = False
    index.train(sample)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


#: Rows, positions of the queries, and positions of the candidates of each.
_LoadedRows = tuple[Float32Array, IdArray, IdArray]

#: Number of candidates beyond k, so that several equal ones are included.
EXTRA_CANDIDATES = 8
#: Number of values of candidates' rows gathered in one step: 128 MB.
GATHERED_VALUES = 1 << 25
#: Largest number of rows searched in one step, and of ids of their candidates.
BLOCK_ROWS = 4096
BLOCK_IDS = 1 << 22


@dataclass(frozen=True)
class IndexSearch:
    """Options of an approximate graph.

    Attributes
    ----------
    index : index-factory string of FAISS
    effort : number of inverted lists probed, or search width of an HNSW graph; None if every code is compared
    candidate_factor : number of candidates per neighbour, because codes rank them only roughly
    recall_queries : number of rows on which the recall is measured; at most all
    seed : seed of the training sample and of those rows
    """

    index: str
    effort: int | None
    candidate_factor: int = 1
    recall_queries: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class _Gallery:
    """All rows and the group of each; None: every row is its own group."""

    rows: Rows
    groups: IdArray | None

    def width(self, count: int) -> int:
        """Return the number of candidates of which `count` are left without the row's own group."""
        own = 1 if self.groups is None else int(np.bincount(self.groups).max())
        return min(self.rows.n, count + own + EXTRA_CANDIDATES)

    def rank(self, queries: RowIndex, candidates: RowIndex, k: int) -> tuple[IdArray, Float32Array]:
        """Return the k most similar candidates of some rows, without their own group; -1 for missing ones.

        Ids of shape (m, c) to (m, k).
        """
        owner = (lambda rows: rows) if self.groups is None else self.groups.__getitem__
        missing = (candidates < 0) | (owner(candidates) == owner(queries)[:, None])
        names = np.where(missing, NO_NEIGHBOUR, candidates).astype(np.int32)
        ids, similarities = np.empty((len(queries), k), np.int32), np.empty((len(queries), k), np.float32)
        for part in self._steps(names):
            rows, left, positions = self._load_rows(queries[part].astype(np.int32), names[part])

            def rank(span: slice, args: _LoadedRows = (rows, left, positions), first: int = part.start) -> None:
                x, query_rows, near = args
                whole = slice(first + span.start, first + span.stop)
                rank_rows(x, query_rows[span], near[span], names[whole], ids[whole], similarities[whole])

            map_rows(rank, len(left), positions.shape[1] * rows.shape[1])
        return ids, similarities

    def _steps(self, names: IdArray) -> list[slice]:
        """Return spans of rows whose candidates are loaded together."""
        m = len(names)
        step = m if isinstance(self.rows, ArrayRows) else max(1, GATHERED_VALUES // (names.shape[1] * self.rows.dim))
        return [slice(start, min(start + step, m)) for start in range(0, m, step)]

    def _load_rows(self, queries: IdArray, names: IdArray) -> _LoadedRows:
        """Load rows, with the positions of the queries and of their candidates; any position for no candidate."""
        needed = np.maximum(np.column_stack([queries, names]), 0)
        if isinstance(self.rows, ArrayRows):
            return self.rows.array, queries, np.ascontiguousarray(needed[:, 1:])
        wanted, inverse = np.unique(needed, return_inverse=True)
        positions: IdArray = inverse.reshape(needed.shape).astype(np.int32)
        return self.rows.take(wanted), np.ascontiguousarray(positions[:, 0]), np.ascontiguousarray(positions[:, 1:])

    def search(self, queries: RowIndex, k: int) -> tuple[IdArray, Float32Array]:
        """Return the exact neighbours of some rows."""
        found = search_queries(queries.astype(np.int32), self.rows, k, groups=self.groups)
        return found.ids[0], found.similarities[0]


def build_approximate(
    rows: Rows,
    k_max: int,
    search: IndexSearch,
    *,
    groups: IdArray | None = None,
    largest: float = 1.0,
    report: Callable[[int], None] | None = None,
) -> NeighbourGraph:
    """Build a graph from the candidates of an index and measure its recall.

    The index holds the rows or codes of them; beside it, only a sample and a block of rows are in memory. Rows with too few
    candidates are searched exactly.

    Parameters
    ----------
    rows : (n, d) float32
        Prepared rows.
    k_max : int, 1 <= k_max <= n - 1, or n less the size of the largest group
    search : IndexSearch
    groups : array of shape (n,), int32, optional
        Rows of one group are never neighbours of each other. None: every row is its own group.
    largest : float
        Upper bound of the absolute values of all rows: rows are scaled to about 1 for the index, since its codes may be
        half-precision numbers.
    report : callable, optional
        Called after each block with the number of rows searched.

    Returns
    -------
    NeighbourGraph, with its recall

    Raises
    ------
    InvalidRequest
        FAISS cannot create the index for these rows.
    """
    gallery = _Gallery(scaled(rows, scale_exponent(largest)), groups)
    ids, similarities = _propose(scaled(rows, 1 - int(np.frexp(largest)[1])), gallery, k_max, search, report)
    _complete(gallery, ids, similarities)
    sample = _draw_recall_queries(rows.n, search)
    recall = measure_recall(similarities[sample], gallery.search(sample, k_max)[1])
    return NeighbourGraph(ids, similarities, search.index, recall=tuple(recall.tolist()), recall_queries=len(sample))


def measure_recall(found: Float32Array, true: Float32Array) -> Float64Array:
    """Compute the share of the true first k neighbours among the first k found, for every k.

    A neighbour counts if its similarity is at least that of the true k-th one, so that it does not matter which of several
    equal ones was found.

    Parameters
    ----------
    found, true : arrays of shape (m, k_max), float32, descending
        Similarities of the neighbours found and of the true ones.

    Returns
    -------
    array of shape (k_max,), float64
    """
    ranks = np.arange(1, true.shape[1] + 1)
    hits = np.zeros(true.shape[1])
    for of_found, of_true in zip(found, true, strict=True):
        hits += np.minimum(ranks, np.searchsorted(-of_found, -of_true, side="right"))
    recall: Float64Array = hits / (ranks * len(true))
    return recall


def _propose(
    scaled: Rows, gallery: _Gallery, k_max: int, search: IndexSearch, report: Callable[[int], None] | None
) -> tuple[IdArray, Float32Array]:
    """Search the index for the candidates of every row, and rank them."""
    n, width = scaled.n, gallery.width(search.candidate_factor * k_max)
    index = train_index(search.index, scaled, search.seed)
    fill_index(index, scaled)
    set_effort(index, search.effort, width)
    ids, similarities = np.empty((n, k_max), np.int32), np.empty((n, k_max), np.float32)
    step = max(1, min(BLOCK_ROWS, BLOCK_IDS // width))
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        _, candidates = index.search(scaled.read(rows.start, rows.stop), width)
        ids[rows], similarities[rows] = gallery.rank(np.arange(rows.start, rows.stop), candidates, k_max)
        if report is not None:
            report(rows.stop)
    return ids, similarities


def _complete(gallery: _Gallery, ids: IdArray, similarities: Float32Array) -> None:
    """Search the rows with incomplete lists exactly, in place."""
    short = np.flatnonzero(ids[:, -1] < 0)
    for start in range(0, len(short), BLOCK_ROWS):
        rows = short[start : start + BLOCK_ROWS]
        ids[rows], similarities[rows] = gallery.search(rows, ids.shape[1])


def _draw_recall_queries(n: int, search: IndexSearch) -> RowIndex:
    """Draw the rows for measuring the recall, independently of the training sample."""
    if search.recall_queries >= n:
        return np.arange(n)
    rng = np.random.default_rng([search.seed, 1])
    return np.sort(rng.choice(n, search.recall_queries, replace=False))
