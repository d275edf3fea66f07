"""Metrics of neighbour lists on two sides: one graph a layer, from which values, nulls and intervals all follow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from threading import Lock
from typing import Any

import numpy as np

from consilience.contract.metric import NeighbourMetric
from consilience.contract.scores import NeighboursRecord, Reason
from consilience.measures.approximation import warn, worst_recall
from consilience.measures.comparison import Comparison, Side
from consilience.measures.list_scores import Grid, ListScore, Report, find_score
from consilience.measures.measurement import Measurement, find_reasons
from consilience.numerics.arrays import ROWS_MIN, Float32Array, Float64Array
from consilience.numerics.intervals import (
    Bounds,
    Replicates,
    Within,
    list_length,
    one_by_one,
    resample,
    resampled_bounds,
    subsample_rows,
)
from consilience.numerics.lists import Lists, Space
from consilience.numerics.neighbours import NeighbourGraph
from consilience.numerics.parts import HERE, Parts
from consilience.numerics.permutations import Permutation

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

    a: Sequence[Lists]
    b: Sequence[Lists]

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

    def bounds(self, i: int, j: int, level: float) -> Bounds | Reason:
        if not self.exact:
            return _OFF_CENTRE
        return _find_bounds(self.metric, self.comparison, float(self.grid[i, j]), self._rescore(i, j), level)

    def replicates(self, i: int, j: int) -> Replicates | Reason:
        if not self.exact:
            return _OFF_CENTRE
        (k,), comparison = self.metric.k, self.comparison
        found = resample(self._rescore(i, j), comparison.n, k, seed=comparison.seed, groups=comparison.groups)
        return _too_few(comparison.n, k) if found is None else found

    def _rescore(self, i: int, j: int) -> Within:
        (k,), kind, listed = self.metric.k, self.kind, self.lists()
        # Cut to what this k needs, so that the other metrics of a request change no number.
        length = min(self.comparison.list_length, list_length(self.comparison.n, k))
        a, b = listed.a[i].first(length), listed.b[j].first(length)
        if kind.parts is not None:
            return partial(kind.parts, a, b, k)
        return one_by_one(lambda kept: kind.score(*(kind.read(lists.within(kept, k), k) for lists in (a, b))))


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
    metric: NeighbourMetric, comparison: Comparison, value: float, within: Within, level: float
) -> Bounds | Reason:
    n, (k,) = comparison.n, metric.k
    found = resampled_bounds(
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
        certified=min(certified, default=None),
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
        Lists.of(
            graph.ids[:, :length], graph.similarities[:, :length], _open_space(*layer, squared=squared), f"{number}"
        )
        for number, (graph, layer) in enumerate(zip(graphs, _layers(comparison), strict=True))
    ]
    split = len(comparison.a.layers)
    return _Listed(lists[:split], lists[split:])


def _open_space(side: Side, index: int, *, squared: bool) -> Space:
    """Give access to a layer's rows, and to all of its similarities where they are asked for and fit."""
    # The side keeps what is known, not the space: that holds the side, and a circle would keep both after the request.
    space = Space(partial(side.rows, index), known=side.keep(index, "known", dict))
    if not squared or 4 * side.n**2 * len(side.layers) > SQUARE_BYTES:
        return space

    def square() -> Float32Array:
        return side.keep(index, "similarities", lambda: np.asarray(side.rows(index) @ side.rows(index).T))

    return replace(space, square=square)
