"""Shares of lists, and ratios of their means."""

import numpy as np
import pytest

from consilience.numerics.regression.evaluation import (
    neighbour_recall,
    order_by_change,
    ratio_interval,
    relevant_recall,
)


def test_a_share_is_that_of_the_wanted_ids_among_those_found() -> None:
    rng = np.random.default_rng(0)
    found, wanted = (np.array([rng.permutation(30)[:7] for _ in range(50)], np.int32) for _ in range(2))
    twin = [len(set(a) & set(b)) / 7 for a, b in zip(found.tolist(), wanted.tolist(), strict=True)]
    assert neighbour_recall(found, wanted, 30).tolist() == twin


def test_of_more_relevant_ids_than_k_a_list_can_hold_k() -> None:
    found = np.array([[1, 2], [1, 2], [1, 2]], np.int32)
    relevant = [np.array([1, 2, 3, 4]), np.array([2, 9]), np.array([7])]
    assert relevant_recall(found, relevant).tolist() == [1.0, 0.5, 0.0]


def test_an_interval_of_a_ratio_holds_the_ratio_that_rows_were_drawn_from() -> None:
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        below = rng.random(80)
        bounds = ratio_interval(0.6 * below + 0.1 * rng.normal(size=80), below, 0.95, seed)
        assert bounds is not None
        covered += bounds.low <= 0.6 <= bounds.high
    assert covered >= 90


def test_without_a_mean_below_the_interval_is_of_the_mean_above() -> None:
    above = np.random.default_rng(0).normal(1, 0.5, 400)
    bounds = ratio_interval(above, None, 0.95, 0)
    assert bounds is not None
    width = 1.96 * above.std() / 20
    assert (bounds.low, bounds.high) == pytest.approx((above.mean() - width, above.mean() + width), abs=0.01)


@pytest.mark.parametrize("mean", [0.0, -0.2, 0.01])
def test_a_ratio_to_what_does_not_stand_out_from_0_has_no_interval(mean: float) -> None:
    below = np.random.default_rng(1).normal(mean, 1, 100)
    assert ratio_interval(np.ones(100), below - below.mean() + mean, 0.95, 0) is None


def test_those_that_changed_most_come_first_and_of_equal_ones_the_smaller_row() -> None:
    assert order_by_change(np.array([0.5, 0.0, 0.5, 0.0]), np.array([3, 9, 1, 4])).tolist() == [3, 1, 2, 0]
