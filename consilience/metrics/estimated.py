"""Estimates of neighbour metrics from a sample of query rows: the mean of their scores, and its confidence interval.

One random order of all rows decides everything: its first m rows are the queries, and its first g rows are the gallery of g
rows. More queries extend the ones before, and each gallery is nested in the next. Scores fall as the gallery grows; their
values over several galleries form a curve.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np

from consilience.contract.kernel_metrics import Cknna
from consilience.contract.metric import NeighbourMetric
from consilience.contract.neighbour_metrics import CycleKnn, LcsKnn, SecondOrderCosine
from consilience.contract.scores import GalleryPoint, NeighboursRecord, Reason
from consilience.metrics.comparison import Cell, Comparison, Curve, LayerRef, Measurement, find_reasons
from consilience.metrics.graph_sources import QuerySearch
from consilience.metrics.neighbours import find_score, summarise_cache
from consilience.metrics.sides import CacheKey, PreparedSide
from consilience.numerics.knn.graph import NeighbourGraph, scale_exponent
from consilience.numerics.knn.queries import GalleryArray, Neighbours, search_queries
from consilience.numerics.neighbour_overlap import kernels
from consilience.numerics.neighbour_overlap.cknna import SampledGraph, WeightedLists, cknna_row_scores, insert_self
from consilience.numerics.neighbour_overlap.kernels import inner_products
from consilience.numerics.neighbour_overlap.metrics import cycle_row_scores
from consilience.numerics.rows.arrays import Float32Array, Float64Array, IdArray
from consilience.numerics.rows.parallel import LOCAL_EXECUTOR, STEPS_MIN
from consilience.numerics.rows.prepared import Rows, blocks, scaled
from consilience.numerics.stats.intervals import (
    ConfidenceInterval,
    Limits,
    SampledMean,
    estimate_mean,
    gallery_interval,
)
from consilience.numerics.stats.nulls import ClosedFormNull, NullMean

#: Values of rows that are loaded at a time to look up similarities.
LOOKUP_VALUES = 1 << 22


@dataclass(frozen=True)
class GalleryMeansKey(CacheKey[Float64Array]):
    """Mean row of each gallery."""

    sizes: tuple[int, ...]


@dataclass
class QuerySample:
    """The query rows of one request and their neighbours, for all neighbour metrics.

    Attributes
    ----------
    comparison : the two sides
    k : number of neighbours of each query
    sizes : number of rows of each gallery, ascending; the last gallery has all rows
    order : array of shape (n,), int32, all rows in random order
    count : number of queries so far
    hits : True for searches that were read from a cache, False for others
    """

    comparison: Comparison
    k: int
    sizes: tuple[int, ...]
    order: IdArray
    count: int = 0
    hits: set[bool] = field(default_factory=set)
    _results: dict[LayerRef, list[Neighbours]] = field(default_factory=dict)
    _other_results: dict[LayerRef, tuple[IdArray, Neighbours]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find the smallest gallery of each row."""
        self.first_galleries = self._find_first_galleries()

    @property
    def n(self) -> int:
        """Number of rows of the largest gallery."""
        return self.comparison.n

    def _find_first_galleries(self) -> GalleryArray | None:
        """Return the number of the smallest gallery that contains each row; None if there is only one gallery."""
        if len(self.sizes) == 1:
            return None
        rank = np.empty(self.n, np.int64)
        rank[self.order] = np.arange(self.n)
        return np.searchsorted(self.sizes, rank, side="right").astype(np.uint8)

    def extend(self, count: int) -> None:
        """Make the first `count` rows of the order queries, in every layer of both sides; search for the new ones only."""
        layers = self.comparison.layers
        for number, layer in enumerate(layers):
            report = partial(self._report, number, len(layers))
            self._results.setdefault(layer, []).append(self._search(layer, self.order[self.count : count], report))
        self.count = count

    def _report(self, number: int, layers: int, rows: int) -> None:
        self.comparison.report("neighbours", number * self.n + rows, layers * self.n)

    def _search(self, layer: LayerRef, queries: IdArray, report: Callable[[int], None]) -> Neighbours:
        """Search for the neighbours of some queries, or read what an earlier request with these queries stored."""
        side, index = self.comparison.side(layer), layer.index
        shape = (len(self.sizes), len(queries))

        def build(k: int) -> NeighbourGraph:
            exponent = scale_exponent(side.statistics.find(index).largest) if not side.rows.normalise else 0
            is_large = float(self.n) * len(queries) * side.layers[index].dim >= STEPS_MIN
            found = search_queries(
                queries,
                scaled(side.rows.reader_for_one_pass(index), exponent),
                k,
                groups=side.graphs.groups,
                galleries=self.first_galleries,
                executor=side.executor if is_large else LOCAL_EXECUTOR,
                report=report,
            )
            return NeighbourGraph(found.ids.reshape(-1, k), found.similarities.reshape(-1, k), "queries")

        def search_key() -> QuerySearch:
            digest = sha256(queries.tobytes()).hexdigest()
            return QuerySearch(digest, self.sizes, self.comparison.seed) if len(self.sizes) > 1 else QuerySearch(digest)

        graph, hit = side.graphs.source.graph(lambda: side.graphs.key(index, search_key()), self.k, build)
        self.hits.add(hit)
        return Neighbours(
            graph.ids[:, : self.k].reshape(*shape, self.k), graph.similarities[:, : self.k].reshape(*shape, self.k)
        )

    def neighbours(self, layer: LayerRef, gallery: int = -1) -> "QueryNeighbours":
        """Neighbours in one layer of the queries that lie in a gallery."""
        count = min(self.count, self.sizes[gallery])
        results = self._results[layer]
        return QueryNeighbours(
            sample=self,
            layer=layer,
            gallery=gallery,
            queries=self.order[:count],
            ids=np.concatenate([found.ids[gallery] for found in results])[:count],
            similarities=np.concatenate([found.similarities[gallery] for found in results])[:count],
        )

    def neighbours_of(self, layer: LayerRef, ids: IdArray, gallery: int) -> tuple[IdArray, Float32Array]:
        """Neighbours of rows that are in the list of some query; rows that were not searched for yet are searched for."""
        nothing = np.empty((len(self.sizes), 0, self.k))
        known, found = self._other_results.get(
            layer, (np.empty(0, np.int32), Neighbours(nothing.astype(np.int32), nothing.astype(np.float32)))
        )
        new = np.setdiff1d(ids, known)
        if len(new):
            more = self._search(layer, new, lambda rows: self.comparison.report("neighbours", rows, self.n))
            known = np.concatenate([known, new])
            order = np.argsort(known)
            known, found = (
                known[order],
                Neighbours(
                    np.concatenate([found.ids, more.ids], axis=1)[:, order],
                    np.concatenate([found.similarities, more.similarities], axis=1)[:, order],
                ),
            )
            self._other_results[layer] = known, found
        place = np.searchsorted(known, ids)
        return found.ids[gallery, place], found.similarities[gallery, place]


