from collections.abc import Iterator
from contextlib import contextmanager

import faiss
import numpy as np
import pytest

from consilience.errors import InvalidRequest
from consilience.numerics.knn.approximate import IndexSearch, build_approximate, measure_recall
from consilience.numerics.knn.graph import NeighbourGraph, build_exact
from consilience.numerics.rows.arrays import Float32Array
from consilience.numerics.rows.prepared import ArrayRows, PreparedRows
from consilience.numerics.rows.sources import ArrayLayer
from tests.reference_implementations import basic

N, D, K = 700, 24, 12
FAMILIES = [
    IndexSearch("IVF16,Flat", 3),
    IndexSearch("IVF16,SQ8", 3),
    IndexSearch("IVF16_HNSW8,SQfp16", 3),
    IndexSearch("IVF16,PQ6", 3, candidate_factor=4),
    IndexSearch("IVF16,PQ6x4", 3, candidate_factor=4),
    IndexSearch("HNSW4", 8),
    IndexSearch("HNSW8,SQ4", 20),
    IndexSearch("HNSW8,PQ6x6", 20),
    IndexSearch("SQ4", None),
    IndexSearch("SQ6", None),
    IndexSearch("SQ8", None),
    IndexSearch("SQfp16", None),
    IndexSearch("SQbf16", None),
    IndexSearch("PQ12x4", None),
    IndexSearch("PQ6x8", None, candidate_factor=4),
    IndexSearch("OPQ6,IVF16,PQ6x4", 4, candidate_factor=4),
    IndexSearch("OPQ4_16,SQ8", None, candidate_factor=4),
    IndexSearch("PCA8,IVF16,Flat", 4, candidate_factor=4),
    IndexSearch("PCAR8,HNSW8", 20, candidate_factor=4),
    IndexSearch("RR32,SQ8", None),
]
every_family = pytest.mark.parametrize("search", FAMILIES, ids=lambda search: search.index)


