"""Query sets, and their searches of the old and of the new index."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consilience.maps.fit import TrainTestSplit
from consilience.metrics.comparison import Report
from consilience.numerics.knn.queries import NO_GROUP, search_vectors
from consilience.numerics.regression.maps import Transform
from consilience.numerics.rows.arrays import Float32Array, IdArray
from consilience.numerics.rows.parallel import Executor
from consilience.numerics.rows.prepared import PreparedRows, scale_to_unit
from consilience.numerics.rows.sources import RawLayer

#: Streams of the seed for the samples of documents and of queries; they differ from the streams of a fit.
_DOCUMENT_STREAM, _QUERY_STREAM = 11, 12
RowNumbers = npt.NDArray[np.intp]


@dataclass(frozen=True)
class QuerySet:
    """Query rows, as vectors of length 1 of both models.

    Attributes
    ----------
    rows : array of shape (m,), their row numbers
    old, new : arrays of shape (m, p) and (m, q), float32
    excluded : array of shape (m,), int32
        The document, or with groups the group, that is never a result of the query; -1 for none.
    """

    rows: RowNumbers
    old: Float32Array
    new: Float32Array
    excluded: IdArray

    def first(self, count: int) -> "QuerySet":
        """Return the first queries."""
        return QuerySet(self.rows[:count], self.old[:count], self.new[:count], self.excluded[:count])


def sample_documents(split: TrainTestSplit, max_documents: int) -> tuple[QuerySet, int]:
    """Sample documents as queries, held-out ones first; also return the number of held-out ones."""
    rng = np.random.default_rng([split.options.seed, _DOCUMENT_STREAM])
    held_out = rng.permutation(np.flatnonzero(split.is_test))
    rows = np.concatenate([held_out, rng.permutation(split.train_rows)])[:max_documents]
    new, old = (side.take(rows) for side in split.rows)
    excluded = rows.astype(np.int32) if split.groups is None else split.groups[rows]
    return QuerySet(rows, old, new, excluded), min(len(held_out), max_documents)


def sample_queries(old: RawLayer, new: RawLayer, among: RowNumbers, max_queries: int, seed: int) -> QuerySet:
    """Sample queries from some rows of their two sides."""
    rows = np.random.default_rng([seed, _QUERY_STREAM]).permutation(among)[:max_queries]
    sides = [PreparedRows(layer).take(rows) for layer in (old, new)]
    return QuerySet(rows, sides[0], sides[1], np.full(len(rows), NO_GROUP, np.int32))


@dataclass(frozen=True)
class SearchResult:
    """Nearest documents of each query: ids and cosine similarities, arrays of shape (m, k)."""

    ids: IdArray
    similarities: Float32Array

    def first(self, count: int) -> "SearchResult":
        """Return the results of the first queries."""
        return SearchResult(self.ids[:count], self.similarities[:count])


@dataclass(frozen=True)
class QueryBlock:
    """Query vectors under one name; several blocks share one pass over an index."""

    name: str
    vectors: Float32Array
    excluded: IdArray


def search_index(
    index: PreparedRows,
    blocks: Sequence[QueryBlock],
    k: int,
    groups: IdArray | None,
    *,
    executor: Executor,
    report: Callable[[int], None],
) -> dict[str, SearchResult]:
    """Find the exact k nearest documents of every query of all blocks, in one pass over the index."""
    vectors = np.concatenate([block.vectors for block in blocks])
    excluded = np.concatenate([block.excluded for block in blocks])
    found = search_vectors(vectors, index, k, own=excluded, groups=groups, executor=executor, report=report)
    ends = np.cumsum([len(block.excluded) for block in blocks])
    results = {}
    for block, end in zip(blocks, ends, strict=True):
        rows = slice(end - len(block.excluded), end)
        results[block.name] = SearchResult(found.ids[0, rows], found.similarities[0, rows])
    return results


@dataclass(frozen=True)
class RetrievalResults:
    """Results of the documents by both models, and of the queries by the name of each strategy."""

    documents_old: SearchResult
    documents_new: SearchResult
    strategies: dict[str, SearchResult]


def search_indexes(
    split: TrainTestSplit,
    documents: QuerySet,
    queries: QuerySet,
    transforms: dict[str, Transform],
    *,
    k: int,
    executor: Executor,
    report: Report,
) -> RetrievalResults:
    """Search the old and the new index with documents and queries.

    New queries search the old index through each map, and unchanged if both models have the same dimension. If the queries are
    the first of the documents, their searches of their own model's index are not repeated.
    """
    new_index, old_index = split.rows
    are_queries_separate = queries.excluded[0] == NO_GROUP
    blocks = [QueryBlock("documents", documents.old, documents.excluded)]
    if are_queries_separate:
        blocks.append(QueryBlock("old", queries.old, queries.excluded))
    if old_index.dim == new_index.dim:
        blocks.append(QueryBlock("keep", queries.new, queries.excluded))
    blocks += [
        QueryBlock(name, _translate(transform, queries.new), queries.excluded) for name, transform in transforms.items()
    ]
    from_old = search_index(
        old_index, blocks, k, split.groups, executor=executor, report=lambda done: report("old index", done, split.n)
    )
    blocks = [QueryBlock("documents", documents.new, documents.excluded)]
    if are_queries_separate:
        blocks.append(QueryBlock("re_embed", queries.new, queries.excluded))
    from_new = search_index(
        new_index, blocks, k, split.groups, executor=executor, report=lambda done: report("new index", done, split.n)
    )
    old, new = from_old.pop("documents"), from_new.pop("documents")
    if not are_queries_separate:
        from_old = {"old": old.first(len(queries.rows)), **from_old}
        from_new = {"re_embed": new.first(len(queries.rows))}
    return RetrievalResults(old, new, {**from_new, **from_old})


def _translate(transform: Transform, rows: Float32Array) -> Float32Array:
    translated = transform.apply(rows)
    scale_to_unit(translated)
    return translated
