"""Graphs built by tasks are equal to graphs built at once, to the last bit."""

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilience.limits import PART_STEPS, STRIPES_MAX
from consilience.numerics.knn import tie_break
from consilience.numerics.knn.accelerated import bfloat16
from consilience.numerics.knn.accelerated.bfloat16 import build_verified
from consilience.numerics.knn.build import ExactBuilder, build_graph
from consilience.numerics.knn.graph import find_exponent
from consilience.numerics.knn.graph_tasks import GraphTask, build_by_tasks, split_pairs
from consilience.numerics.knn.symmetric import all_pairs, block_edges, count_blocks
from consilience.numerics.knn.tile_kernels import make_keys
from consilience.numerics.rows.parallel import LOCAL_EXECUTOR
from consilience.numerics.rows.prepared import PreparedRows
from consilience.numerics.rows.sources import ArrayLayer
from tests.hostile_rows import HOSTILE, Draw, draw_case, sort_all

Part = TypeVar("Part")
Result = TypeVar("Result")


class Reported(list[int]):
    """List of reported values."""


class CountingExecutor:
    """Executor that counts its tasks."""

    is_remote = True

    def __init__(self) -> None:
        self.parts = 0

    def map(self, function: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
        self.parts += len(parts)
        return map(function, pickle.loads(pickle.dumps(parts)))  # noqa: S301 - our own, as a cluster's are

    def run_concurrently(self, calls: Sequence[Callable[[], Result]]) -> list[Result]:
        return LOCAL_EXECUTOR.run_concurrently(calls)


@pytest.mark.parametrize(
    ("builder", "count"), [("auto", 10 + 3), ("symmetric", 10 + 3), ("verified_bf16", 1 + 10 + 7), ("faiss", 1)]
)
def test_tasks_build_the_same_graph(monkeypatch: pytest.MonkeyPatch, builder: ExactBuilder, count: int) -> None:
    monkeypatch.setattr("consilience.numerics.knn.graph_tasks.PART_STEPS", 720 * 720 * 16)
    x = np.random.default_rng(0).standard_normal((2000, 16)).astype(np.float16)
    x[5], groups = x[1700], np.arange(2000, dtype=np.int32) // 2
    rows, parts, told = PreparedRows(ArrayLayer("0", x)), CountingExecutor(), Reported()
    found = build_by_tasks(GraphTask(rows, 12, groups, 0, builder), parts, told.append)
    whole = build_graph(rows.load().array, 12, groups, None, builder)
    np.testing.assert_array_equal(found.ids, whole.ids)
    np.testing.assert_array_equal(found.similarities, whole.similarities)
    assert (found.builder, parts.parts) == (whole.builder, count)
    assert told == sorted(told)
    assert not told or told[-1] == 2000


@pytest.mark.parametrize(("n", "dim"), [(200, 8), (5000, 64), (16_384, 1024), (100_000, 768), (1_000_000, 384)])
def test_every_tile_is_in_one_task_and_tasks_have_similar_sizes(n: int, dim: int) -> None:
    split = split_pairs(n, dim)
    assert sorted(pair for pairs in split for pair in pairs) == all_pairs(count_blocks(n))
    steps = max(len(pairs) for pairs in split) * block_edges(n)[1] ** 2 * dim
    stripes = (2 * len(split)) ** 0.5
    assert stripes < STRIPES_MAX + 1
    assert steps <= PART_STEPS or stripes > STRIPES_MAX - 2


@pytest.mark.parametrize("scale", [0, 58], ids=["", "huge"])
@pytest.mark.parametrize("draw", HOSTILE)
def test_tasks_find_the_neighbours_of_a_full_float64_sort(
    monkeypatch: pytest.MonkeyPatch, draw: Draw, scale: int
) -> None:
    monkeypatch.setattr("consilience.numerics.knn.graph_tasks.PART_STEPS", 720 * 720 * 8)
    x = np.ldexp(draw(np.random.default_rng(8), 1100, 8), scale)
    rows = PreparedRows(ArrayLayer("0", x), normalise=False)
    groups = np.arange(1100, dtype=np.int32) // 3
    graph = build_by_tasks(GraphTask(rows, 10, groups, find_exponent(x), "verified_bf16"), LOCAL_EXECUTOR)
    np.testing.assert_array_equal(graph.ids, sort_all(x, 10, groups))
    whole = build_verified(x, 10, groups)
    np.testing.assert_array_equal(graph.similarities, whole.similarities)
    assert graph.verified == whole.verified


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(HOSTILE), st.integers(5, 600), st.integers(1, 8), st.integers(0, 2**32 - 1), st.data())
def test_tasks_find_these_neighbours_with_groups_and_any_k(
    draw: Draw, n: int, d: int, seed: int, data: st.DataObject
) -> None:
    """Includes few candidates, so that each one counts, and more candidates than rows."""
    x, groups, k = draw_case(draw, n, d, seed, data)
    task = GraphTask(PreparedRows(ArrayLayer("0", x), normalise=False), k, groups, builder="verified_bf16")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("consilience.numerics.knn.graph_tasks.PART_STEPS", 1)
        patch.setattr(tie_break, "BLOCK_CANDIDATES", 500)
        patch.setattr(bfloat16, "BEYOND_MIN", data.draw(st.sampled_from([0, 38])))
        graph, whole = build_by_tasks(task, CountingExecutor()), build_verified(x, k, groups)
    np.testing.assert_array_equal(graph.ids, sort_all(x, k, groups))
    assert graph.verified == whole.verified


@pytest.mark.parametrize("draw", HOSTILE)
def test_limits_from_other_tasks_drop_no_candidate(monkeypatch: pytest.MonkeyPatch, draw: Draw) -> None:
    """With one candidate beyond k, every dropped candidate changes the verified rows."""
    monkeypatch.setattr("consilience.numerics.knn.graph_tasks.PART_STEPS", 1)
    monkeypatch.setattr(bfloat16, "BEYOND_MIN", 0)
    x = draw(np.random.default_rng(3), 2200, 8)
    rows = PreparedRows(ArrayLayer("0", x), normalise=False)
    graph = build_by_tasks(GraphTask(rows, 1, builder="verified_bf16"), LOCAL_EXECUTOR)
    whole = build_verified(x, 1)
    np.testing.assert_array_equal(graph.ids, sort_all(x, 1))
    assert graph.verified == whole.verified


def test_all_candidates_within_both_error_bounds_take_part_in_the_tie_break() -> None:
    found = np.array([[0.9, 0.8, 0.79, 0.71, 0.69], [0.9, 0.8, 0.5, 0.4, 0.3]], np.float32)
    ids, keys = np.arange(10, dtype=np.int32).reshape(2, 5), np.empty((2, 5), np.uint64)
    make_keys(found, ids, np.array([5, 4]), keys, 0, 2)
    # At k = 2 and errors of 0.05, 0.8 can be 0.75 and 0.71 can be 0.76; 0.69 is at most 0.74.
    needed = tie_break._count_needed(keys, np.array([0.05, 0.05]), 2)
    assert needed.tolist() == [4, 2]
    assert tie_break._count_needed(keys, np.array([0.05, 10.0]), 2).tolist() == [4, 4]
