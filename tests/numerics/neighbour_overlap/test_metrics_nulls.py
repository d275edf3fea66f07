"""Closed forms of neighbour scores against the enumeration of every one of the 7! pairings."""

import numpy as np
import pytest

from consilience.numerics.neighbour_overlap.lists import NeighbourLists
from consilience.numerics.neighbour_overlap.metrics import (
    count_graph,
    cycle_knn,
    cycle_knn_null,
    mutual_knn,
    mutual_knn_null,
)
from tests.reference_implementations import neighbours as reference


def sides(seed: int, k: int) -> tuple[NeighbourLists, NeighbourLists]:
    rng = np.random.default_rng(seed)
    return tuple(reference.lists_of(rng.normal(size=(7, d)).astype(np.float32), k) for d in (4, 3))  # type: ignore[return-value]  # two


@pytest.mark.parametrize("k", [1, 2, 4, 6])
@pytest.mark.parametrize("seed", [0, 1])
def test_mutual_knn_has_the_mean_and_sd_of_all_pairings(k: int, seed: int) -> None:
    a, b = sides(seed, k)
    values = np.array([mutual_knn(a, b.permuted(order)) for order in reference.ALL_OF_7])
    law = mutual_knn_null(count_graph(a.ids, k), count_graph(b.ids, k), 7)
    assert law.mean == pytest.approx(values.mean(), abs=1e-12)
    assert law.sd == pytest.approx(values.std(), abs=1e-8)
    assert law.mean == pytest.approx(k / 6, abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("direction", ["ab", "ba"])
def test_cycle_knn_has_the_mean_of_all_pairings(k: int, direction: str) -> None:
    a, b = sides(2, k)
    values = [cycle_knn(a, b.permuted(order), direction) for order in reference.ALL_OF_7]
    stepped = a if direction == "ab" else b
    assert cycle_knn_null(stepped.ids, k).mean == pytest.approx(np.mean(values), abs=1e-12)


def test_the_cycle_mean_of_a_large_graph_is_near_its_approximation() -> None:
    ids = reference.lists_of(reference.views(2000)[0], 10).ids
    assert cycle_knn_null(ids, 10).mean == pytest.approx(1 - (1 - 10 / 2000) ** 10, rel=0.05)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_the_tail_of_mutual_knn_keeps_its_level_down_to_one_neighbour(k: int) -> None:
    """At k = 1 about one match is expected: a normal tail would call 10 % of random pairings significant at 5 %."""
    rng = np.random.default_rng(6)
    a, b = (reference.lists_of(rng.normal(size=(80, 5)).astype(np.float32), k) for _ in range(2))
    law = mutual_knn_null(count_graph(a.ids, k), count_graph(b.ids, k), 80)
    draws = [mutual_knn(a, b.permuted(rng.permutation(80))) for _ in range(4000)]
    assert np.mean([law.p_value(value) <= 0.05 for value in draws]) <= 0.06
    assert np.mean([law.p_value(value) <= 0.01 for value in draws]) <= 0.015
