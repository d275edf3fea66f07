"""Metrics of neighbour lists on two sides: one graph for each layer, from which values, nulls and intervals all follow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from threading import Lock
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np

from consilience.contract.kernel_metrics import Cknna
from consilience.contract.metric import NeighbourMetric
from consilience.contract.neighbour_metrics import CycleKnn, LcsKnn
from consilience.contract.scores import NeighboursRecord, Reason
from consilience.limits import FLOAT32_BYTES, ROWS_MIN, SQUARE_BYTES
from consilience.metrics.comparison import Cell, Comparison, LayerRef, Measurement, Report, find_reasons
from consilience.metrics.layers import warn_of_recall, worst_recall
from consilience.metrics.sides import CacheKey, PreparedSide
from consilience.numerics.knn.graph import NeighbourGraph
from consilience.numerics.neighbour_overlap import metrics
from consilience.numerics.neighbour_overlap.cknna import cknna, weight_edges
from consilience.numerics.neighbour_overlap.lists import NeighbourLists, SimilaritySpace
from consilience.numerics.neighbour_overlap.metrics import count_graph, cycle_knn_null, mutual_knn_null
from consilience.numerics.rows.arrays import BoolArray, Float32Array, Float64Array
from consilience.numerics.rows.parallel import LOCAL_EXECUTOR, Executor
from consilience.numerics.stats.intervals import (
    ConfidenceInterval,
    Replicates,
    SubsetScorer,
    list_length,
    resample,
    resampled_interval,
    score_each,
    subsample_rows,
)
from consilience.numerics.stats.nulls import ClosedFormNull, NullMean, PearsonNull, Permutation


class Permutable(Protocol):
    """The data of one layer that a metric reads."""

    def permuted(self, permutation: Permutation) -> Self:
        """Move item i to the position of item p(i)."""


T = TypeVar("T", bound=Permutable)
#: Called with the work done and the work in total.
CellProgress = Callable[[int, int], None]
#: Returns the values of all layer pairs, with b's items permuted; None is the identity.
Grid = Callable[[Permutation | None], Float64Array]


def _score_pairs(score: Callable[[T, T], float], a: Sequence[T], b: Sequence[T], report: CellProgress) -> Grid:
    """Score one layer pair after the other; progress is reported for the unpermuted grid."""

    def fill(permutation: Permutation | None) -> Float64Array:
        permuted = b if permutation is None else [layer.permuted(permutation) for layer in b]
        grid = np.empty((len(a), len(b)))
        for done, (i, j) in enumerate(np.ndindex(*grid.shape)):
            if permutation is None:
                report(done, grid.size)
            grid[i, j] = score(a[i], permuted[j])
        return grid

    return fill


_UNDEFINED = Reason(code="undefined", detail="The score has no value.")


def _no_null(_a: object, _b: object) -> ClosedFormNull:
    raise LookupError("A closed-form null is requested only if the metric's `nulls` include analytic.")


@dataclass(frozen=True)
class ListScore(Generic[T]):
    """Computation of a metric of neighbour lists.

    Attributes
    ----------
    score : value of two layers; NaN if it is undefined
    read : data that `score` reads, from a layer's lists of at least k neighbours, and k
    undefined : reason why a value can be undefined
    null : closed-form null distribution of two layers, if the metric has one
    bind : grid of the layers of both sides; replaced if one kernel scores all pairs at once
    subsets : value of two layers, from lists longer than k, on many subsets of the rows at once, if a kernel does that
    """

    score: Callable[[T, T], float]
    read: Callable[[NeighbourLists, int], T]
    undefined: Reason = _UNDEFINED
    null: Callable[[T, T], ClosedFormNull] = _no_null
    bind: Callable[[Callable[[T, T], float], Sequence[T], Sequence[T], CellProgress], Grid] = _score_pairs
    subsets: Callable[[NeighbourLists, NeighbourLists, int, BoolArray], Float64Array] | None = None

    def grid(self, a: Sequence[T], b: Sequence[T], report: CellProgress) -> Grid:
        """Prepare the grid of all layer pairs."""
        return self.bind(self.score, a, b, report)


def find_score(metric: NeighbourMetric) -> ListScore[Any]:
    """Find the computation of a metric with single options."""
    return _SCORES[metric.metric](metric)


def _of_lists(score: Callable[[NeighbourLists, NeighbourLists], float], **more: Any) -> ListScore[NeighbourLists]:
    return ListScore(score, NeighbourLists.first, **more)


def _mutual(_metric: NeighbourMetric) -> ListScore[NeighbourLists]:
    def bind(_: object, a: Sequence[NeighbourLists], b: Sequence[NeighbourLists], _report: CellProgress) -> Grid:
        ids_a, ids_b = (np.stack([lists.ids for lists in side]) for side in (a, b))
        return partial(metrics.mutual_knn_grid, ids_a, ids_b)

    def null(a: NeighbourLists, b: NeighbourLists) -> PearsonNull:
        return mutual_knn_null(count_graph(a.ids, a.k), count_graph(b.ids, b.k), a.n)

    return _of_lists(metrics.mutual_knn, null=null, bind=bind, subsets=metrics.mutual_knn_in_galleries)


def _cycle(metric: CycleKnn) -> ListScore[NeighbourLists]:
    def null(a: NeighbourLists, b: NeighbourLists) -> NullMean:
        stepped = {"ab": (a,), "ba": (b,), "mean": (a, b)}[metric.direction]
        means = [cycle_knn_null(lists.ids, lists.k).mean for lists in stepped]
        return NullMean(sum(means) / len(means))

    return _of_lists(partial(metrics.cycle_knn, direction=metric.direction), null=null)


def _lcs(metric: LcsKnn) -> ListScore[NeighbourLists]:
    return _of_lists(partial(metrics.lcs_knn, raw=metric.raw))


def _cknna(metric: Cknna) -> ListScore[Any]:
    reason = Reason(
        code="non-positive-self-similarity",
        detail="The similarity of one of the layers with itself is not above 0; CKNNA divides by its root.",
    )
    return ListScore(
        partial(cknna, variant=metric.variant), partial(weight_edges, variant=metric.variant), undefined=reason
    )


_ZERO_SIMILARITIES = Reason(
    code="zero-similarities",
    detail="In one of the spaces an item has similarity 0 to all neighbours in either list, so their cosine is undefined.",
)
_SCORES: dict[str, Callable[[Any], ListScore[Any]]] = {
    "mutual_knn": _mutual,
    "jaccard_knn": lambda _: _of_lists(metrics.jaccard_knn),
    "rank_similarity": lambda _: _of_lists(metrics.rank_similarity),
    "lcs_knn": _lcs,
    "edit_distance_knn": lambda _: _of_lists(metrics.edit_distance_knn),
    "second_order_cosine": lambda _: _of_lists(metrics.second_order_cosine, undefined=_ZERO_SIMILARITIES),
    "cycle_knn": _cycle,
    "cknna": _cknna,
}


# Leaving rows out of approximate lists measures the spread of the approximate score, not its distance to the exact one. That
# interval narrows with more rows, but the bias does not.
_BIASED = Reason(
    code="approximate-graph",
    detail="It would be centred on the score of the approximate graphs, which differs from that of the exact ones.",
)


@dataclass(frozen=True)
class _SideLists:
    """The lists of both sides' layers, as long as intervals need them."""

    a: Sequence[NeighbourLists]
    b: Sequence[NeighbourLists]

    def grid(self, kind: ListScore[Any], k: int, report: CellProgress) -> Grid:
        """Prepare the grid of all layer pairs at one k."""
        return kind.grid([kind.read(lists, k) for lists in self.a], [kind.read(lists, k) for lists in self.b], report)


