"""Tails of closed forms, and what draws say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import false_discovery_control

from consilience.numerics.stats.nulls import AngleNull, PearsonNull, PermutationNull, RootNull, adjust, draw_permutation


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
def test_the_p_value_of_a_threshold_is_its_alpha(skew: float) -> None:
    law = PearsonNull(0.3, 0.1, skew)
    assert law.p_value(law.threshold(0.01)) == pytest.approx(0.01, rel=1e-6)


def test_without_variance_only_values_above_the_mean_are_significant() -> None:
    law = PearsonNull(1.0, 0.0)
    assert law.p_value(1.0) == 1.0
    assert law.p_value(1.1) == 0.0


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_null_of_a_root_or_an_angle_is_that_of_its_similarity(alpha: float) -> None:
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


def test_rounding_does_not_shift_the_rank_of_the_permutation_threshold() -> None:
    assert 0.29 * 100 < 29
    assert PermutationNull(np.arange(1, 100, dtype=np.float64)).threshold(1000.0, 0.29) == 71.0


def test_a_value_above_the_threshold_has_p_at_most_alpha() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        null, value = PermutationNull(rng.normal(size=99)), float(rng.normal(scale=2))
        assert (value > null.threshold(value, 0.05)) <= (null.p_value(value) <= 0.05)


P = np.random.default_rng(0).beta(0.3, 2, size=40)


def test_benjamini_hochberg_agrees_with_scipy() -> None:
    np.testing.assert_allclose(adjust(P, "benjamini_hochberg"), false_discovery_control(P), rtol=1e-12)


def test_holm_is_the_step_down_procedure() -> None:
    adjusted = adjust(P, "holm")
    for alpha in (0.01, 0.05, 0.2):
        rejected = set()
        for step, index in enumerate(np.argsort(P)):
            if P[index] > alpha / (len(P) - step):
                break
            rejected.add(int(index))
        assert rejected == set(np.flatnonzero(adjusted <= alpha))


@pytest.mark.parametrize("method", ["holm", "benjamini_hochberg"])
def test_one_p_value_is_unchanged_and_an_empty_array_stays_empty(method: str) -> None:
    assert adjust(np.array([0.03]), method).tolist() == [0.03]  # type: ignore[arg-type]  # parametrised
    assert adjust(np.array([]), method).tolist() == []  # type: ignore[arg-type]  # parametrised


@pytest.mark.parametrize("method", ["holm", "benjamini_hochberg"])
def test_adjusted_values_are_never_smaller_nor_above_1(method: str) -> None:
    adjusted = adjust(P, method)  # type: ignore[arg-type]  # parametrised
    assert (adjusted >= P).all()
    assert (adjusted <= 1).all()


@given(st.lists(st.integers(0, 6), min_size=2, max_size=40), st.integers(0, 2**32 - 1))
def test_items_of_one_group_stay_together_and_in_order(labels: list[int], seed: int) -> None:
    groups = np.array(labels, dtype=np.int32)
    permutation = draw_permutation(np.random.default_rng(seed), len(labels), groups)
    assert sorted(permutation) == list(range(len(labels)))
    for label in set(labels):
        rows = np.flatnonzero(groups == label)
        images = permutation[rows]
        assert len(set(groups[images])) == 1
        assert list(images) == list(np.flatnonzero(groups == groups[images[0]]))


def test_groups_of_one_size_are_permuted_uniformly() -> None:
    groups = np.array([0, 0, 1, 1, 2, 2, 3], dtype=np.int32)
    rng = np.random.default_rng(0)
    first = [groups[draw_permutation(rng, 7, groups)[0]] for _ in range(3000)]
    counts = np.bincount(first, minlength=4)
    assert counts[3] == 0
    assert (abs(counts[:3] - 1000) < 120).all()


def test_without_groups_all_permutations_occur() -> None:
    rng = np.random.default_rng(1)
    draws = np.array([draw_permutation(rng, 3) for _ in range(600)])
    assert len({tuple(draw) for draw in draws.tolist()}) == 6
