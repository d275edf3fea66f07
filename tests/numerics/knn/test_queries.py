"""Neighbours of query rows, compared with the graph of all rows and with the graph of each gallery."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import faiss
import numpy as np
import pytest

from consilience.numerics.knn import queries as module
from consilience.numerics.knn.graph import build_exact, scale_exponent
from consilience.numerics.knn.queries import search_queries, search_vectors
from consilience.numerics.rows.arrays import Float32Array, IdArray
from consilience.numerics.rows.parallel import LocalExecutor
from consilience.numerics.rows.prepared import ArrayRows, PreparedRows, scaled
from consilience.numerics.rows.sources import ArrayLayer

N, K = 400, 9


def normal(n: int = N, dim: int = 12, seed: int = 0) -> Float32Array:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def small_integers(n: int = N, dim: int = 5) -> Float32Array:
    """Draw rows with exact products, nearly all of which are repeated."""
    return np.random.default_rng(1).integers(-1, 2, size=(n, dim)).astype(np.float32)


def some(m: int, n: int = N, seed: int = 2) -> IdArray:
    return np.random.default_rng(seed).permutation(n)[:m].astype(np.int32)


def nested(sizes: Sequence[int], n: int = N) -> tuple[IdArray, np.ndarray]:
    """Draw a random order of all rows, and the smallest gallery of each."""
    order = some(n, n, seed=3)
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n)
    return order, np.searchsorted(sizes, rank, side="right").astype(np.uint8)


def draw_groups(n: int = N) -> IdArray:
    return np.random.default_rng(4).integers(0, n // 5, size=n).astype(np.int32)


def test_queries_have_the_neighbours_of_the_graph_of_all_rows() -> None:
    x, query_ids = normal(), some(70)
    graph = build_exact(x, K)
    found = search_queries(query_ids, ArrayRows(x), K)
    np.testing.assert_array_equal(found.ids, graph.ids[query_ids][None])
    np.testing.assert_allclose(found.similarities, graph.similarities[query_ids][None], rtol=1e-5)


def test_at_equal_similarity_the_smaller_id_is_first() -> None:
    x, query_ids = small_integers(), some(200)
    graph = build_exact(x, K)
    found = search_queries(query_ids, ArrayRows(x), K)
    np.testing.assert_array_equal(found.ids[0], graph.ids[query_ids])
    np.testing.assert_array_equal(found.similarities[0], graph.similarities[query_ids])


def test_minus_zero_ties_with_zero() -> None:
    x = np.array([[1, 0], [0, -1], [-0.0, 1], [0, 0], [-1, 0]], np.float32)
    assert search_queries(np.array([0], np.int32), ArrayRows(x), 4).ids.tolist() == [[[1, 2, 3, 4]]]


def test_rows_of_one_group_are_never_neighbours() -> None:
    x, groups, query_ids = normal(), draw_groups(), some(100)
    graph = build_exact(x, K, groups)
    np.testing.assert_array_equal(
        search_queries(query_ids, ArrayRows(x), K, groups=groups).ids[0], graph.ids[query_ids]
    )


@pytest.mark.parametrize("rows", [normal, small_integers])
@pytest.mark.parametrize("grouped", [False, True])
def test_each_gallery_gives_the_graph_of_its_own_rows(*, rows: Callable[[], Float32Array], grouped: bool) -> None:
    x, sizes = rows(), (40, 41, 150, N)
    groups = draw_groups() if grouped else None
    order, rings = nested(sizes)
    found = search_queries(order, ArrayRows(x), K, groups=groups, galleries=rings)
    for ids, size in zip(found.ids, sizes, strict=True):
        gallery = np.sort(order[:size])
        graph = build_exact(np.ascontiguousarray(x[gallery]), K, None if groups is None else groups[gallery])
        np.testing.assert_array_equal(ids[:size], gallery[graph.ids[np.searchsorted(gallery, order[:size])]])


def test_an_incomplete_list_ends_with_minus_one() -> None:
    x, groups = normal(6), np.array([0, 0, 0, 1, 1, 2], np.int32)
    found = search_queries(np.array([0, 5], np.int32), ArrayRows(x), 4, groups=groups)
    assert sorted(found.ids[0, 0].tolist()) == [-1, 3, 4, 5]
    assert found.ids[0, 0, -1] == -1
    assert found.similarities[0, 0, -1] == 0
    assert sorted(found.ids[0, 1].tolist()) == [0, 1, 2, 3] or -1 not in found.ids[0, 1]


@pytest.mark.parametrize("k", [1, 16, 17, 90, N - 1])
def test_any_k_up_to_all_other_rows_is_found(k: int) -> None:
    x, query_ids = normal(), some(5)
    np.testing.assert_array_equal(search_queries(query_ids, ArrayRows(x), k).ids[0], build_exact(x, k).ids[query_ids])


class ReorderedExecutor(LocalExecutor):
    """Executor that runs tasks in another order than it returns their results, as a cluster does."""

    is_remote = True

    def __init__(self) -> None:
        self.count = 0

    def map(
        self, function: Callable[[module.SearchTask], object], parts: Sequence[module.SearchTask]
    ) -> Iterator[object]:
        self.count += len(parts)
        done = {index: function(parts[index]) for index in reversed(range(len(parts)))}
        return (done[index] for index in range(len(parts)))


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_blocks_and_tasks_of_any_size_give_the_same_result(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    x, query_ids, (_, rings) = small_integers(), some(120), nested((50, N))
    whole = search_queries(query_ids, ArrayRows(x), K, galleries=rings)
    monkeypatch.setattr("consilience.numerics.rows.parallel.BLOCK_VALUES", block * x.shape[1])
    monkeypatch.setattr(module, "PART_STEPS", 1.0)
    monkeypatch.setattr(module, "PART_VALUES", 50 * 64)
    monkeypatch.setattr(module, "TILE_QUERIES", 16)
    parts, reports = ReorderedExecutor(), list[int]()
    found = search_queries(query_ids, ArrayRows(x), K, galleries=rings, executor=parts, report=reports.append)
    np.testing.assert_array_equal(found.ids, whole.ids)
    np.testing.assert_array_equal(found.similarities, whole.similarities)
    assert parts.count == len(reports)
    assert all(one <= other for one, other in pairwise(reports))
    assert reports[-1] == N
    if block < 64:
        assert parts.count > 3


def test_the_gallery_is_read_by_blocks_with_at_most_one_prefetched(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = ArrayLayer("x", normal().astype(np.float16))
    monkeypatch.setattr("consilience.numerics.rows.parallel.BLOCK_VALUES", 50 * layer.dim)
    sizes: list[int] = []
    read = PreparedRows.read

    def watched(rows: PreparedRows, start: int, stop: int) -> Float32Array:
        sizes.append(stop - start)
        return read(rows, start, stop)

    monkeypatch.setattr(PreparedRows, "read", watched)
    rows = PreparedRows(layer)
    found = search_queries(some(30), rows, K)
    assert sizes == [50] * 8
    np.testing.assert_array_equal(found.ids[0], build_exact(rows.load().array, K).ids[some(30)])


def test_an_error_while_prefetching_is_raised_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consilience.numerics.rows.parallel.BLOCK_VALUES", 600)

    class Torn(ArrayRows):
        def read(self, start: int, stop: int) -> Float32Array:
            if start > 100:
                raise OSError("the disk is gone")
            return super().read(start, stop)

    with pytest.raises(OSError, match="the disk is gone"):
        search_queries(some(3), Torn(normal()), K)


@pytest.mark.parametrize("power", [-70, 60])
def test_values_beyond_the_range_of_float32_products_are_scaled(power: int) -> None:
    x = normal()
    large = np.ldexp(x, power)
    exponent = scale_exponent(float(np.abs(large).max()))
    found = search_queries(some(40), scaled(ArrayRows(large), exponent), K)
    np.testing.assert_array_equal(found.ids, search_queries(some(40), ArrayRows(x), K).ids)
    assert scale_exponent(3.0) == 0


def test_vectors_have_the_neighbours_of_a_flat_index() -> None:
    x, vectors = normal(), normal(60, seed=9)
    index = faiss.IndexFlatIP(x.shape[1])
    index.add(x)
    similarities, ids = index.search(vectors, K)
    found = search_vectors(vectors, ArrayRows(x), K)
    np.testing.assert_array_equal(found.ids[0], ids)
    np.testing.assert_allclose(found.similarities[0], similarities, rtol=1e-5)


def test_the_own_row_or_group_of_a_vector_is_excluded() -> None:
    x, query_ids, groups = normal(), some(70), draw_groups()
    by_row = search_vectors(x[query_ids], ArrayRows(x), K, own=query_ids)
    np.testing.assert_array_equal(by_row.ids, search_queries(query_ids, ArrayRows(x), K).ids)
    by_group = search_vectors(x[query_ids], ArrayRows(x), K, own=groups[query_ids], groups=groups)
    np.testing.assert_array_equal(by_group.ids, search_queries(query_ids, ArrayRows(x), K, groups=groups).ids)