@dataclass(frozen=True)
class QueryNeighbours:
    """The neighbours of the queries of one gallery in one layer, nearest first.

    Attributes
    ----------
    queries : array of shape (m,), int32, row numbers of the queries
    ids, similarities : arrays of shape (m, k); -1 and 0 after the end of a short list
    """

    sample: QuerySample
    layer: LayerRef
    gallery: int
    queries: IdArray
    ids: IdArray
    similarities: Float32Array

    @property
    def n(self) -> int:
        """Upper bound of the ids."""
        return self.sample.n

    @property
    def size(self) -> int:
        """Number of rows of the gallery."""
        return self.sample.sizes[self.gallery]

    @property
    def rows(self) -> Rows:
        """Access to the layer's prepared rows."""
        return self.sample.comparison.side(self.layer).rows.reader_for_one_pass(self.layer.index)

    def first(self, k: int) -> IdArray:
        """First k ids of each list, C order."""
        return np.ascontiguousarray(self.ids[:, :k])

    def neighbours_of(self, ids: IdArray) -> tuple[IdArray, Float32Array]:
        """Return the lists of other rows of the gallery, given by ascending ids."""
        return self.sample.neighbours_of(self.layer, ids, self.gallery)

    def similarities_to(self, ids: IdArray) -> Float32Array:
        """Similarities of each query to the rows of some ids, shape (m, k); those of -1 have no meaning."""
        out = np.empty(ids.shape, np.float32)
        step = max(1, LOOKUP_VALUES // (self.rows.dim * ids.shape[1]))
        for start in range(0, len(ids), step):
            part = slice(start, start + step)
            wanted, place = np.unique(np.append(ids[part].ravel(), self.queries[part]), return_inverse=True)
            local = place.astype(np.int32)
            split = ids[part].size
            rows = self.rows.take(np.maximum(wanted, 0))
            out[part] = inner_products(rows, local[split:], local[:split].reshape(ids[part].shape))
        return out

    def squared_lengths(self, items: IdArray) -> Float64Array:
        """Squared lengths of some rows: their similarity to themselves."""
        out = np.empty(len(items))
        step = max(1, LOOKUP_VALUES // self.rows.dim)
        for start in range(0, len(items), step):
            rows = self.rows.take(items[start : start + step])
            places = np.arange(len(rows), dtype=np.int32)
            out[start : start + step] = inner_products(rows, places, places[:, None])[:, 0]
        return out

    def mean_similarities(self) -> Float64Array:
        """Mean similarity of each query to all rows of the gallery, itself included."""
        sample = self.sample
        means = sample.comparison.side(self.layer).memoize(
            self.layer.index, GalleryMeansKey(sample.sizes), lambda: _gallery_means(self.rows, sample)
        )
        out = np.empty(len(self.queries))
        for start in range(0, len(out), 1024):
            part = slice(start, start + 1024)
            out[part] = self.rows.take(self.queries[part]).astype(np.float64) @ means[self.gallery]
        return out


def _gallery_means(rows: Rows, sample: QuerySample) -> Float64Array:
    """Mean row of each gallery, (S, d), in one pass."""
    sums, numbers = np.zeros((len(sample.sizes), rows.dim)), sample.first_galleries
    for start, block in blocks(rows):
        first = np.zeros(len(block), np.uint8) if numbers is None else numbers[start : start + len(block)]
        for number in np.unique(first):
            sums[number] += block[first == number].sum(axis=0, dtype=np.float64)
    return sums.cumsum(axis=0) / np.array(sample.sizes, np.float64)[:, None]


#: Returns the score of each query in two layers.
RowScores = Callable[[QueryNeighbours, QueryNeighbours], Float64Array]
#: Scores two lists of ids below n.
ListKernel = Callable[[IdArray, IdArray, int], Float64Array]

#: Largest variance that is due to rounding alone, for scores without limits.
VARIANCE_MIN = 1e-20


def estimate_cell(metric: NeighbourMetric, sample: QuerySample, cell: Cell, gallery: int = -1) -> SampledMean | None:
    """Estimate the agreement of one layer pair in one gallery from the queries; None if it has no value."""
    (k,) = metric.k
    a, b = sample.neighbours(LayerRef("a", cell[0]), gallery), sample.neighbours(LayerRef("b", cell[1]), gallery)
    is_complete = (a.ids[:, k - 1] >= 0) & (b.ids[:, k - 1] >= 0)
    scores = find_row_scores(metric)(a, b)[is_complete]
    return estimate_mean(scores, a.size) if len(scores) > 1 and np.isfinite(scores).all() else None


def measure_estimated(metric: NeighbourMetric, sample: QuerySample) -> Measurement:
    """Estimate the agreement of the neighbour lists of every layer pair at one k."""
    comparison = sample.comparison
    reasons = find_reasons(comparison, PreparedSide.reason)
    grid = np.full(comparison.shape, np.nan)
    found: dict[Cell, SampledMean] = {}
    for done, cell in enumerate(np.ndindex(*grid.shape)):
        comparison.report(metric.metric, done, grid.size)
        if cell in reasons:
            continue
        if (value := estimate_cell(metric, sample, cell)) is None:
            reasons[cell] = find_score(metric).undefined
        else:
            found[cell], grid[cell] = value, value.value
    return Measurement(
        grid=grid,
        reasons=reasons,
        null=lambda _i, _j: _find_null(metric, sample),
        permuted=_no_permutations,
        interval=lambda i, j, level: find_interval(metric, found[i, j], level),
        neighbours=NeighboursRecord(builder="queries", recall=1.0, cache=summarise_cache(sample.hits)),
        queries=sample.count,
    )


def find_limits(metric: NeighbourMetric) -> Limits:
    """Smallest and largest possible score of a row."""
    return metric.low, metric.ceiling


def find_interval(metric: NeighbourMetric, found: SampledMean, level: float) -> ConfidenceInterval | Reason:
    """Find the interval of an estimate for the score of its gallery, or the reason why there is none."""
    limits = find_limits(metric)
    if None in limits and found.variance <= VARIANCE_MIN:
        return Reason(
            code="no-variance", detail="All query rows have the same score, which says nothing about the other rows."
        )
    return gallery_interval(found, level, limits)


def _find_null(metric: NeighbourMetric, sample: QuerySample) -> ClosedFormNull | None:
    """Known part of the null distribution without every row's list: the mean of mutual_knn, if all permutations are allowed."""
    if metric.metric == "mutual_knn" and sample.comparison.groups is None:
        return NullMean(metric.k[0] / (sample.comparison.n - 1))
    return None


def _no_permutations(_: object) -> Float64Array:
    raise LookupError("Permutations must be refused before anything is estimated.")


def find_row_scores(metric: NeighbourMetric) -> RowScores:
    """Find the computation of the scores of query rows."""
    return _ROW_SCORES[metric.metric](metric)


def _from_lists(kernel: ListKernel, metric: NeighbourMetric) -> RowScores:
    (k,) = metric.k
    return lambda a, b: kernel(a.first(k), b.first(k), a.n)


def _lcs(metric: LcsKnn) -> RowScores:
    lengths = _from_lists(kernels.lcs_rows, metric)
    return lambda a, b: lengths(a, b) / (1 if metric.raw else metric.k[0])


def _cycle(metric: CycleKnn) -> RowScores:
    (k,) = metric.k

    def one_direction(forth: QueryNeighbours, back: QueryNeighbours) -> Float64Array:
        return cycle_row_scores(forth.queries, forth.first(k), back.neighbours_of, k)

    directions: dict[str, RowScores] = {
        "ab": lambda a, b: one_direction(b, a),
        "ba": one_direction,
        "mean": lambda a, b: (one_direction(b, a) + one_direction(a, b)) / 2,
    }
    return directions[metric.direction]


def _second_order(metric: SecondOrderCosine) -> RowScores:
    (k,) = metric.k

    def score(a: QueryNeighbours, b: QueryNeighbours) -> Float64Array:
        ids_a, ids_b = a.first(k), b.first(k)
        in_a, in_b = np.ascontiguousarray(a.similarities[:, :k]), np.ascontiguousarray(b.similarities[:, :k])
        return kernels.second_order_rows(
            ids_a, in_a, b.similarities_to(ids_a), ids_b, a.similarities_to(ids_b), in_b, a.n
        )

    return score


def _cknna(metric: Cknna) -> RowScores:
    return lambda a, b: cknna_row_scores(_weight_edges(a, metric), _weight_edges(b, metric), metric.variant)


def _weight_edges(found: QueryNeighbours, metric: Cknna) -> SampledGraph:
    """Turn lists into the weighted graph of a variant, as `cknna.weight_edges` does."""
    (k,) = metric.k

    def weight(items: IdArray, ids: IdArray, similarities: Float32Array) -> WeightedLists:
        cut, values = np.ascontiguousarray(ids[:, :k]), similarities[:, :k].astype(np.float64)
        if metric.variant == "biased":
            return insert_self(cut, values, items, found.squared_lengths(items))
        if metric.variant == "paper":
            values -= found.mean_similarities()[:, None]
        return cut, values

    return SampledGraph(
        queries=found.queries,
        weights=weight(found.queries, found.ids, found.similarities),
        second=lambda items: weight(items, *found.neighbours_of(items)),
        size=found.size,
        n=found.n,
    )


_ROW_SCORES: dict[str, Callable[[Any], RowScores]] = {
    "mutual_knn": partial(_from_lists, kernels.overlap_rows),
    "jaccard_knn": partial(_from_lists, kernels.jaccard_rows),
    "rank_similarity": partial(_from_lists, kernels.rank_rows),
    "lcs_knn": _lcs,
    "edit_distance_knn": partial(_from_lists, kernels.edit_rows),
    "second_order_cosine": _second_order,
    "cycle_knn": _cycle,
    "cknna": _cknna,
}


def sample_galleries(comparison: Comparison, k: int, sizes: Sequence[int], order: IdArray) -> QuerySample | None:
    """Make every row of every smaller gallery a query, if the score itself comes from the graphs of all rows.

    The galleries are those of a query sample: the first rows of the same order, prepared as all rows are. None if no size is
    below the number of rows.
    """
    inner = tuple(size for size in sizes if size < comparison.n)
    if not inner:
        return None
    members = np.sort(order[: inner[-1]])
    a, b = (side.select(members) for side in (comparison.a, comparison.b))
    selected = replace(comparison, a=a, b=b, groups=a.graphs.groups, _values={})
    sample = QuerySample(selected, k, inner, np.searchsorted(members, order[: inner[-1]]).astype(np.int32))
    sample.extend(inner[-1])
    return sample


def trace_curve(
    metric: NeighbourMetric, measured: Measurement, sample: QuerySample | None, sizes: Sequence[int]
) -> Curve:
    """Return the gallery-size curve of any layer pair: one point for each size that has a value.

    Parameters
    ----------
    measured : the score in the gallery of all rows
    sample : neighbours of the rows in smaller galleries; None if there are none
    sizes : requested numbers of rows of the galleries
    """

    def point(size: int, cell: Cell, level: float) -> GalleryPoint | None:
        if sample is not None and size in sample.sizes:
            return _find_point(metric, sample, size, cell, level)
        value = float(measured.grid[cell])
        return GalleryPoint(n=size, value=value, low=value, high=value)

    def trace(cell: Cell, level: float) -> tuple[GalleryPoint, ...]:
        points = (point(size, cell, level) for size in sizes)
        return tuple(found for found in points if found is not None)

    return trace


def _find_point(
    metric: NeighbourMetric, sample: QuerySample, size: int, cell: Cell, level: float
) -> GalleryPoint | None:
    found = estimate_cell(metric, sample, cell, sample.sizes.index(size))
    if found is None:
        return None
    interval = find_interval(metric, found, level)
    if isinstance(interval, Reason):
        return GalleryPoint(n=size, value=found.value, low=found.value, high=found.value)
    return GalleryPoint(n=size, value=found.value, low=interval.low, high=interval.high)
