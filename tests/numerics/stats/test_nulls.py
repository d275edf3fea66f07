"""Tails of closed forms, and what draws say."""

import numpy as np
import pytest
from scipy import stats

from consilience.numerics.stats.nulls import AngleNull, PearsonNull, PermutationNull, RootNull


def test_the_skewed_tail_is_that_of_pearson_iii() -> None:
    law, peer = PearsonNull(0.2, 0.05, 0.8), stats.pearson3(0.8, loc=0.2, scale=0.05)
    for value in (0.05, 0.12, 0.2, 0.3, 0.5, 0.9):
        assert law.p_value(value) == pytest.approx(peer.sf(value), rel=1e-9)
    assert law.threshold(0.01) == pytest.approx(peer.isf(0.01), rel=1e-9)


def test_the_unskewed_tail_is_normal() -> None:
    law = PearsonNull(0.1, 0.02)
    assert law.p_value(0.15) == pytest.approx(stats.norm.sf(2.5), rel=1e-12)
    assert law.threshold(0.05) == pytest.approx(0.1 + 0.02 * stats.norm.isf(0.05), rel=1e-12)


@pytest.mark.parametrize("skew", [0.0, 1e-3, 0.5, 2.0])
def test_the_threshold_has_the_p_value_it_was_asked_for(skew: float) -> None:
    law = PearsonNull(0.3, 0.1, skew)
    assert law.p_value(law.threshold(0.01)) == pytest.approx(0.01, rel=1e-6)


def test_without_spread_only_more_than_the_mean_is_surprising() -> None:
    law = PearsonNull(1.0, 0.0)
    assert law.p_value(1.0) == 1.0
    assert law.p_value(1.1) == 0.0


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_law_of_a_root_or_an_angle_is_that_of_the_similarity_below_it(alpha: float) -> None:
    law = PearsonNull(0.3, 0.1, 0.5)
    root, angle = RootNull(law), AngleNull(law)
    assert root.threshold(alpha) == pytest.approx(np.sqrt(law.threshold(alpha)))
    assert angle.threshold(alpha) == pytest.approx(np.arccos(law.threshold(alpha)))
    assert root.p_value(root.threshold(alpha)) == pytest.approx(alpha)
    assert angle.p_value(angle.threshold(alpha)) == pytest.approx(alpha)


def test_the_permutation_p_value_counts_the_observed_value_too() -> None:
    null = PermutationNull(np.array([0.1, 0.2, 0.3, 0.4]))
    assert null.p_value(0.5) == pytest.approx(1 / 5)
    assert null.p_value(0.3) == pytest.approx(3 / 5)


@pytest.mark.parametrize(("alpha", "expected"), [(0.05, 19.0), (0.1, 18.0), (0.5, 10.0), (0.01, 99.0)])
def test_the_permutation_threshold_is_an_order_statistic_with_the_observed_value(alpha: float, expected: float) -> None:
    """19 draws and the observed 99 make 20; the rank is ceil((1 - alpha) 20), free of rounding error."""
    assert PermutationNull(np.arange(1, 20, dtype=np.float64)).threshold(99.0, alpha) == expected


def test_the_rank_does_not_slip_where_a_share_of_the_draws_is_a_whole_number_but_for_rounding() -> None:
    assert 0.29 * 100 < 29
    assert PermutationNull(np.arange(1, 100, dtype=np.float64)).threshold(1000.0, 0.29) == 71.0


def test_a_value_above_the_threshold_has_p_at_most_alpha() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        null, value = PermutationNull(rng.normal(size=99)), float(rng.normal(scale=2))
        assert (value > null.threshold(value, 0.05)) <= (null.p_value(value) <= 0.05)