@pytest.fixture(scope="module")
def rows() -> Float32Array:
    """Rows of length 1 around 40 centres away from the origin."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, D))[rng.integers(0, 40, N)] + 0.7 * rng.normal(size=(N, D)) + 0.4
    return basic.unit_rows(x).astype(np.float32)


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    yield
    faiss.omp_set_num_threads(before)


def assert_same(one: NeighbourGraph, other: NeighbourGraph) -> None:
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.similarities, other.similarities)
    assert one.recall == other.recall


@every_family
def test_recall_is_the_share_of_the_true_neighbours_for_every_k(search: IndexSearch, rows: Float32Array) -> None:
    graph, true = build_approximate(ArrayRows(rows), K, search), basic.neighbours(rows, K)
    assert graph.builder == search.index
    assert graph.recall is not None
    assert graph.recall_queries == N
    for k in range(1, K + 1):
        found = [len({*a} & {*b}) / k for a, b in zip(graph.ids[:, :k].tolist(), true[:, :k].tolist(), strict=True)]
        assert graph.recall[k - 1] == pytest.approx(np.mean(found), abs=1e-9)
    assert 0.2 < graph.recall[-1] <= 1


@every_family
def test_every_list_is_full_sorted_and_without_the_row_itself(search: IndexSearch, rows: Float32Array) -> None:
    graph = build_approximate(ArrayRows(rows), K, search)
    assert (graph.ids >= 0).all()
    assert not (graph.ids == np.arange(N)[:, None]).any()
    assert all(len({*ids}) == K for ids in graph.ids.tolist())
    assert (np.diff(graph.similarities, axis=1) <= 0).all()
    np.testing.assert_allclose(graph.similarities, np.take_along_axis(rows @ rows.T, graph.ids, 1), rtol=1e-5)


@every_family
def test_the_graph_does_not_depend_on_threads_or_blocks(
    search: IndexSearch, rows: Float32Array, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from consilience.numerics.knn import approximate

    first = build_approximate(ArrayRows(rows), K, search)
    with threads(1):
        assert_same(build_approximate(ArrayRows(rows), K, search), first)
    monkeypatch.setattr(approximate, "GATHERED_VALUES", 20_000)
    stored = PreparedRows(ArrayLayer("0", rows), normalise=False)
    assert_same(build_approximate(stored, K, search), first)
    assert capfd.readouterr() == ("", ""), "FAISS prints warnings"


def test_another_seed_trains_on_other_rows(monkeypatch: pytest.MonkeyPatch, rows: Float32Array) -> None:
    from consilience.numerics.knn import approximate as faiss_indexes

    monkeypatch.setattr(faiss_indexes, "SAMPLE_MIN", 100)
    monkeypatch.setattr(faiss_indexes, "POINTS_PER_CENTROID", 2)
    monkeypatch.setattr(faiss_indexes, "POINTS_PER_COLUMN", 2)
    graphs = [build_approximate(ArrayRows(rows), K, IndexSearch("IVF32,Flat", 1, seed=seed)) for seed in (0, 0, 1)]
    assert_same(graphs[0], graphs[1])
    assert (graphs[0].ids != graphs[2].ids).any()


@pytest.mark.parametrize("index", ["IVF8,Flat", "HNSW16", "SQfp16"])
@pytest.mark.parametrize("count", [300, 30, 4])
def test_rows_of_one_group_are_never_neighbours(index: str, count: int, rows: Float32Array) -> None:
    groups = np.random.default_rng(count).integers(0, count, N).astype(np.int32)
    effort = {"IVF8,Flat": 8, "HNSW16": 700}.get(index)
    graph = build_approximate(ArrayRows(rows), K, IndexSearch(index, effort), groups=groups)
    assert not (groups[graph.ids] == groups[:, None]).any()
    exact = build_exact(rows, K, groups)
    assert graph.recall is not None
    assert graph.recall[-1] == pytest.approx((graph.similarities >= exact.similarities[:, -1:] - 1e-6).mean(), abs=1e-3)
    assert graph.recall[-1] > 0.98


def test_an_exhaustive_search_gives_the_exact_graph_including_ties() -> None:
    x = np.repeat(np.eye(6, dtype=np.float32), 3, axis=0)
    for search in (IndexSearch("IVF2,Flat", 2), IndexSearch("SQfp16", None)):
        np.testing.assert_array_equal(build_approximate(ArrayRows(x), 2, search).ids, basic.neighbours(x, 2))


def test_every_equally_similar_neighbour_counts_as_true() -> None:
    x = np.repeat(np.eye(3, dtype=np.float32), 60, axis=0)
    graph = build_approximate(ArrayRows(x), 5, IndexSearch("IVF3,Flat", 1))
    assert graph.recall == (1.0,) * 5


def test_rows_with_incomplete_lists_are_searched_exactly(rows: Float32Array) -> None:
    graph = build_approximate(ArrayRows(rows), K, IndexSearch("IVF700,Flat", 1))
    np.testing.assert_array_equal(graph.ids, basic.neighbours(rows, K))


def test_the_recall_is_measured_on_a_sample_of_rows(rows: Float32Array) -> None:
    graphs = [build_approximate(ArrayRows(rows), K, IndexSearch("IVF16,Flat", 2, recall_queries=m)) for m in (200, N)]
    assert [graph.recall_queries for graph in graphs] == [200, N]
    drawn, whole = [graph.recall or () for graph in graphs]
    assert drawn != whole
    np.testing.assert_allclose(drawn, whole, atol=0.1)


@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1e-6, 1e6, 1e18, 1e37])
@pytest.mark.parametrize("index", ["SQfp16", "IVF4,Flat", "IVF4,SQ8"])
def test_scaled_rows_have_the_neighbours_of_rows_near_1(scale: float, index: str) -> None:
    x = np.random.default_rng(4).normal(size=(200, 8)).astype(np.float32)
    scaled = (x * np.float64(scale)).astype(np.float32)
    search = IndexSearch(index, 4 if "IVF" in index else None)
    graph = build_approximate(ArrayRows(scaled), 7, search, largest=float(np.abs(scaled).max()))
    assert (graph.ids == basic.neighbours(scaled, 7)).mean() > 0.99


def test_progress_is_reported_up_to_all_rows(monkeypatch: pytest.MonkeyPatch, rows: Float32Array) -> None:
    from consilience.numerics.knn import approximate

    reported: list[int] = []
    monkeypatch.setattr(approximate, "BLOCK_ROWS", 300)
    build_approximate(ArrayRows(rows), K, IndexSearch("SQ8", None), report=reported.append)
    assert reported == [300, 600, 700]


@pytest.mark.parametrize("index", ["PQ7", "IVF9000,Flat", "PCA25,SQ8", "PQ6x10", "OPQ5,PQ6", "nonsense"])
def test_an_index_that_faiss_cannot_create_is_an_invalid_request(index: str, rows: Float32Array) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        build_approximate(ArrayRows(rows), K, IndexSearch(index, 1))
    assert refusal.value.value == index
    assert refusal.value.hint


def test_the_recall_is_serialised_with_the_graph(rows: Float32Array) -> None:
    graph = build_approximate(ArrayRows(rows), K, IndexSearch("IVF16,Flat", 2))
    read = NeighbourGraph.from_bytes(graph.to_bytes())
    assert (read.builder, list(read.recall or ()), read.recall_queries) == ("IVF16,Flat", list(graph.recall or ()), N)


def test_recall_equals_that_of_a_loop_over_queries_and_ranks() -> None:
    rng = np.random.default_rng(0)
    true = -np.sort(-rng.integers(0, 6, (50, 8)), axis=1).astype(np.float32)
    found = -np.sort(-np.minimum(true, rng.integers(0, 6, (50, 8))), axis=1).astype(np.float32)
    for k, recall in enumerate(measure_recall(found, true), 1):
        hits = [
            sum(value >= of_true[k - 1] for value in of_found[:k])
            for of_found, of_true in zip(found, true, strict=True)
        ]
        assert recall == pytest.approx(np.mean(hits) / k)
