"""Every metric of neighbour lists against its reference implementation, and the grid kernel of mutual_knn."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilience.numerics.neighbour_overlap import metrics
from consilience.numerics.neighbour_overlap.lists import NeighbourLists, SimilaritySpace
from tests.reference_implementations import basic
from tests.reference_implementations import neighbours as reference

PAIRS = {
    "jaccard_knn": (metrics.jaccard_knn, reference.jaccard_knn),
    "rank_similarity": (metrics.rank_similarity, reference.rank_similarity),
    "lcs_knn": (metrics.lcs_knn, reference.lcs_knn),
    "edit_distance_knn": (metrics.edit_distance_knn, reference.edit_distance_knn),
    "cycle_knn": (metrics.cycle_knn, reference.cycle_knn),
}
each_metric = pytest.mark.parametrize(("fast", "twin"), PAIRS.values(), ids=PAIRS)


@st.composite
def pairs_of_lists(draw: st.DrawFn) -> tuple[NeighbourLists, NeighbourLists]:
    """Any lists without repeats and without the item itself."""
    n = draw(st.integers(4, 12))
    k = draw(st.integers(1, n - 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def side() -> NeighbourLists:
        rows = [rng.permutation(np.delete(np.arange(n), i))[:k] for i in range(n)]
        return NeighbourLists.of(np.array(rows, dtype=np.int32))

    first = side()
    if draw(st.booleans()):  # near copies, so that long common runs occur
        ids = first.ids.copy()
        for row in ids[:: draw(st.integers(1, 3))]:
            row[:] = np.roll(row, draw(st.integers(0, 2)))
        return first, NeighbourLists.of(ids)
    return first, side()


@each_metric
@settings(deadline=None, max_examples=80)
@given(pair=pairs_of_lists())
def test_any_two_lists_have_the_score_of_the_reference_implementation(
    fast: Callable[[NeighbourLists, NeighbourLists], float],
    twin: Callable[[np.ndarray, np.ndarray], float],
    pair: tuple[NeighbourLists, NeighbourLists],
) -> None:
    a, b = pair
    assert fast(a, b) == pytest.approx(twin(a.ids, b.ids), abs=1e-12)


@settings(deadline=None, max_examples=80)
@given(pair=pairs_of_lists())
def test_inequalities_between_the_metrics_hold(pair: tuple[NeighbourLists, NeighbourLists]) -> None:
    a, b = pair
    mutual = metrics.mutual_knn(a, b)
    assert 0 <= metrics.jaccard_knn(a, b) <= mutual + 1e-12
    assert 0 <= metrics.edit_distance_knn(a, b) <= metrics.lcs_knn(a, b) + 1e-12 <= mutual + 2e-12
    assert 0 <= metrics.rank_similarity(a, b) <= 1 + 1e-12


@each_metric
@pytest.mark.parametrize("k", [1, 10, 70])
def test_lists_of_rows_have_the_score_of_the_reference_implementation(
    fast: Callable[[NeighbourLists, NeighbourLists], float], twin: Callable[[np.ndarray, np.ndarray], float], k: int
) -> None:
    a, b = (reference.lists_of(x, k) for x in reference.views(90))
    assert fast(a, b) == pytest.approx(twin(a.ids, b.ids), abs=1e-12)


def test_raw_lcs_is_not_divided_by_k() -> None:
    a, b = (reference.lists_of(x, 7) for x in reference.views(60))
    assert metrics.lcs_knn(a, b, raw=True) == pytest.approx(7 * metrics.lcs_knn(a, b))


def test_swapping_the_sides_swaps_the_directions_of_cycle_knn() -> None:
    a, b = (reference.lists_of(x, 3) for x in reference.views(60))
    forth, back = metrics.cycle_knn(a, b, "ab"), metrics.cycle_knn(a, b, "ba")
    assert forth != back
    assert back == metrics.cycle_knn(b, a)
    assert metrics.cycle_knn(a, b, "mean") == pytest.approx((forth + back) / 2)


@pytest.mark.parametrize("k", [1, 6, 40])
@pytest.mark.parametrize("squared", [False, True])
def test_second_order_cosine_is_that_of_whole_similarity_matrices(k: int, squared: bool) -> None:
    x, y = reference.views(80)
    a, b = reference.lists_of(x, k), reference.lists_of(y, k)
    if squared:
        a, b = (
            NeighbourLists.of(s.ids, s.similarities, SimilaritySpace(lambda r=r: r, lambda r=r: r @ r.T))
            for s, r in ((a, x), (b, y))
        )
    assert metrics.second_order_cosine(a, b) == pytest.approx(
        reference.second_order_cosine(x, y, a.ids, b.ids), abs=1e-6
    )


def test_second_order_cosine_is_undefined_if_all_similarities_are_0() -> None:
    rows = np.eye(6, dtype=np.float32)
    assert np.isnan(metrics.second_order_cosine(reference.lists_of(rows, 2), reference.lists_of(rows, 2)))


def test_inner_products_are_the_same_on_several_threads() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2000, 96)).astype(np.float32)
    left, right = rng.permutation(2000).astype(np.int32), rng.integers(0, 2000, (2000, 30)).astype(np.int32)
    expected = np.einsum("id,itd->it", x[left].astype(np.float64), x[right].astype(np.float64))
    np.testing.assert_allclose(SimilaritySpace(lambda: x).similarities(left, right), expected, atol=1e-4)


def stacks(n: int, layers_a: int, layers_b: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    shared = rng.normal(size=(n, 6))
    x = [basic.unit_rows(shared + rng.normal(size=(n, 6)) * (1 + i)) for i in range(layers_a)]
    y = [basic.unit_rows(shared + rng.normal(size=(n, 6)) * (1 + i)) for i in range(layers_b)]
    return np.array(x, np.float32), np.array(y, np.float32)


def graphs(stack: np.ndarray, k: int) -> np.ndarray:
    return np.stack([reference.lists_of(x, k).ids for x in stack])


@pytest.mark.parametrize("k", [1, 5, 20])
def test_mutual_knn_is_the_overlap_of_sets(k: int) -> None:
    x, y = stacks(120, 1, 1)
    value = metrics.mutual_knn(reference.lists_of(x[0], k), reference.lists_of(y[0], k))
    assert value == pytest.approx(basic.mutual_knn(x[0], y[0], k), abs=1e-12)


@pytest.mark.parametrize("fast", [metrics.mutual_knn, metrics.jaccard_knn], ids=["mutual", "jaccard"])
def test_the_score_is_1_if_every_other_row_is_a_neighbour(
    fast: Callable[[NeighbourLists, NeighbourLists], float],
) -> None:
    x, y = stacks(15, 1, 1)
    assert fast(reference.lists_of(x[0], 14), reference.lists_of(y[0], 14)) == 1.0


def test_a_grid_contains_each_pair_of_layers() -> None:
    x, y = stacks(80, 3, 2)
    expected = [[basic.mutual_knn(a, b, 7) for b in y] for a in x]
    np.testing.assert_allclose(metrics.mutual_knn_grid(graphs(x, 7), graphs(y, 7)), expected, atol=1e-12)


def test_a_grid_of_more_than_64_layers_uses_several_words() -> None:
    x, y = stacks(30, 70, 2)
    a, b = graphs(x, 4), graphs(y, 4)
    expected = [[metrics.mutual_knn(NeighbourLists.of(s), NeighbourLists.of(t)) for t in b] for s in a]
    np.testing.assert_allclose(metrics.mutual_knn_grid(a, b), expected, atol=1e-12)


def test_permuting_a_grid_equals_a_new_search_of_permuted_rows() -> None:
    x, y = stacks(90, 2, 3)
    order = np.random.default_rng(5).permutation(90)
    relabelled = metrics.mutual_knn_grid(graphs(x, 6), graphs(y, 6), order)
    np.testing.assert_allclose(relabelled, metrics.mutual_knn_grid(graphs(x, 6), graphs(y[:, order], 6)), atol=1e-12)
