"""An exact neighbour graph in parts that can be built elsewhere: tiles where the builder has tiles, else all in one."""

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
    """The exact graph of one layer.

    Attributes
    ----------
    rows : where its rows are, (n, d)
    k_max : neighbours of each row
    groups : array of shape (n,), int32; rows of one group are never each other's neighbours
    exponent : rows are scaled by 2 to this power (see `neighbours.find_exponent`)
    builder : how it is built; auto: by tiles, whenever they are worth it
    """

    rows: PreparedRows
    k_max: int
    groups: IdArray | None = None
    exponent: int = 0
    builder: ExactBuilder = "auto"


def build_by_tasks(task: GraphTask, executor: Executor, report: Callable[[int], None] | None = None) -> NeighbourGraph:
    """Build a graph, bit for bit the one that `graphs.build_graph` builds in this process with the same builder.

    `report` is told how many rows have been searched, or what comes to as much.
    """
    n, dim = task.rows.n, task.rows.dim
    builder = choose_builder(n, dim) if task.builder == "auto" else task.builder
    if builder == "faiss":
        (graph,) = executor.map(_build_whole, [replace(task, builder=builder)])
        return graph
    if builder == "verified_bf16":
        return _build_certified(task, executor, report)
    return _build_symmetric(task, executor, report)


def _build_symmetric(task: GraphTask, executor: Executor, report: Callable[[int], None] | None) -> NeighbourGraph:
    n, rows = task.rows.n, scaled(task.rows, task.exponent)
    split = [TileTask(rows, pairs, task.k_max, task.groups) for pairs in split_pairs(n, task.rows.dim)]
    done, total = 0, sum(len(part.pairs) for part in split)

    def found() -> Iterator[PartialGraph]:
        nonlocal done
        for part, partial in zip(split, executor.map(run_tile_task, split), strict=True):
            yield partial
            done += len(part.pairs)
            if report is not None:
                report(n * done // total)

    return merge_partial_graphs(found(), rows, task.k_max, task.groups, executor)


def _build_certified(task: GraphTask, executor: Executor, report: Callable[[int], None] | None) -> NeighbourGraph:
    from consilience.numerics.knn.accelerated.bfloat16 import (
        BUILDER,  # noqa: PLC0415 - it loads torch
        UNVERIFIED_SHARE_MAX,  # noqa: PLC0415 - it loads torch
    )
    from consilience.numerics.knn.accelerated.bfloat16_tasks import search_verified  # noqa: PLC0415 - the same

    rows, n = scaled(task.rows, task.exponent), task.rows.n
    split = split_pairs(n, rows.dim)
    found, certified = search_verified(
        rows, task.k_max, task.groups, split=split, executor=executor, report=report or (lambda _: None)
    )
    left = ~certified
    if left.mean() > UNVERIFIED_SHARE_MAX:
        whole = _build_symmetric(task, executor, None)
        found.ids[left], found.similarities[left] = whole.ids[left], whole.similarities[left]
    else:
        search_unverified(rows, task.groups, found, certified, executor)
    if report is not None:
        report(n)
    return NeighbourGraph(found.ids, found.similarities, BUILDER, verified=float(certified.mean()))


def split_pairs(n: int, dim: int) -> list[list[Pair]]:
    """Deal all tiles of n rows to parts, each a square of tiles, or half of one at the diagonal: by the sizes alone."""
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
