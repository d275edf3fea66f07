"""Shares of lists, and ratios of their means."""

import numpy as np
import pytest

from consilience.numerics.regression.evaluation import (
    neighbour_recall,
    order_by_change,
    ratio_interval,
    relevant_recall,
)


def test_recall_is_the_share_of_the_wanted_ids_among_those_found() -> None:
    rng = np.random.default_rng(0)
    found, wanted = (np.array([rng.permutation(30)[:7] for _ in range(50)], np.int32) for _ in range(2))
    twin = [len(set(a) & set(b)) / 7 for a, b in zip(found.tolist(), wanted.tolist(), strict=True)]
    assert neighbour_recall(found, wanted, 30).tolist() == twin


def test_recall_of_more_than_k_relevant_ids_is_relative_to_k() -> None:
    found = np.array([[1, 2], [1, 2], [1, 2]], np.int32)
    relevant = [np.array([1, 2, 3, 4]), np.array([2, 9]), np.array([7])]
    assert relevant_recall(found, relevant).tolist() == [1.0, 0.5, 0.0]


def test_the_interval_of_a_ratio_covers_the_ratio_of_the_population() -> None:
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        below = rng.random(80)
        bounds = ratio_interval(0.6 * below + 0.1 * rng.normal(size=80), below, 0.95, seed)
        assert bounds is not None
        covered += bounds.low <= 0.6 <= bounds.high
    assert covered >= 90


def test_without_a_denominator_the_interval_is_that_of_the_mean() -> None:
    above = np.random.default_rng(0).normal(1, 0.5, 400)
    bounds = ratio_interval(above, None, 0.95, 0)
    assert bounds is not None
    width = 1.96 * above.std() / 20
    assert (bounds.low, bounds.high) == pytest.approx((above.mean() - width, above.mean() + width), abs=0.01)


@pytest.mark.parametrize("mean", [0.0, -0.2, 0.01])
def test_a_ratio_to_a_mean_not_above_0_has_no_interval(mean: float) -> None:
    below = np.random.default_rng(1).normal(mean, 1, 100)
    assert ratio_interval(np.ones(100), below - below.mean() + mean, 0.95, 0) is None


def test_rows_are_ordered_by_change_and_then_by_row_number() -> None:
    assert order_by_change(np.array([0.5, 0.0, 0.5, 0.0]), np.array([3, 9, 1, 4])).tolist() == [3, 1, 2, 0]
