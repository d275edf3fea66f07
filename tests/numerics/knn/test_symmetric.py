import multiprocessing
import pickle
from collections.abc import Callable
from threading import Barrier, get_ident

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilience.numerics.knn import symmetric
from consilience.numerics.knn.graph import NeighbourGraph, build_exact
from consilience.numerics.knn.queries import search_queries
from consilience.numerics.knn.symmetric import (
    Pair,
    TileTask,
    all_pairs,
    block_edges,
    build_symmetric,
    count_blocks,
    merge_partial_graphs,
    run_pairs,
    run_tile_task,
)
from consilience.numerics.rows import parallel
from consilience.numerics.rows.prepared import ArrayRows
from tests.hostile_rows import sort_all
from tests.reference_implementations import basic

Rows = npt.NDArray[np.float32]


def draw_rows(n: int, d: int, seed: int = 0) -> Rows:
    return basic.unit_rows(np.random.default_rng(seed).normal(size=(n, d))).astype(np.float32)


def draw_whole(n: int, d: int, seed: int, *, spread: int = 2) -> Rows:
    """Draw small integers, with exact float32 products and many ties."""
    return np.random.default_rng(seed).integers(-spread, spread + 1, size=(n, d)).astype(np.float32)


def assert_same(found: NeighbourGraph, expected: NeighbourGraph) -> None:
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.similarities, expected.similarities)


@pytest.mark.parametrize(("n", "d", "k"), [(4, 1, 1), (50, 3, 49), (300, 64, 10), (1100, 17, 48), (2100, 5, 300)])
def test_the_graph_is_that_of_a_full_float64_sort(n: int, d: int, k: int) -> None:
    x = draw_whole(n, d, n, spread=50)
    graph = build_symmetric(x, k)
    np.testing.assert_array_equal(graph.ids, sort_all(x, k))
    np.testing.assert_array_equal(graph.similarities, np.take_along_axis(x @ x.T, graph.ids.astype(np.intp), 1))
    assert graph.builder == "symmetric"


@pytest.mark.parametrize(("n", "d", "k"), [(700, 24, 48), (2500, 96, 10), (1025, 768, 48)])
def test_the_graph_is_that_of_a_flat_search_up_to_rounding(n: int, d: int, k: int) -> None:
    x = draw_rows(n, d)
    found, flat = build_symmetric(x, k), build_exact(x, k)
    np.testing.assert_allclose(found.similarities, flat.similarities, rtol=0, atol=1e-6)
    assert (found.ids == flat.ids).mean() > 0.999


@settings(deadline=None, max_examples=80)
@given(st.integers(5, 400), st.integers(1, 4), st.integers(0, 2**32 - 1), st.data())
def test_ties_are_ordered_by_id_with_copies_and_groups_of_any_size(
    n: int, d: int, seed: int, data: st.DataObject
) -> None:
    x = draw_whole(n, d, seed, spread=1)
    groups = None
    if data.draw(st.booleans()):
        groups = np.random.default_rng(seed).integers(0, data.draw(st.integers(2, n)), n).astype(np.int32)
        groups[:2] = [0, 1]
    most = n - (1 if groups is None else int(np.bincount(groups).max()))
    k = data.draw(st.integers(1, most))
    np.testing.assert_array_equal(build_symmetric(x, k, groups).ids, sort_all(x, k, groups))


def test_equal_rows_have_the_smallest_ids_as_neighbours() -> None:
    x = np.ones((1500, 8), np.float32)
    np.testing.assert_array_equal(build_symmetric(x, 20).ids, sort_all(x, 20))


def test_copies_in_different_tiles_have_equal_similarities() -> None:
    x = np.tile(draw_rows(97, 40), (24, 1))
    np.testing.assert_array_equal(build_symmetric(x, 23).ids, sort_all(x, 23))


@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1e18, 1e30, 1e37])
def test_rows_beyond_the_range_of_float32_products_are_scaled(scale: float) -> None:
    x = np.random.default_rng(4).normal(size=(300, 8)).astype(np.float32)
    scaled = (x * np.float64(scale)).astype(np.float32)
    np.testing.assert_array_equal(build_symmetric(scaled, 7).ids, basic.neighbours(scaled, 7))


def test_zero_rows_and_the_sign_of_zero_do_not_matter() -> None:
    x = np.zeros((200, 3), np.float32)
    x[50:] = -np.float32(0)
    x[100] = [1, 0, 0]
    np.testing.assert_array_equal(build_symmetric(x, 5).ids, sort_all(x, 5))


def test_similarities_are_symmetric_to_the_last_bit() -> None:
    graph = build_symmetric(draw_rows(1300, 33), 1299)
    square = np.zeros((1300, 1300), np.float32)
    np.put_along_axis(square, graph.ids.astype(np.intp), graph.similarities, axis=1)
    np.testing.assert_array_equal(square, square.T)


