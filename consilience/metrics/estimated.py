"""Scores of galleries of fewer rows, each inside the next: neighbour scores fall as the gallery grows."""

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
from consilience.metrics.comparison import Comparison, Side
from consilience.metrics.measurement import Curve, Measurement, find_reasons
from consilience.metrics.neighbours import find_score
from consilience.numerics.knn.graph import NeighbourGraph, scale_exponent
from consilience.numerics.knn.queries import Found, RingArray, search_queries
from consilience.numerics.neighbour_overlap import kernels
from consilience.numerics.neighbour_overlap.cknna import SampledGraph, WeightedLists, cknna_row_scores, insert_self
from consilience.numerics.neighbour_overlap.kernels import inner_products
from consilience.numerics.neighbour_overlap.metrics import cycle_row_scores
from consilience.numerics.rows.arrays import Float32Array, Float64Array, IdArray
from consilience.numerics.rows.parallel import HERE, STEPS_MIN
from consilience.numerics.rows.prepared import Rows, blocks, scaled
from consilience.numerics.stats.intervals import (
    ConfidenceInterval,
    Limits,
    SampledMean,
    estimate_mean,
    gallery_interval,
)
from consilience.numerics.stats.nulls import ClosedFormNull, NullMean

#: Which layer of which side.
LayerKey = tuple[str, int]
#: Rows whose similarities to rows of other lists are looked up at a time.
LOOKUP_VALUES = 1 << 22