@dataclass(frozen=True)
class _Resampling:
    """Scores of the same lists with rows left out, from which intervals are computed."""

    metric: NeighbourMetric
    kind: ListScore[Any]
    comparison: Comparison
    grid: Float64Array
    lists: Callable[[], _SideLists]
    is_exact: bool

    def interval(self, i: int, j: int, level: float) -> ConfidenceInterval | Reason:
        """Interval of one layer pair, or the reason why there is none."""
        if not self.is_exact:
            return _BIASED
        n, (k,), comparison = self.comparison.n, self.metric.k, self.comparison
        found = resampled_interval(
            float(self.grid[i, j]),
            self._scorer(i, j),
            n,
            k,
            level=level,
            seed=comparison.seed,
            limits=(self.metric.low, self.metric.ceiling),
            groups=comparison.groups,
        )
        if found is not None:
            return found
        if subsample_rows(n) <= max(2 * k, ROWS_MIN - 1):
            return _too_few(n, k)
        return Reason(code="undefined-without-some-rows", detail="Without some of the rows the score is undefined.")

    def replicates(self, i: int, j: int) -> Replicates | Reason:
        """Scores of one layer pair on subsets of the rows."""
        if not self.is_exact:
            return _BIASED
        (k,), comparison = self.metric.k, self.comparison
        found = resample(self._scorer(i, j), comparison.n, k, seed=comparison.seed, groups=comparison.groups)
        return _too_few(comparison.n, k) if found is None else found

    def _scorer(self, i: int, j: int) -> SubsetScorer:
        (k,), kind, lists = self.metric.k, self.kind, self.lists()
        # Cut to the length that this k needs, so that the other metrics of a request change no number.
        length = min(self.comparison.list_length, list_length(self.comparison.n, k))
        a, b = lists.a[i].first(length), lists.b[j].first(length)
        if kind.subsets is not None:
            return partial(kind.subsets, a, b, k)
        return score_each(lambda kept: kind.score(*(kind.read(side.restricted(kept, k), k) for side in (a, b))))


