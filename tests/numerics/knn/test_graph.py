import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilience.numerics.knn.graph import NeighbourGraph, build_exact
from tests.reference_implementations import basic


@pytest.mark.parametrize(("n", "d", "k"), [(50, 3, 1), (300, 64, 10), (1025, 17, 48), (12, 5, 11)])
def test_the_graph_is_that_of_a_full_float64_sort(n: int, d: int, k: int) -> None:
    x = basic.unit_rows(np.random.default_rng(n).normal(size=(n, d))).astype(np.float32)
    np.testing.assert_array_equal(build_exact(x, k).ids, basic.neighbours(x, k))


def test_a_row_is_never_its_own_neighbour_even_among_its_copies() -> None:
    x = np.ones((40, 3), np.float32)
    ids = build_exact(x, 5).ids
    assert not (ids == np.arange(40)[:, None]).any()


def test_any_number_of_copies_is_ordered_by_id() -> None:
    x = np.repeat(np.eye(3, dtype=np.float32), 30, axis=0)
    np.testing.assert_array_equal(build_exact(x, 4).ids, basic.neighbours(x, 4))


@settings(deadline=None, max_examples=60)
@given(st.integers(5, 60), st.integers(1, 3), st.integers(0, 2**32 - 1), st.data())
def test_ties_of_small_integers_are_ordered_by_id(n: int, d: int, seed: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n - 1))
    x = np.random.default_rng(seed).integers(-1, 2, size=(n, d)).astype(np.float32)
    np.testing.assert_array_equal(build_exact(x, k).ids, basic.neighbours(x, k))


def test_the_lists_of_a_smaller_k_are_prefixes() -> None:
    x = np.random.default_rng(1).normal(size=(200, 8)).astype(np.float32)
    np.testing.assert_array_equal(build_exact(x, 30).ids[:, :7], build_exact(x, 7).ids)


def test_similarities_descend_and_belong_to_their_ids() -> None:
    x = np.random.default_rng(2).normal(size=(100, 8)).astype(np.float32)
    graph = build_exact(x, 9)
    assert (np.diff(graph.similarities, axis=1) <= 0).all()
    np.testing.assert_allclose(graph.similarities, np.take_along_axis(x @ x.T, graph.ids.astype(np.intp), 1), rtol=1e-5)


def test_serialisation_of_a_graph_is_exact() -> None:
    graph = build_exact(np.random.default_rng(3).normal(size=(20, 4)).astype(np.float32), 5)
    read = NeighbourGraph.from_bytes(graph.to_bytes())
    np.testing.assert_array_equal(read.ids, graph.ids)
    np.testing.assert_array_equal(read.similarities, graph.similarities)
    assert (read.builder, read.verified) == (graph.builder, graph.verified) == ("faiss_flat", None)


@pytest.mark.parametrize("groups", [25, 40, 3])
def test_rows_of_one_group_are_never_neighbours(groups: int) -> None:
    rng = np.random.default_rng(groups)
    x = rng.normal(size=(90, 4)).astype(np.float32)
    owner = rng.integers(0, groups, 90).astype(np.int32)
    k = min(20, 90 - int(np.bincount(owner).max()))
    similarity = x @ x.T
    similarity[owner[:, None] == owner] = -np.inf
    expected = np.lexsort((np.broadcast_to(np.arange(90), (90, 90)), -similarity), axis=1)[:, :k]
    np.testing.assert_array_equal(build_exact(x, k, owner).ids, expected)


@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1e18, 1e30, 1e37])
def test_rows_beyond_the_range_of_float32_products_are_scaled(scale: float) -> None:
    x = np.random.default_rng(4).normal(size=(60, 8)).astype(np.float32)
    scaled = (x * np.float64(scale)).astype(np.float32)
    np.testing.assert_array_equal(build_exact(scaled, 7).ids, basic.neighbours(scaled, 7))
    np.testing.assert_array_equal(build_exact(scaled, 7).ids, build_exact(x, 7).ids)


def test_blocks_of_queries_change_nothing_and_report_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    from consilience.numerics.knn import graph as neighbours

    x = np.repeat(np.random.default_rng(5).normal(size=(100, 4)).astype(np.float32), 3, axis=0)
    whole, reported = build_exact(x, 12), []
    monkeypatch.setattr(neighbours, "BLOCK_STEPS", 1.0)
    monkeypatch.setattr(neighbours, "MIN_BLOCK_ROWS", 64)
    np.testing.assert_array_equal(build_exact(x, 12, report=reported.append).ids, whole.ids)
    assert reported == [64, 128, 192, 256, 300]
