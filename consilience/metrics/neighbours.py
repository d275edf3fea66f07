"""Metrics of neighbour lists on two sides: one graph a layer, from which values, nulls and intervals all follow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from threading import Lock
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np

from consilience.contract.kernel_metrics import Cknna
from consilience.contract.metric import NeighbourMetric
from consilience.contract.neighbour_metrics import CycleKnn, LcsKnn
from consilience.contract.scores import NeighboursRecord, Reason
from consilience.limits import ROWS_MIN
from consilience.metrics.comparison import Comparison, Side, warn, worst_recall
from consilience.metrics.measurement import Measurement, find_reasons
from consilience.numerics.knn.graph import NeighbourGraph
from consilience.numerics.neighbour_overlap import metrics
from consilience.numerics.neighbour_overlap.cknna import cknna, weight_edges
from consilience.numerics.neighbour_overlap.kernels import BoolArray
from consilience.numerics.neighbour_overlap.lists import NeighbourLists, SimilaritySpace
from consilience.numerics.neighbour_overlap.nulls import count_graph, cycle_knn_null, mutual_knn_null
from consilience.numerics.rows.arrays import Float32Array, Float64Array
from consilience.numerics.rows.parallel import HERE, Parts
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


class Relabels(Protocol):
    """What a metric reads of one layer."""

    def permuted(self, permutation: Permutation) -> Self:
        """Give item i the place of item p(i)."""


T = TypeVar("T", bound=Relabels)
_UNDEFINED = Reason(code="undefined", detail="The score has no value.")
Read = Callable[[NeighbourLists, int], T]
#: Called with what is done and what there is to do.
Report = Callable[[int, int], None]
#: All layer pairs, with b's items permuted; None is the identity.
Grid = Callable[[Permutation | None], Float64Array]


def _score_grid(score: Callable[[T, T], float], a: Sequence[T], b: Sequence[T], report: Report) -> Grid:
    """Score one layer pair after the other; the report is of the unpermuted grid."""

    def fill(permutation: Permutation | None) -> Float64Array:
        moved = b if permutation is None else [layer.permuted(permutation) for layer in b]
        grid = np.empty((len(a), len(b)))
        for done, (i, j) in enumerate(np.ndindex(*grid.shape)):
            if permutation is None:
                report(done, grid.size)
            grid[i, j] = score(a[i], moved[j])
        return grid

    return fill


def _no_law(_a: object, _b: object) -> ClosedFormNull:
    raise LookupError("a law is asked for only where the metric's nulls name analytic")


@dataclass(frozen=True)
class ListScore(Generic[T]):
    """How a metric of neighbour lists is computed.

    Attributes
    ----------
    score : the value of two layers; NaN where it is undefined
    read : from a layer's lists of at least k neighbours, and k, to what `score` reads of them
    undefined : why a value can be undefined
    law : the closed-form null law of two layers, where there is one
    bind : from the layers of both sides to their grid; replaced where one kernel counts all pairs at once
    parts : the value of two layers, of lists longer than k, on many parts of the rows at once, where one kernel counts them
    """

    score: Callable[[T, T], float]
    read: Read[T]
    undefined: Reason = _UNDEFINED
    law: Callable[[T, T], ClosedFormNull] = _no_law
    bind: Callable[[Callable[[T, T], float], Sequence[T], Sequence[T], Report], Grid] = _score_grid
    parts: Callable[[NeighbourLists, NeighbourLists, int, BoolArray], Float64Array] | None = None

    def grid(self, a: Sequence[T], b: Sequence[T], report: Report) -> Grid:
        """Prepare the grid of all layer pairs."""
        return self.bind(self.score, a, b, report)


def find_score(metric: NeighbourMetric) -> ListScore[Any]:
    """Find how a metric with single options is computed."""
    return _SCORES[metric.metric](metric)


def _plain(score: Callable[[NeighbourLists, NeighbourLists], float], **facts: Any) -> ListScore[NeighbourLists]:
    return ListScore(score, NeighbourLists.first, **facts)


def _count_at_once(_score: object, a: Sequence[NeighbourLists], b: Sequence[NeighbourLists], _report: Report) -> Grid:
    return partial(metrics.mutual_knn_grid, np.stack([lists.ids for lists in a]), np.stack([lists.ids for lists in b]))


def _mutual_law(a: NeighbourLists, b: NeighbourLists) -> PearsonNull:
    return mutual_knn_null(count_graph(a.ids, a.k), count_graph(b.ids, b.k), a.n)


def _cycle(metric: CycleKnn) -> ListScore[NeighbourLists]:
    def law(a: NeighbourLists, b: NeighbourLists) -> NullMean:
        stepped = {"ab": (a,), "ba": (b,), "mean": (a, b)}[metric.direction]
        means = [cycle_knn_null(lists.ids, lists.k).mean for lists in stepped]
        return NullMean(sum(means) / len(means))

    return _plain(partial(metrics.cycle_knn, direction=metric.direction), law=law)


def _lcs(metric: LcsKnn) -> ListScore[NeighbourLists]:
    return _plain(partial(metrics.lcs_knn, raw=metric.raw))


def _cknna(metric: Cknna) -> ListScore[Any]:
    reason = Reason(
        code="non-positive-self-similarity",
        detail="The similarity of one of the layers with itself is not above 0; CKNNA divides by its root.",
    )
    return ListScore(
        partial(cknna, variant=metric.variant), partial(weight_edges, variant=metric.variant), undefined=reason
    )


_NO_DIRECTION = Reason(
    code="zero-similarities",
    detail="In one of the spaces an item has similarity 0 to all neighbours that either lists: their cosine has no value.",
)
_SCORES: dict[str, Callable[[Any], ListScore[Any]]] = {
    "mutual_knn": lambda _: _plain(
        metrics.mutual_knn, law=_mutual_law, bind=_count_at_once, parts=metrics.mutual_knn_in_galleries
    ),
    "jaccard_knn": lambda _: _plain(metrics.jaccard_knn),
    "rank_similarity": lambda _: _plain(metrics.rank_similarity),
    "lcs_knn": _lcs,
    "edit_distance_knn": lambda _: _plain(metrics.edit_distance_knn),
    "second_order_cosine": lambda _: _plain(metrics.second_order_cosine, undefined=_NO_DIRECTION),
    "cycle_knn": _cycle,
    "cknna": _cknna,
}


#: Bytes of n x n similarities kept on each side while items are relabelled or left out. Only metrics that ask for more than the
#: lists hold use them, and only where all layers of a side fit; else each draw takes inner products of rows.
SQUARE_BYTES = 128_000_000

# Leaving rows out of approximate lists shows how far the approximate score would scatter, not how far it is from the exact one;
# and the interval narrows as rows are added, where the bias does not.
_OFF_CENTRE = Reason(
    code="approximate-graph",
    detail="It would lie about the score of the approximate graphs, which is not that of the exact ones.",
)


@dataclass(frozen=True)
class _Listed:
    """The lists of both sides' layers, as long as intervals need them."""

    a: Sequence[NeighbourLists]
    b: Sequence[NeighbourLists]

    def grid(self, kind: ListScore[Any], k: int, report: Report) -> Grid:
        """Prepare the grid of all layer pairs at one k."""
        return kind.grid([kind.read(lists, k) for lists in self.a], [kind.read(lists, k) for lists in self.b], report)