def _too_few(n: int, k: int) -> Reason:
    return Reason(
        code="too-few-rows",
        detail=f"It is computed from subsamples of {subsample_rows(n)} rows; with k = {k} each needs more than {2 * k} rows.",
    )


def measure_neighbours(metric: NeighbourMetric, comparison: Comparison) -> Measurement:
    """Measure the agreement of the neighbour lists of every layer pair at one k."""
    (k,) = metric.k
    kind = find_score(metric)
    graphs, record = _find_graphs(comparison, k)
    split = len(comparison.a.layers)
    # The null distribution of approximate graphs is theirs as they are: a permutation moves a whole graph.
    lists = _read_lists(comparison, graphs, keep_square=False)
    report = partial(comparison.report, metric.metric)
    grid = lists.grid(kind, k, report)(None)
    reasons = _find_undefined(kind, comparison, grid)

    resampled = cache(lambda: _read_lists(comparison, graphs, keep_square=True))
    permuted_grid = cache(lambda: resampled().grid(kind, k, report))

    def permuted(permutation: Permutation) -> Float64Array:
        drawn = permuted_grid()(permutation)
        # A draw without a value counts as one that reaches the observed value, so that p is never too small.
        return np.where(np.isnan(drawn) | np.isnan(grid), grid, drawn)

    resampling = _Resampling(metric, kind, comparison, grid, resampled, is_exact=record.recall_queries is None)
    return Measurement(
        grid=grid,
        reasons=reasons,
        null=lambda i, j: kind.null(kind.read(lists.a[i], k), kind.read(lists.b[j], k)),
        permuted=permuted,
        interval=resampling.interval,
        replicates=resampling.replicates,
        neighbours=record,
        warnings=warn_of_recall(graphs[:split], graphs[split:], k),
    )


def _find_undefined(kind: ListScore[Any], comparison: Comparison, grid: Float64Array) -> dict[Cell, Reason]:
    """Find the reasons of cells without a value, and clear the values of cells whose layers have a reason."""
    reasons = find_reasons(comparison, PreparedSide.reason)
    for cell in reasons:
        grid[cell] = np.nan
    own = {(int(i), int(j)): kind.undefined for i, j in np.argwhere(np.isnan(grid)) if (i, j) not in reasons}
    return reasons | own


