"""Means from some of the rows: exact laws by enumeration, and how often intervals hold what they promise."""

from itertools import combinations

import numpy as np
import pytest

from consilience.numerics.rows.arrays import Float64Array
from consilience.numerics.stats.intervals import (
    SampledMean,
    draw_row_order,
    estimate_mean,
    gallery_interval,
    half_width,
    required_queries,
)

UNIT = (0.0, 1.0)


def test_estimates_over_all_subsets_are_unbiased_in_mean_and_variance() -> None:
    scores = np.random.default_rng(0).random(9)
    for m in (2, 4, 8, 9):
        found = [estimate_mean(scores[list(chosen)], 9) for chosen in combinations(range(9), m)]
        values = np.array([one.value for one in found])
        assert values.mean() == pytest.approx(scores.mean(), abs=1e-13)
        assert np.mean([one.se**2 for one in found]) == pytest.approx(values.var(), abs=1e-15)


def test_the_standard_error_is_0_if_all_rows_are_queries() -> None:
    found = estimate_mean(np.array([0.0, 0.25, 1.0, 0.5]), 4)
    assert found.se == 0
    bounds = gallery_interval(found, 0.95, UNIT)
    assert (bounds.low, bounds.high, bounds.method) == (found.value, found.value, "query-subset")


def test_a_larger_sample_contains_every_smaller_one() -> None:
    order = draw_row_order(1000, 3)
    assert sorted(order.tolist()) == list(range(1000))
    np.testing.assert_array_equal(order, draw_row_order(1000, 3))
    assert (order != draw_row_order(1000, 4)).any()


def population(name: str, n: int = 4000) -> Float64Array:
    rng = np.random.default_rng(1)
    return {
        "shares of ten": rng.binomial(10, 0.1, n) / 10,
        "almost no share of ten": rng.binomial(10, 0.001, n) / 10,
        "rare yes": (rng.random(n) < 0.01) * 1.0,
        "even yes and no": (rng.random(n) < 0.5) * 1.0,
        "nearly all one": np.where(rng.random(n) < 0.01, rng.random(n), 1.0),
        "all one": np.ones(n),
        "skewed": rng.beta(0.3, 3, n),
    }[name]


@pytest.mark.parametrize("m", [100, 400, 1500])
@pytest.mark.parametrize(
    "name",
    ["shares of ten", "almost no share of ten", "rare yes", "even yes and no", "nearly all one", "all one", "skewed"],
)
def test_the_interval_has_the_nominal_coverage(name: str, m: int) -> None:
    scores, rng, draws = population(name), np.random.default_rng(m), 400
    held = 0
    for _ in range(draws):
        bounds = gallery_interval(
            estimate_mean(scores[rng.choice(len(scores), m, replace=False)], len(scores)), 0.95, UNIT
        )
        assert 0 <= bounds.low <= bounds.high <= 1
        held += bounds.low <= scores.mean() <= bounds.high
    # 0.95 less three standard errors of 400 draws.
    assert held / draws > 0.9


def test_equal_scores_do_not_reduce_the_interval_to_a_point() -> None:
    bounds = gallery_interval(estimate_mean(np.ones(100), 10_000), 0.95, UNIT)
    assert bounds.high == 1
    assert bounds.low == pytest.approx(0.9622, abs=1e-3)
    half = gallery_interval(estimate_mean(np.full(100, 0.5), 10_000), 0.95, UNIT)
    assert 0.003 < half_width(half) < 0.02


def test_limits_scale_the_interval() -> None:
    scores = np.random.default_rng(0).random(200)
    plain = gallery_interval(estimate_mean(scores, 1000), 0.9, UNIT)
    wide = gallery_interval(estimate_mean(10 * scores - 5, 1000), 0.9, (-5.0, 5.0))
    assert (wide.low, wide.high) == pytest.approx((10 * plain.low - 5, 10 * plain.high - 5))


def test_an_interval_without_limits_is_t_standard_errors_on_both_sides() -> None:
    found = SampledMean(0.5, 0.04, 101, 10_100)
    bounds = gallery_interval(found, 0.95, (None, None))
    assert half_width(bounds) == pytest.approx(1.98397 * np.sqrt(0.99 * 0.04 / 101), rel=1e-5)


def test_the_required_number_of_queries_makes_the_interval_narrow_enough() -> None:
    found = SampledMean(0.2, 0.02, 1000, 1_000_000)
    wanted = required_queries(found, 0.002, 0.95, UNIT)
    assert half_width(gallery_interval(SampledMean(0.2, 0.02, wanted, 1_000_000), 0.95, UNIT)) <= 0.002
    assert half_width(gallery_interval(SampledMean(0.2, 0.02, round(wanted / 1.06), 1_000_000), 0.95, UNIT)) > 0.002
    assert required_queries(found, 0.02, 0.95, UNIT) == 1000
    assert required_queries(found, 1e-9, 0.95, UNIT) == 1_000_000


def test_equal_scores_of_a_pilot_require_no_more_queries_than_needed() -> None:
    wanted = required_queries(estimate_mean(np.ones(1000), 10**6), 1e-4, 0.95, UNIT)
    assert 1000 < wanted < 25_000


def test_stopping_at_the_wanted_width_hardly_changes_the_coverage() -> None:
    rng, held, draws = np.random.default_rng(0), 0, 300
    scores = rng.beta(0.5, 2, 20_000)
    for _ in range(draws):
        order = rng.permutation(len(scores))
        m = 1000
        for _ in range(3):
            found = estimate_mean(scores[order[:m]], len(scores))
            m = required_queries(found, 0.008, 0.95, UNIT)
        bounds = gallery_interval(estimate_mean(scores[order[:m]], len(scores)), 0.95, UNIT)
        assert half_width(bounds) < 0.0085
        held += bounds.low <= scores.mean() <= bounds.high
    assert held / draws > 0.912
