"""Who asks, of an old and of a new index, and what each way of asking finds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consilience.maps.fit import TrainTestSplit
from consilience.metrics.comparison import Report
from consilience.numerics.knn.queries import NOBODY, search_vectors
from consilience.numerics.regression.maps import Transform
from consilience.numerics.rows.arrays import Float32Array, IdArray
from consilience.numerics.rows.parallel import Parts
from consilience.numerics.rows.prepared import PreparedRows, scale_to_unit
from consilience.numerics.rows.sources import RawLayer

#: The stream of a seed that says which documents and which queries ask: none of the streams of a fit.
_DOCUMENTS, _QUERIES = 11, 12
RowNumbers = npt.NDArray[np.intp]


@dataclass(frozen=True)
class QuerySet:
    """Rows that ask, in both models' vectors of length 1.

    Attributes
    ----------
    rows : array of shape (m,), their row numbers
    old, new : arrays of shape (m, p) and (m, q), float32
    own : array of shape (m,), int32: the document, or its group, that is no answer; -1 for none
    """

    rows: RowNumbers
    old: Float32Array
    new: Float32Array
    own: IdArray

    def first(self, count: int) -> "QuerySet":
        """The first of them."""
        return QuerySet(self.rows[:count], self.old[:count], self.new[:count], self.own[:count])


def sample_documents(ground: TrainTestSplit, sample: int) -> tuple[QuerySet, int]:
    """Documents drawn at random, and how many of the first of them no map was fitted on: those held out come first."""
    rng = np.random.default_rng([ground.options.seed, _DOCUMENTS])
    held = rng.permutation(np.flatnonzero(ground.held))
    rows = np.concatenate([held, rng.permutation(ground.trained)])[:sample]
    new, old = (side.take(rows) for side in ground.rows)
    own = rows.astype(np.int32) if ground.groups is None else ground.groups[rows]
    return QuerySet(rows, old, new, own), min(len(held), sample)


def sample_queries(old: RawLayer, new: RawLayer, among: RowNumbers, sample: int, seed: int) -> QuerySet:
    """Queries drawn at random among some rows of their sides."""
    rows = np.random.default_rng([seed, _QUERIES]).permutation(among)[:sample]
    sides = [PreparedRows(layer).take(rows) for layer in (old, new)]
    return QuerySet(rows, sides[0], sides[1], np.full(len(rows), NOBODY, np.int32))


@dataclass(frozen=True)
class SearchResult:
    """What was found: ids and cosines, arrays of shape (m, k)."""

    ids: IdArray
    similarities: Float32Array

    def first(self, count: int) -> "SearchResult":
        """Those of the first who asked."""
        return SearchResult(self.ids[:count], self.similarities[:count])


@dataclass(frozen=True)
class QueryBlock:
    """Vectors that ask an index together."""

    name: str
    vectors: Float32Array
    own: IdArray


def search_index(
    index: PreparedRows,
    blocks: Sequence[QueryBlock],
    k: int,
    groups: IdArray | None,
    *,
    parts: Parts,
    report: Callable[[int], None],
) -> dict[str, SearchResult]:
    """The exact first k answers of every block, in one pass over the index."""
    vectors = np.concatenate([block.vectors for block in blocks])
    own = np.concatenate([block.own for block in blocks])
    found = search_vectors(vectors, index, k, own=own, groups=groups, parts=parts, report=report)
    ends = np.cumsum([len(block.own) for block in blocks])
    answers = {}
    for block, end in zip(blocks, ends, strict=True):
        rows = slice(end - len(block.own), end)
        answers[block.name] = SearchResult(found.ids[0, rows], found.similarities[0, rows])
    return answers


@dataclass(frozen=True)
class RetrievalResults:
    """What documents find by both models, and what queries find in each way: by the ways' names."""

    documents_old: SearchResult
    documents_new: SearchResult
    ways: dict[str, SearchResult]


def search_indexes(
    ground: TrainTestSplit,
    documents: QuerySet,
    queries: QuerySet,
    transforms: dict[str, Transform],
    *,
    k: int,
    parts: Parts,
    report: Report,
) -> RetrievalResults:
    """Ask the old and the new index.

    New queries ask the old index as they are where both models have as many columns, and through each map. Where the first of
    the documents are the queries, each index is asked by them once.
    """
    new_index, old_index = ground.rows
    given = queries.own[0] == NOBODY
    blocks = [QueryBlock("documents", documents.old, documents.own)]
    blocks += [QueryBlock("old", queries.old, queries.own)] if given else []
    if old_index.dim == new_index.dim:
        blocks.append(QueryBlock("keep", queries.new, queries.own))
    blocks += [QueryBlock(name, _translate(found, queries.new), queries.own) for name, found in transforms.items()]
    asked_old = search_index(
        old_index, blocks, k, ground.groups, parts=parts, report=lambda done: report("old index", done, ground.n)
    )
    blocks = [QueryBlock("documents", documents.new, documents.own)]
    blocks += [QueryBlock("re_embed", queries.new, queries.own)] if given else []
    asked_new = search_index(
        new_index, blocks, k, ground.groups, parts=parts, report=lambda done: report("new index", done, ground.n)
    )
    old, new = asked_old.pop("documents"), asked_new.pop("documents")
    if not given:
        asked_old = {"old": old.first(len(queries.rows)), **asked_old}
        asked_new = {"re_embed": new.first(len(queries.rows))}
    return RetrievalResults(old, new, {**asked_new, **asked_old})


def _translate(transform: Transform, rows: Float32Array) -> Float32Array:
    found = transform.apply(rows)
    scale_to_unit(found)
    return found