def _find_graphs(comparison: Comparison, k: int) -> tuple[list[NeighbourGraph], NeighboursRecord]:
    """Find the graph of every layer, a's layers first; all at the same time if other processes build them."""
    layers, n = comparison.layers, comparison.n
    progress = _SearchProgress(len(layers) * n, comparison.report)

    def find(layer: LayerRef) -> tuple[NeighbourGraph, bool]:
        side = comparison.side(layer)
        found = side.graphs.find(layer.index, comparison.list_length, partial(progress.update, layer))
        side.reason(layer.index)  # now, while the rows that the graph was built from are in memory
        progress.update(layer, n)
        return found

    found = _choose_executor(comparison).run_concurrently([partial(find, layer) for layer in layers])
    graphs, hits = [graph for graph, _ in found], {hit for _, hit in found}
    verified = [graph.verified for graph in graphs if graph.verified is not None]
    measured = [graph.recall_queries for graph in graphs if graph.recall_queries is not None]
    return graphs, NeighboursRecord(
        builder="; ".join(dict.fromkeys(graph.builder for graph in graphs)),
        recall=worst_recall(graphs, k),
        recall_queries=min(measured, default=None),
        verified=min(verified, default=None),
        device="; ".join(dict.fromkeys(graph.device for graph in graphs)),
        cache=summarise_cache(hits),
    )


def summarise_cache(hits: set[bool]) -> str:
    """Word for cache hits of several graphs."""
    return "mixed" if len(hits) == 2 else "hit" if hits == {True} else "miss"


def _choose_executor(comparison: Comparison) -> Executor:
    """Choose the comparison's executor if every graph is built by other processes: two threads cannot share rows here."""
    layers = [(comparison.side(layer), layer.index) for layer in comparison.layers]
    if not all(side.graphs.is_remote(index) for side, index in layers):
        return LOCAL_EXECUTOR
    for side, index in layers:
        side.statistics.find(index)
    return comparison.executor


class _SearchProgress:
    """Number of rows searched in all layers, reported from any thread."""

    def __init__(self, total: int, report: Report) -> None:
        self._total, self._report = total, report
        self._rows: dict[LayerRef, int] = {}
        self._lock = Lock()
        report("neighbours", 0, total)

    def update(self, layer: LayerRef, rows: int) -> None:
        """Set the number of rows searched in a layer."""
        with self._lock:
            self._rows[layer] = rows
            self._report("neighbours", sum(self._rows.values()), self._total)


def _read_lists(comparison: Comparison, graphs: Sequence[NeighbourGraph], *, keep_square: bool) -> _SideLists:
    """Cut every graph to the length that this request needs, so that a longer one from the cache changes no number."""
    length = comparison.list_length
    lists = [
        NeighbourLists.of(
            graph.ids[:, :length],
            graph.similarities[:, :length],
            _open_space(comparison.side(layer), layer.index, keep_square=keep_square),
            f"{number}",
        )
        for number, (graph, layer) in enumerate(zip(graphs, comparison.layers, strict=True))
    ]
    split = len(comparison.a.layers)
    return _SideLists(lists[:split], lists[split:])


@dataclass(frozen=True)
class KnownKey(CacheKey[dict[Any, Any]]):
    """Similarities that were looked up."""

    is_transient: ClassVar[bool] = True


@dataclass(frozen=True)
class SimilaritiesKey(CacheKey[Float32Array]):
    """All n x n similarities of a layer."""

    is_transient: ClassVar[bool] = True


def _open_space(side: PreparedSide, index: int, *, keep_square: bool) -> SimilaritySpace:
    """Give access to a layer's rows, and to all of its n x n similarities if `keep_square` and they fit in memory.

    Only metrics that need similarities beyond the lists use these, for permutations and subsets of the rows; without them each
    computes inner products of rows.
    """
    rows, cached = side.rows, side.cache  # the space must not hold the side, whose cache holds what the space knows
    space = SimilaritySpace(partial(rows.array, index), known=side.memoize(index, KnownKey(), dict))
    if not keep_square or FLOAT32_BYTES * side.n**2 * len(side.layers) > SQUARE_BYTES:
        return space

    def square() -> Float32Array:
        return cached.memoize(index, SimilaritiesKey(), lambda: np.asarray(rows.array(index) @ rows.array(index).T))

    return replace(space, square=square)