@dataclass(frozen=True)
class _Resampling:
    """The scores of the same lists with rows left out: what intervals are made of."""

    metric: NeighbourMetric
    kind: ListScore[Any]
    comparison: Comparison
    grid: Float64Array
    lists: Callable[[], _Listed]
    exact: bool
    """Whether the graphs are."""

    def bounds(self, i: int, j: int, level: float) -> ConfidenceInterval | Reason:
        if not self.exact:
            return _OFF_CENTRE
        return _find_bounds(self.metric, self.comparison, float(self.grid[i, j]), self._rescore(i, j), level)

    def replicates(self, i: int, j: int) -> Replicates | Reason:
        if not self.exact:
            return _OFF_CENTRE
        (k,), comparison = self.metric.k, self.comparison
        found = resample(self._rescore(i, j), comparison.n, k, seed=comparison.seed, groups=comparison.groups)
        return _too_few(comparison.n, k) if found is None else found

    def _rescore(self, i: int, j: int) -> SubsetScorer:
        (k,), kind, listed = self.metric.k, self.kind, self.lists()
        # Cut to what this k needs, so that the other metrics of a request change no number.
        length = min(self.comparison.list_length, list_length(self.comparison.n, k))
        a, b = listed.a[i].first(length), listed.b[j].first(length)
        if kind.parts is not None:
            return partial(kind.parts, a, b, k)
        return score_each(lambda kept: kind.score(*(kind.read(lists.restricted(kept, k), k) for lists in (a, b))))


def measure_neighbours(metric: NeighbourMetric, comparison: Comparison) -> Measurement:
    """Measure the agreement of the neighbour lists of every layer pair at one k."""
    (k,) = metric.k
    kind = find_score(metric)
    graphs, record = _find_graphs(comparison, k)
    split = len(comparison.a.layers)
    # Of approximate graphs too: they are what they are, and relabelling moves them whole.
    listed = _list_layers(comparison, graphs, squared=False)
    report = partial(comparison.report, metric.metric)
    grid = listed.grid(kind, k, report)(None)
    reasons = _find_undefined(kind, comparison, grid)

    resampled = cache(lambda: _list_layers(comparison, graphs, squared=True))
    draw = cache(lambda: resampled().grid(kind, k, report))

    def permuted(permutation: Permutation) -> Float64Array:
        drawn = draw()(permutation)
        # A draw without a value counts as one that reaches the observed value: p errs on the safe side.
        return np.where(np.isnan(drawn) | np.isnan(grid), grid, drawn)

    resampling = _Resampling(metric, kind, comparison, grid, resampled, exact=record.recall_queries is None)
    return Measurement(
        grid=grid,
        reasons=reasons,
        law=lambda i, j: kind.law(kind.read(listed.a[i], k), kind.read(listed.b[j], k)),
        permuted=permuted,
        bounds=resampling.bounds,
        replicates=resampling.replicates,
        neighbours=record,
        warnings=warn(graphs[:split], graphs[split:], k),
    )


