"""Exact neighbour graphs built by the tasks of an executor: by tiles if the builder has tiles, else in one task."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, isqrt

from consilience.limits import PART_STEPS, STRIPES_MAX
from consilience.numerics.knn.build import ExactBuilder, build_graph, choose_builder
from consilience.numerics.knn.graph import NeighbourGraph
from consilience.numerics.knn.symmetric import (
    Pair,
    PartialGraph,
    TileTask,
    block_edges,
    count_blocks,
    merge_partial_graphs,
    run_tile_task,
)
from consilience.numerics.knn.tie_break import search_unverified
from consilience.numerics.rows.arrays import IdArray
from consilience.numerics.rows.parallel import Executor
from consilience.numerics.rows.prepared import PreparedRows, scaled


@dataclass(frozen=True)
class GraphTask:
    """Request for the exact graph of one layer.

    Attributes
    ----------
    rows : access to the rows, (n, d)
    k_max : number of neighbours of each row
    groups : array of shape (n,), int32; rows of one group are never neighbours of each other
    exponent : rows are scaled by 2 to this power (see `graph.find_exponent`)
    builder : the builder; auto: the fastest one
    """

    rows: PreparedRows
    k_max: int
    groups: IdArray | None = None
    exponent: int = 0
    builder: ExactBuilder = "auto"


def build_by_tasks(task: GraphTask, executor: Executor, report: Callable[[int], None] | None = None) -> NeighbourGraph:
    """Build a graph that is bit for bit equal to that of `build.build_graph` with the same builder.

    `report` is called with the number of rows searched, or the equivalent number.
    """
    n, dim = task.rows.n, task.rows.dim
    builder = choose_builder(n, dim) if task.builder == "auto" else task.builder
    if builder == "faiss":
        (graph,) = executor.map(_build_whole, [replace(task, builder=builder)])
        return graph
    if builder == "verified_bf16":
        return _build_verified(task, executor, report)
    return _build_symmetric(task, executor, report)


def _build_symmetric(task: GraphTask, executor: Executor, report: Callable[[int], None] | None) -> NeighbourGraph:
    n, rows = task.rows.n, scaled(task.rows, task.exponent)
    tasks = [TileTask(rows, pairs, task.k_max, task.groups) for pairs in split_pairs(n, task.rows.dim)]
    done, total = 0, sum(len(tile_task.pairs) for tile_task in tasks)

    def found() -> Iterator[PartialGraph]:
        nonlocal done
        for tile_task, partial in zip(tasks, executor.map(run_tile_task, tasks), strict=True):
            yield partial
            done += len(tile_task.pairs)
            if report is not None:
                report(n * done // total)

    return merge_partial_graphs(found(), rows, task.k_max, task.groups, executor)


def _build_verified(task: GraphTask, executor: Executor, report: Callable[[int], None] | None) -> NeighbourGraph:
    from consilience.numerics.knn.accelerated.bfloat16 import BUILDER, UNVERIFIED_SHARE_MAX  # noqa: PLC0415 - imports torch
    from consilience.numerics.knn.accelerated.bfloat16_tasks import search_verified  # noqa: PLC0415 - imports torch

    rows, n = scaled(task.rows, task.exponent), task.rows.n
    tasks = split_pairs(n, rows.dim)
    found, verified = search_verified(
        rows, task.k_max, task.groups, tiles_of_tasks=tasks, executor=executor, report=report or (lambda _: None)
    )
    left = ~verified
    if left.mean() > UNVERIFIED_SHARE_MAX:
        whole = _build_symmetric(task, executor, None)
        found.ids[left], found.similarities[left] = whole.ids[left], whole.similarities[left]
    else:
        search_unverified(rows, task.groups, found, verified, executor)
    if report is not None:
        report(n)
    return NeighbourGraph(found.ids, found.similarities, BUILDER, verified=float(verified.mean()))


def split_pairs(n: int, dim: int) -> list[list[Pair]]:
    """Split all tiles of n rows into tasks, each a square of tiles or half of one on the diagonal, by the sizes only."""
    blocks = count_blocks(n)
    block_rows = block_edges(n)[1]
    width = max(1, isqrt(int(PART_STEPS / dim)) // block_rows, ceil(blocks / STRIPES_MAX))
    stripes = [range(start, min(start + width, blocks)) for start in range(0, blocks, width)]
    return [
        [(i, j) for i, j in product(stripes[first], stripes[last]) if i <= j]
        for first in range(len(stripes))
        for last in range(first, len(stripes))
    ]


def _build_whole(task: GraphTask) -> NeighbourGraph:
    return build_graph(task.rows.load().array, task.k_max, task.groups, None, task.builder)
