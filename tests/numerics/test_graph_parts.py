"""A graph in parts is the graph in one piece, to the last bit."""

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import pytest

from consilience.numerics.certified import build_certified
from consilience.numerics.graph_parts import PART_STEPS, STRIPES_MAX, GraphTask, build_in_parts, split_pairs
from consilience.numerics.graphs import ExactBuilder, build_graph
from consilience.numerics.neighbours import find_exponent
from consilience.numerics.parts import HERE
from consilience.numerics.rows import PreparedRows
from consilience.numerics.sources import ArrayLayer
from consilience.numerics.tile_pairs import all_pairs, block_edges, count_blocks
from tests.hostile_rows import HOSTILE, Draw, sort_all

Part = TypeVar("Part")
Result = TypeVar("Result")


class Told(list[int]):
    """What was reported."""


class Counting:
    """Counts the parts that it runs."""

    elsewhere = True

    def __init__(self) -> None:
        self.parts = 0

    def map(self, function: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
        self.parts += len(parts)
        return map(function, pickle.loads(pickle.dumps(parts)))  # noqa: S301 - our own, as a cluster's are

    def overlap(self, calls: Sequence[Callable[[], Result]]) -> list[Result]:
        return HERE.overlap(calls)


@pytest.mark.parametrize(
    ("builder", "count"), [("auto", 10), ("symmetric", 10), ("certified_bf16", 1 + 10 + 7), ("faiss", 1)]
)
def test_its_parts_make_the_same_graph(monkeypatch: pytest.MonkeyPatch, builder: ExactBuilder, count: int) -> None:
    monkeypatch.setattr("consilience.numerics.graph_parts.PART_STEPS", 720 * 720 * 16)
    x = np.random.default_rng(0).standard_normal((2000, 16)).astype(np.float16)
    x[5], groups = x[1700], np.arange(2000, dtype=np.int32) // 2
    rows, parts, told = PreparedRows(ArrayLayer("0", x)), Counting(), Told()
    found = build_in_parts(GraphTask(rows, 12, groups, 0, builder), parts, told.append)
    whole = build_graph(rows.load().array, 12, groups, None, builder)
    np.testing.assert_array_equal(found.ids, whole.ids)
    np.testing.assert_array_equal(found.similarities, whole.similarities)
    assert (found.builder, parts.parts) == (whole.builder, count)
    assert told == sorted(told)
    assert not told or told[-1] == 2000


@pytest.mark.parametrize(("n", "dim"), [(200, 8), (5000, 64), (16_384, 1024), (100_000, 768), (1_000_000, 384)])
def test_every_tile_is_in_one_part_and_parts_are_of_a_size(n: int, dim: int) -> None:
    split = split_pairs(n, dim)
    assert sorted(pair for pairs in split for pair in pairs) == all_pairs(count_blocks(n))
    steps = max(len(pairs) for pairs in split) * block_edges(n)[1] ** 2 * dim
    stripes = (2 * len(split)) ** 0.5
    assert stripes < STRIPES_MAX + 1
    assert steps <= PART_STEPS or stripes > STRIPES_MAX - 2


@pytest.mark.parametrize("scale", [0, 58], ids=["", "huge"])
@pytest.mark.parametrize("draw", HOSTILE)
def test_hostile_rows_in_parts_have_the_neighbours_of_a_full_sort_in_float64(
    monkeypatch: pytest.MonkeyPatch, draw: Draw, scale: int
) -> None:
    monkeypatch.setattr("consilience.numerics.graph_parts.PART_STEPS", 720 * 720 * 8)
    x = np.ldexp(draw(np.random.default_rng(8), 1100, 8), scale)
    rows = PreparedRows(ArrayLayer("0", x), normalise=False)
    groups = np.arange(1100, dtype=np.int32) // 3
    graph = build_in_parts(GraphTask(rows, 10, groups, find_exponent(x), "certified_bf16"), HERE)
    np.testing.assert_array_equal(graph.ids, sort_all(x, 10, groups))
    whole = build_certified(x, 10, groups)
    np.testing.assert_array_equal(graph.similarities, whole.similarities)
    assert graph.certified == whole.certified