def _find_undefined(kind: ListScore[Any], comparison: Comparison, grid: Float64Array) -> dict[tuple[int, int], Reason]:
    """Say which cells have no value, and take the values of those whose layers are at fault."""
    reasons = find_reasons(comparison, Side.reason)
    for cell in reasons:
        grid[cell] = np.nan
    own = {(int(i), int(j)): kind.undefined for i, j in np.argwhere(np.isnan(grid)) if (i, j) not in reasons}
    return reasons | own


def _find_bounds(
    metric: NeighbourMetric, comparison: Comparison, value: float, within: SubsetScorer, level: float
) -> ConfidenceInterval | Reason:
    n, (k,) = comparison.n, metric.k
    found = resampled_interval(
        value,
        within,
        n,
        k,
        level=level,
        seed=comparison.seed,
        limits=(metric.low, metric.ceiling),
        groups=comparison.groups,
    )
    if found is not None:
        return found
    if subsample_rows(n) <= max(2 * k, ROWS_MIN - 1):
        return _too_few(n, k)
    return Reason(code="undefined-without-some-rows", detail="Leaving out some of the rows makes the score undefined.")


def _too_few(n: int, k: int) -> Reason:
    return Reason(
        code="too-few-rows",
        detail=f"It is taken from subsamples of {subsample_rows(n)} rows, and k = {k} needs more than {2 * k} in each.",
    )


def _find_graphs(comparison: Comparison, k: int) -> tuple[list[NeighbourGraph], NeighboursRecord]:
    """Find the graph of every layer, a's layers first; side by side, where their parts run elsewhere."""
    sides, n = _layers(comparison), comparison.n
    searched = _Searched(len(sides) * n, comparison.report)

    def find(number: int, side: Side, index: int) -> tuple[NeighbourGraph, bool]:
        found = side.graph(index, comparison.list_length, partial(searched.note, number))
        side.reason(index)  # while the rows that the graph was built of are there
        searched.note(number, n)
        return found

    calls = [partial(find, number, *layer) for number, layer in enumerate(sides)]
    found = _place(sides).overlap(calls)
    graphs, hits = [graph for graph, _ in found], {hit for _, hit in found}
    cached = "mixed" if len(hits) == 2 else "hit" if hits == {True} else "miss"
    certified = [graph.certified for graph in graphs if graph.certified is not None]
    measured = [graph.recall_queries for graph in graphs if graph.recall_queries is not None]
    return graphs, NeighboursRecord(
        builder="; ".join(dict.fromkeys(graph.builder for graph in graphs)),
        recall=worst_recall(graphs, k),
        recall_queries=min(measured, default=None),
        verified=min(certified, default=None),
        device="; ".join(dict.fromkeys(graph.device for graph in graphs)),
        cache=cached,
    )


def _place(layers: Sequence[tuple[Side, int]]) -> Parts:
    """Side by side where all of them only wait: the rows of a layer are not for two threads."""
    if not all(side.sends(index) for side, index in layers):
        return HERE
    for side, index in layers:
        side.scan(index)
    return layers[0][0].parts


class _Searched:
    """How many rows of all layers have been searched, told as they come, from whichever thread."""

    def __init__(self, total: int, report: Callable[[str, int, int], None]) -> None:
        self._total, self._report = total, report
        self._rows: dict[int, int] = {}
        self._telling = Lock()
        report("neighbours", 0, total)

    def note(self, layer: int, rows: int) -> None:
        """So many rows of a layer have been searched."""
        with self._telling:
            self._rows[layer] = rows
            self._report("neighbours", sum(self._rows.values()), self._total)


def _layers(comparison: Comparison) -> list[tuple[Side, int]]:
    return [(side, index) for side in (comparison.a, comparison.b) for index in range(len(side.layers))]


def _list_layers(comparison: Comparison, graphs: Sequence[NeighbourGraph], *, squared: bool) -> _Listed:
    """Cut every graph to the length that this request needs, so that a longer one from the cache changes no number."""
    length = comparison.list_length
    lists = [
        NeighbourLists.of(
            graph.ids[:, :length], graph.similarities[:, :length], _open_space(*layer, squared=squared), f"{number}"
        )
        for number, (graph, layer) in enumerate(zip(graphs, _layers(comparison), strict=True))
    ]
    split = len(comparison.a.layers)
    return _Listed(lists[:split], lists[split:])


def _open_space(side: Side, index: int, *, squared: bool) -> SimilaritySpace:
    """Give access to a layer's rows, and to all of its similarities where they are asked for and fit."""
    # The side keeps what is known, not the space: that holds the side, and a circle would keep both after the request.
    space = SimilaritySpace(partial(side.rows, index), known=side.keep(index, "known", dict))
    if not squared or 4 * side.n**2 * len(side.layers) > SQUARE_BYTES:
        return space

    def square() -> Float32Array:
        return side.keep(index, "similarities", lambda: np.asarray(side.rows(index) @ side.rows(index).T))

    return replace(space, square=square)