@dataclass
class Survey:
    """The rows that ask, for all neighbour metrics of one request.

    Attributes
    ----------
    comparison : the two sides
    k : neighbours told to each row
    sizes : rows of each gallery, ascending; the last has all rows
    order : array of shape (n,), int32, all rows in random order
    asked : rows that have asked so far
    """

    comparison: Comparison
    k: int
    sizes: tuple[int, ...]
    order: IdArray
    asked: int = 0
    hits: set[bool] = field(default_factory=set)
    _told: dict[LayerKey, list[Found]] = field(default_factory=dict)
    _second: dict[LayerKey, tuple[IdArray, Found]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find the gallery that each row is first in."""
        self.rings = self._find_rings()

    @property
    def n(self) -> int:
        """Number of rows of the largest gallery."""
        return self.comparison.n

    def _find_rings(self) -> RingArray | None:
        """The first gallery that each row is in; None where there is one gallery."""
        if len(self.sizes) == 1:
            return None
        rank = np.empty(self.n, np.int64)
        rank[self.order] = np.arange(self.n)
        return np.searchsorted(self.sizes, rank, side="right").astype(np.uint8)

    def ask(self, m: int) -> None:
        """Let the first m rows of the order ask, in every layer of both sides; those who have asked do not ask again."""
        layers = [(name, i) for name in ("a", "b") for i in range(len(self.side(name).layers))]
        for number, layer in enumerate(layers):
            report = partial(self._report, number, len(layers))
            self._told.setdefault(layer, []).append(self._search(layer, self.order[self.asked : m], report))
        self.asked = m

    def _report(self, number: int, layers: int, rows: int) -> None:
        self.comparison.report("neighbours", number * self.n + rows, layers * self.n)

    def side(self, name: str) -> Side:
        """Side a or side b."""
        return self.comparison.a if name == "a" else self.comparison.b

    def _search(self, layer: LayerKey, queries: IdArray, report: Callable[[int], None]) -> Found:
        """Search, or read what an earlier request with these queries has found."""
        side, index = self.side(layer[0]), layer[1]
        shape = (len(self.sizes), len(queries))

        def build(k: int) -> NeighbourGraph:
            exponent = 0 if side.normalise else scale_exponent(side.scan(index).largest)
            found = search_queries(
                queries,
                scaled(side.stream(index), exponent),
                k,
                groups=side.groups,
                rings=self.rings,
                parts=side.parts if float(self.n) * len(queries) * side.layers[index].dim >= STEPS_MIN else HERE,
                report=report,
            )
            return NeighbourGraph(found.ids.reshape(-1, k), found.similarities.reshape(-1, k), "queries")

        def key() -> str:
            chosen = sha256(queries.tobytes()).hexdigest()
            galleries = f"{self.sizes} seed={self.comparison.seed}" if len(self.sizes) > 1 else "all"
            return f"{side.address(index)} queries={chosen} galleries={galleries}"

        graph, hit = side.graphs.graph(key, self.k, build)
        self.hits.add(hit)
        return Found(
            graph.ids[:, : self.k].reshape(*shape, self.k), graph.similarities[:, : self.k].reshape(*shape, self.k)
        )

    def answers(self, side: str, index: int, gallery: int = -1) -> "Answers":
        """What the rows that lie in a gallery were told in one layer."""
        asked = min(self.asked, self.sizes[gallery])
        told = self._told[side, index]
        return Answers(
            survey=self,
            layer=(side, index),
            gallery=gallery,
            queries=self.order[:asked],
            ids=np.concatenate([found.ids[gallery] for found in told])[:asked],
            similarities=np.concatenate([found.similarities[gallery] for found in told])[:asked],
        )

    def second(self, layer: LayerKey, ids: IdArray, gallery: int) -> tuple[IdArray, Float32Array]:
        """The neighbours of rows of a gallery that some query named; they are searched where they have not been yet."""
        known, found = self._second.get(layer, (np.empty(0, np.int32), _nothing(len(self.sizes), self.k)))
        new = np.setdiff1d(ids, known)
        if len(new):
            more = self._search(layer, new, lambda rows: self.comparison.report("neighbours", rows, self.n))
            found = _join(found, more)
            known = np.concatenate([known, new])
            order = np.argsort(known)
            known, found = known[order], Found(found.ids[:, order], found.similarities[:, order])
            self._second[layer] = known, found
        place = np.searchsorted(known, ids)
        return found.ids[gallery, place], found.similarities[gallery, place]


def _nothing(sizes: int, k: int) -> Found:
    return Found(np.empty((sizes, 0, k), np.int32), np.empty((sizes, 0, k), np.float32))


def _join(one: Found, other: Found) -> Found:
    return Found(
        np.concatenate([one.ids, other.ids], axis=1), np.concatenate([one.similarities, other.similarities], axis=1)
    )


@dataclass(frozen=True)
class Answers:
    """The neighbours of the queries of one gallery in one layer, nearest first.

    Attributes
    ----------
    queries : array of shape (m,), int32, ids of the rows that asked
    ids, similarities : arrays of shape (m, k); -1 and 0 where a list ran out
    """

    survey: Survey
    layer: LayerKey
    gallery: int
    queries: IdArray
    ids: IdArray
    similarities: Float32Array

    @property
    def n(self) -> int:
        """Ids are below it."""
        return self.survey.n

    @property
    def size(self) -> int:
        """Rows of the gallery."""
        return self.survey.sizes[self.gallery]

    @property
    def rows(self) -> Rows:
        """Access to the layer's prepared rows."""
        return self.survey.side(self.layer[0]).stream(self.layer[1])

    def first(self, k: int) -> IdArray:
        """The first k ids of each list, C order."""
        return np.ascontiguousarray(self.ids[:, :k])

    def second(self, ids: IdArray) -> tuple[IdArray, Float32Array]:
        """The lists of other rows of the gallery, of ascending ids."""
        return self.survey.second(self.layer, ids, self.gallery)

    def similarities_to(self, ids: IdArray) -> Float32Array:
        """Similarities of each query to the rows of some ids, shape (m, k); those of -1 mean nothing."""
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

    def lengths(self, items: IdArray) -> Float64Array:
        """Squared length of some rows: their similarity to themselves."""
        out = np.empty(len(items))
        step = max(1, LOOKUP_VALUES // self.rows.dim)
        for start in range(0, len(items), step):
            rows = self.rows.take(items[start : start + step])
            places = np.arange(len(rows), dtype=np.int32)
            out[start : start + step] = inner_products(rows, places, places[:, None])[:, 0]
        return out

    def mean_similarities(self) -> Float64Array:
        """Mean similarity of each query to all rows of the gallery, itself included."""
        side, index = self.survey.side(self.layer[0]), self.layer[1]
        means = side.keep(
            index, f"means of galleries {self.survey.sizes}", lambda: _gallery_means(self.rows, self.survey)
        )
        out = np.empty(len(self.queries))
        for start in range(0, len(out), 1024):
            part = slice(start, start + 1024)
            out[part] = self.rows.take(self.queries[part]).astype(np.float64) @ means[self.gallery]
        return out


def _gallery_means(rows: Rows, survey: Survey) -> Float64Array:
    """The mean row of each gallery, (S, d), in one pass."""
    sums = np.zeros((len(survey.sizes), rows.dim))
    for start, block in blocks(rows):
        rings = np.zeros(len(block), np.uint8) if survey.rings is None else survey.rings[start : start + len(block)]
        for ring in np.unique(rings):
            sums[ring] += block[rings == ring].sum(axis=0, dtype=np.float64)
    return sums.cumsum(axis=0) / np.array(survey.sizes, np.float64)[:, None]


#: The score of each row that asked, in two layers.
RowScores = Callable[[Answers, Answers], Float64Array]
Kernel = Callable[[IdArray, IdArray, int], Float64Array]

#: Below it scores that are not bounded differ by rounding alone.
VARIANCE_MIN = 1e-20


def estimate_cell(
    metric: NeighbourMetric, survey: Survey, cell: tuple[int, int], gallery: int = -1
) -> SampledMean | None:
    """Estimate the agreement of one layer pair in one gallery, from the rows that have asked; None where it has no value."""
    (k,) = metric.k
    a, b = survey.answers("a", cell[0], gallery), survey.answers("b", cell[1], gallery)
    whole = (a.ids[:, k - 1] >= 0) & (b.ids[:, k - 1] >= 0)
    scores = find_row_scores(metric)(a, b)[whole]
    return estimate_mean(scores, a.size) if len(scores) > 1 and np.isfinite(scores).all() else None


def measure_estimated(metric: NeighbourMetric, survey: Survey) -> Measurement:
    """Estimate the agreement of the neighbour lists of every layer pair at one k."""
    comparison = survey.comparison
    reasons = find_reasons(comparison, Side.reason)
    grid = np.full((len(comparison.a.layers), len(comparison.b.layers)), np.nan)
    found: dict[tuple[int, int], SampledMean] = {}
    for done, cell in enumerate(np.ndindex(*grid.shape)):
        comparison.report(metric.metric, done, grid.size)
        if cell in reasons:
            continue
        if (value := estimate_cell(metric, survey, cell)) is None:
            reasons[cell] = find_score(metric).undefined
        else:
            found[cell], grid[cell] = value, value.value
    return Measurement(
        grid=grid,
        reasons=reasons,
        law=partial(_law, metric, survey),
        permuted=_no_draws,
        bounds=lambda i, j, level: find_bounds(metric, found[i, j], level),
        neighbours=NeighboursRecord(builder="queries", recall=1.0, cache=_cached(survey.hits)),
        asked=survey.asked,
    )


def find_limits(metric: NeighbourMetric) -> Limits:
    """The least and the largest score of a row."""
    return metric.low, metric.ceiling


def find_bounds(metric: NeighbourMetric, found: SampledMean, level: float) -> ConfidenceInterval | Reason:
    """Find the interval of an estimate for the score of its gallery, or the reason why there is none."""
    limits = find_limits(metric)
    if None in limits and found.variance <= VARIANCE_MIN:
        return Reason(
            code="no-variance", detail="All rows that asked score the same, which says nothing of the others."
        )
    return gallery_interval(found, level, limits)


def _law(metric: NeighbourMetric, survey: Survey, _i: int, _j: int) -> ClosedFormNull | None:
    """What is known of the null law without every row's list: the mean of mutual_knn, where all relabellings are allowed."""
    if metric.metric == "mutual_knn" and not survey.comparison.grouped:
        return NullMean(metric.k[0] / (survey.comparison.n - 1))
    return None


def _no_draws(_: object) -> Float64Array:
    raise LookupError("draws are refused before anything is estimated")


def _cached(hits: set[bool]) -> str:
    return "mixed" if len(hits) == 2 else "hit" if hits == {True} else "miss"


def find_row_scores(metric: NeighbourMetric) -> RowScores:
    """Find how the score of a row that asked is computed."""
    return _ROW_SCORES[metric.metric](metric)


def _by_lists(kernel: Kernel, metric: NeighbourMetric) -> RowScores:
    (k,) = metric.k
    return lambda a, b: kernel(a.first(k), b.first(k), a.n)


def _lcs(metric: LcsKnn) -> RowScores:
    lengths = _by_lists(kernels.lcs_rows, metric)
    return lambda a, b: lengths(a, b) / (1 if metric.raw else metric.k[0])


def _cycle(metric: CycleKnn) -> RowScores:
    (k,) = metric.k

    def one_way(stepped: Answers, back: Answers) -> Float64Array:
        return cycle_row_scores(stepped.queries, stepped.first(k), back.second, k)

    ways: dict[str, RowScores] = {
        "ab": lambda a, b: one_way(b, a),
        "ba": one_way,
        "mean": lambda a, b: (one_way(b, a) + one_way(a, b)) / 2,
    }
    return ways[metric.direction]


def _second_order(metric: SecondOrderCosine) -> RowScores:
    (k,) = metric.k

    def score(a: Answers, b: Answers) -> Float64Array:
        ids_a, ids_b = a.first(k), b.first(k)
        in_a, in_b = np.ascontiguousarray(a.similarities[:, :k]), np.ascontiguousarray(b.similarities[:, :k])
        return kernels.second_order_rows(
            ids_a, in_a, b.similarities_to(ids_a), ids_b, a.similarities_to(ids_b), in_b, a.n
        )

    return score


def _cknna(metric: Cknna) -> RowScores:
    return lambda a, b: cknna_row_scores(_weigh(a, metric), _weigh(b, metric), metric.variant)


def _weigh(answers: Answers, metric: Cknna) -> SampledGraph:
    """Turn lists into the weighted graph of a variant, as `cknna.weigh` does."""
    (k,) = metric.k

    def weigh(items: IdArray, ids: IdArray, similarities: Float32Array) -> WeightedLists:
        cut, values = np.ascontiguousarray(ids[:, :k]), similarities[:, :k].astype(np.float64)
        if metric.variant == "biased":
            return insert_self(cut, values, items, answers.lengths(items))
        if metric.variant == "paper":
            values -= answers.mean_similarities()[:, None]
        return cut, values

    return SampledGraph(
        queries=answers.queries,
        weights=weigh(answers.queries, answers.ids, answers.similarities),
        second=lambda items: weigh(items, *answers.second(items)),
        size=answers.size,
        n=answers.n,
    )


_ROW_SCORES: dict[str, Callable[[Any], RowScores]] = {
    "mutual_knn": partial(_by_lists, kernels.overlap_rows),
    "jaccard_knn": partial(_by_lists, kernels.jaccard_rows),
    "rank_similarity": partial(_by_lists, kernels.rank_rows),
    "lcs_knn": _lcs,
    "edit_distance_knn": partial(_by_lists, kernels.edit_rows),
    "second_order_cosine": _second_order,
    "cycle_knn": _cycle,
    "cknna": _cknna,
}


def open_galleries(comparison: Comparison, k: int, sizes: Sequence[int], order: IdArray) -> Survey | None:
    """Let every row of every gallery ask, where the score itself comes from the graphs of all rows.

    The galleries are those that queries would have been asked in: the first rows of the same order, prepared as all rows are.
    None where there are no sizes below all rows.
    """
    inner = tuple(size for size in sizes if size < comparison.n)
    if not inner:
        return None
    members = np.sort(order[: inner[-1]])
    a, b = (side.select(members) for side in (comparison.a, comparison.b))
    selected = replace(comparison, a=a, b=b, groups=a.groups, _kept={})
    survey = Survey(selected, k, inner, np.searchsorted(members, order[: inner[-1]]).astype(np.int32))
    survey.ask(inner[-1])
    return survey


def trace_curve(metric: NeighbourMetric, measured: Measurement, survey: Survey | None, sizes: Sequence[int]) -> Curve:
    """Give the points of any layer pair: one for each size that has a value.

    Parameters
    ----------
    measured : the score in the gallery of all rows
    survey : what the rows were told in smaller galleries; None where there are none
    sizes : rows of the galleries that are wanted
    """

    def point(size: int, cell: tuple[int, int], level: float) -> GalleryPoint | None:
        if survey is not None and size in survey.sizes:
            return _find_point(metric, survey, size, cell, level)
        value = float(measured.grid[cell])
        return GalleryPoint(n=size, value=value, low=value, high=value)

    def trace(cell: tuple[int, int], level: float) -> tuple[GalleryPoint, ...]:
        points = (point(size, cell, level) for size in sizes)
        return tuple(found for found in points if found is not None)

    return trace


def _find_point(
    metric: NeighbourMetric, survey: Survey, size: int, cell: tuple[int, int], level: float
) -> GalleryPoint | None:
    found = estimate_cell(metric, survey, cell, survey.sizes.index(size))
    if found is None:
        return None
    bounds = find_bounds(metric, found, level)
    if isinstance(bounds, Reason):
        return GalleryPoint(n=size, value=found.value, low=found.value, high=found.value)
    return GalleryPoint(n=size, value=found.value, low=bounds.low, high=bounds.high)
