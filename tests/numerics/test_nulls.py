"""Closed forms against the enumeration of every one of the 7! pairings."""

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from consilience.numerics.cka import CkaOptions, cka, cka_law
from consilience.numerics.moments import find_moments
from consilience.numerics.neighbours import build_exact
from consilience.numerics.nulls import NullLaw, PermutationNull, count_graph, mutual_knn_law
from consilience.numerics.overlap import mutual_knn_grid

ALL = [np.array(order) for order in permutations(range(7))]


def sides(seed: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scales = spread ** np.arange(4)
    return (rng.normal(size=(7, 4)) * scales).astype(np.float32), rng.normal(size=(7, 3)).astype(np.float32)


@pytest.mark.parametrize("k", [1, 2, 4, 6])
@pytest.mark.parametrize("seed", [0, 1])
def test_mutual_knn_has_the_mean_and_sd_of_all_pairings(k: int, seed: int) -> None:
    a, b = (build_exact(x, k).ids for x in sides(seed))
    values = np.array([mutual_knn_grid(a[None], b[None], order)[0, 0] for order in ALL])
    law = mutual_knn_law(count_graph(a, k), count_graph(b, k), 7)
    assert law.mean == pytest.approx(values.mean(), abs=1e-12)
    assert law.sd == pytest.approx(values.std(), abs=1e-8)
    assert law.mean == pytest.approx(k / 6, abs=1e-12)


@pytest.mark.parametrize("definition", ["standard", "prh"])
@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize("spread", [1.0, 0.3])
def test_cka_has_the_mean_and_sd_of_all_pairings(definition: str, debiased: bool, spread: float) -> None:
    a, b = (find_moments(x) for x in sides(3, spread))
    options = CkaOptions(debiased, definition)  # type: ignore[arg-type]  # parametrised by plain strings
    values = np.array([cka(a, b, options, order) for order in ALL])
    law = cka_law(a, b, options)
    assert law.mean == pytest.approx(values.mean(), abs=1e-12)
    assert law.sd == pytest.approx(values.std(), rel=1e-9)


def test_the_skewed_tail_is_that_of_pearson_iii() -> None:
    law, peer = NullLaw(0.2, 0.05, 0.8), stats.pearson3(0.8, loc=0.2, scale=0.05)
    for value in (0.05, 0.12, 0.2, 0.3, 0.5, 0.9):
        assert law.p_value(value) == pytest.approx(peer.sf(value), rel=1e-9)
    assert law.threshold(0.01) == pytest.approx(peer.isf(0.01), rel=1e-9)


def test_the_unskewed_tail_is_normal() -> None:
    law = NullLaw(0.1, 0.02)
    assert law.p_value(0.15) == pytest.approx(stats.norm.sf(2.5), rel=1e-12)
    assert law.threshold(0.05) == pytest.approx(0.1 + 0.02 * stats.norm.isf(0.05), rel=1e-12)


@pytest.mark.parametrize("skew", [0.0, 1e-3, 0.5, 2.0])
def test_the_threshold_has_the_p_value_it_was_asked_for(skew: float) -> None:
    law = NullLaw(0.3, 0.1, skew)
    assert law.p_value(law.threshold(0.01)) == pytest.approx(0.01, rel=1e-6)


def test_without_spread_only_more_than_the_mean_is_surprising() -> None:
    law = NullLaw(1.0, 0.0)
    assert law.p_value(1.0) == 1.0
    assert law.p_value(1.1) == 0.0


def test_the_debiased_tail_keeps_its_level_where_a_normal_one_does_not() -> None:
    """Effective rank near 20: the share of draws above the 1 % threshold is near 1 %, not the 2 % of a normal law."""
    rng = np.random.default_rng(0)
    scales = 1 / np.arange(1, 65) ** 0.75
    a, b = (find_moments((rng.normal(size=(256, 64)) * scales).astype(np.float32)) for _ in range(2))
    law = cka_law(a, b, CkaOptions())
    draws = np.array([cka(a, b, CkaOptions(), rng.permutation(256)) for _ in range(3000)])
    normal = NullLaw(law.mean, law.sd)
    assert 0.004 < (draws > law.threshold(0.01)).mean() < 0.017
    assert (draws > normal.threshold(0.01)).mean() > (draws > law.threshold(0.01)).mean()


def test_the_permutation_p_value_counts_the_observed_value_too() -> None:
    null = PermutationNull(np.array([0.1, 0.2, 0.3, 0.4]))
    assert null.p_value(0.5) == pytest.approx(1 / 5)
    assert null.p_value(0.3) == pytest.approx(3 / 5)


@pytest.mark.parametrize(("alpha", "expected"), [(0.05, 19.0), (0.1, 18.0), (0.5, 10.0), (0.01, 99.0)])
def test_the_permutation_threshold_is_an_order_statistic_with_the_observed_value(alpha: float, expected: float) -> None:
    """19 draws and the observed 99 make 20; the rank is ceil((1 - alpha) 20), free of rounding error."""
    assert PermutationNull(np.arange(1, 20, dtype=np.float64)).threshold(99.0, alpha) == expected


def test_a_value_above_the_threshold_has_p_at_most_alpha() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        null, value = PermutationNull(rng.normal(size=99)), float(rng.normal(scale=2))
        assert (value > null.threshold(value, 0.05)) <= (null.p_value(value) <= 0.05)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_the_tail_of_mutual_knn_keeps_its_level_down_to_one_neighbour(k: int) -> None:
    """At k = 1 about one match is expected: a normal tail would call 10 % of random pairings significant at 5 %."""
    rng = np.random.default_rng(6)
    a, b = (build_exact(rng.normal(size=(80, 5)).astype(np.float32), k).ids for _ in range(2))
    law = mutual_knn_law(count_graph(a, k), count_graph(b, k), 80)
    draws = [mutual_knn_grid(a[None], b[None], rng.permutation(80))[0, 0] for _ in range(4000)]
    assert np.mean([law.p_value(value) <= 0.05 for value in draws]) <= 0.06
    assert np.mean([law.p_value(value) <= 0.01 for value in draws]) <= 0.015
