"""mutual_knn on two sides: one graph a layer, from which values, nulls and intervals all follow."""

from functools import cache

import numpy as np

from consilience.contract.metrics import MutualKnn
from consilience.contract.scores import NeighboursRecord, Reason
from consilience.measures.comparison import Comparison, Side
from consilience.measures.measurement import Measurement, find_reasons
from consilience.numerics import overlap
from consilience.numerics.arrays import IdArray
from consilience.numerics.intervals import Bounds, mutual_knn_bounds, subsample_rows
from consilience.numerics.neighbours import NeighbourGraph
from consilience.numerics.nulls import NullLaw, count_graph, mutual_knn_law


def measure_mutual_knn(metric: MutualKnn, comparison: Comparison) -> Measurement:
    """Measure the overlap of every layer pair at one k."""
    (k,) = metric.k
    graphs_a, graphs_b, record = _find_graphs(comparison)
    stack_a, stack_b = _stack(graphs_a, k), _stack(graphs_b, k)
    reasons = find_reasons(comparison, Side.reason)
    grid = overlap.mutual_knn_grid(stack_a, stack_b)
    undefined = tuple(np.array(list(reasons)).T) if reasons else ([], [])
    grid[undefined] = np.nan

    counts_a = cache(lambda i: count_graph(graphs_a[i].ids, k))
    counts_b = cache(lambda j: count_graph(graphs_b[j].ids, k))

    def law(i: int, j: int) -> NullLaw:
        return mutual_knn_law(counts_a(i), counts_b(j), comparison.n)

    def bounds(i: int, j: int, level: float) -> Bounds | Reason:
        found = mutual_knn_bounds(graphs_a[i].ids, graphs_b[j].ids, k, level, comparison.seed)
        subsample = subsample_rows(comparison.n)
        return found or Reason(
            code="too-few-rows",
            detail=f"It is taken from subsamples of {subsample} rows, and k = {k} needs more than {2 * k} in each.",
        )

    return Measurement(
        grid=grid,
        reasons=reasons,
        law=law,
        permuted=lambda permutation: overlap.mutual_knn_grid(stack_a, stack_b, permutation),
        bounds=bounds,
        neighbours=record,
    )


def _stack(graphs: list[NeighbourGraph], k: int) -> IdArray:
    return np.stack([graph.ids[:, :k] for graph in graphs])


def _find_graphs(comparison: Comparison) -> tuple[list[NeighbourGraph], list[NeighbourGraph], NeighboursRecord]:
    """Find the graph of every layer of both sides."""
    sides = [(side, index) for side in (comparison.a, comparison.b) for index in range(len(side.layers))]
    found = []
    for done, (side, index) in enumerate(sides):
        comparison.report("neighbours", done, len(sides))
        found.append(side.graph(index, comparison.list_length))
    comparison.report("neighbours", len(sides), len(sides))
    graphs, hits = [graph for graph, _ in found], {hit for _, hit in found}
    cached = "mixed" if len(hits) == 2 else "hit" if hits == {True} else "miss"
    record = NeighboursRecord(builder=graphs[0].builder, recall=1.0, cache=cached)
    split = len(comparison.a.layers)
    return graphs[:split], graphs[split:], record