@pytest.mark.parametrize("seed", range(6))
def test_tasks_merge_to_the_same_bits_for_any_split(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, k = 1500, int(rng.integers(1, 60))
    x = draw_rows(n, 20)
    groups = rng.integers(0, 300, n).astype(np.int32) if seed % 2 else None
    pairs = all_pairs(count_blocks(n))
    rng.shuffle(pairs)
    cuts = np.sort(rng.integers(1, len(pairs), rng.integers(0, 6)))
    shares = [pairs[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(pairs)], strict=True) if start < stop]
    parts = [TileTask(ArrayRows(x), [(int(i), int(j)) for i, j in share], k, groups) for share in shares]
    partials = [pickle.loads(pickle.dumps(run_tile_task(part))) for part in parts]  # noqa: S301 - its own bytes
    rng.shuffle(partials)  # type: ignore[arg-type]  # a list can be shuffled
    assert_same(merge_partial_graphs(partials, ArrayRows(x), k, groups), build_symmetric(x, k, groups))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_number_of_threads_changes_no_bit(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = draw_rows(1800, 24)
    whole = build_symmetric(x, 30)
    for module in (parallel, symmetric):
        monkeypatch.setattr(module, "count_threads", lambda: count)
    assert_same(build_symmetric(x, 30), whole)


def test_progress_is_reported_up_to_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    # With a second thread, that one may do all tiles before this one, which tells, gets any.
    monkeypatch.setattr(symmetric, "count_threads", lambda: 1)
    reported: list[int] = []
    build_symmetric(draw_rows(2000, 4), 5, report=reported.append)
    assert reported == sorted(reported)
    assert reported[-1] == 2000
    assert len(reported) > 2


def test_an_exception_of_the_report_ends_the_search() -> None:
    def stop(_: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        build_symmetric(draw_rows(2000, 4), 5, report=stop)


def test_a_tile_that_fails_ends_the_search_in_every_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symmetric, "count_threads", lambda: 3)

    def fail(pair: Pair) -> None:
        raise ZeroDivisionError(pair)

    with pytest.raises(ZeroDivisionError):
        run_pairs(all_pairs(9), lambda: fail, lambda _: None)


def test_every_thread_processes_tiles() -> None:
    meeting, workers = Barrier(parallel.count_threads()), list[int]()

    def open_worker() -> Callable[[Pair], None]:
        meeting.wait(10)
        workers.append(get_ident())
        return lambda _: None

    run_pairs(all_pairs(16), open_worker, lambda _: None)
    assert len(set(workers)) == parallel.count_threads()


def test_tiles_processed_at_the_same_time_share_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symmetric, "count_threads", lambda: 6)
    busy: set[int] = set()
    done: list[Pair] = []

    def work(pair: Pair) -> None:
        assert busy.isdisjoint(pair)
        busy.update(pair)
        np.ones((200, 200)) @ np.ones((200, 200))
        busy.difference_update(pair)
        done.append(pair)

    run_pairs(all_pairs(7), lambda: work, lambda _: None)
    assert sorted(done) == all_pairs(7)


@given(st.integers(1, 300_000))
def test_blocks_are_almost_equal_and_not_too_large(n: int) -> None:
    sizes = np.diff(block_edges(n))
    assert sizes.sum() == n
    assert sizes.min() >= 1
    assert sizes.max() <= 1024
    assert sizes.max() - sizes.min() <= 1


def test_product_threads_are_restored_after_the_last_search() -> None:
    blas = parallel.find_blas()

    def counts() -> list[int]:
        return [library["num_threads"] for library in blas.info()]

    before = counts()
    cores = parallel.count_threads()
    with parallel.serial_products():
        with parallel.serial_products():
            assert counts() == [1] * len(before)
        assert counts() == [1] * len(before)
        assert parallel.count_threads() == cores
    assert counts() == before


def _search(pipe: "multiprocessing.connection.Connection") -> None:
    pipe.send(build_symmetric(draw_rows(1500, 16), 10).ids)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_searches_before_and_after_its_parent() -> None:
    fork = multiprocessing.get_context("fork")
    for _ in range(2):
        here, there = fork.Pipe()
        child = fork.Process(target=_search, args=(there,))
        child.start()
        assert here.poll(30)
        np.testing.assert_array_equal(here.recv(), build_symmetric(draw_rows(1500, 16), 10).ids)
        child.join(10)
        assert child.exitcode == 0


@pytest.mark.parametrize("largest", [2, 60, 130, 400])
def test_large_groups_within_one_block_leave_enough_neighbours(largest: int) -> None:
    x = draw_whole(700, 3, largest)
    groups = np.maximum(np.arange(700) - largest, -1).astype(np.int32) + 1  # the first rows belong together
    np.testing.assert_array_equal(build_symmetric(x, 150, groups).ids, sort_all(x, 150, groups))


def test_near_equal_rows_are_ordered_as_in_float64_anywhere_in_a_tile() -> None:
    rng = np.random.default_rng(0)
    # Copies that differ by ones in a hundred million: no float32 sum of 300 products tells which is nearer.
    x = np.tile(draw_rows(60, 300), (30, 1))
    x += (rng.integers(-2, 3, x.shape) * 2.0**-27).astype(np.float32)
    graph = build_symmetric(x, 40)
    exact = np.take_along_axis(x.astype(np.float64) @ x.T.astype(np.float64), graph.ids.astype(np.intp), axis=1)
    assert (np.diff(exact, axis=1) <= 1e-14).all()
    np.testing.assert_array_equal(graph.ids, build_exact(x, 40).ids)
    found = search_queries(np.arange(len(x), dtype=np.int32), ArrayRows(x), 40)
    np.testing.assert_array_equal(graph.ids, found.ids[0])
