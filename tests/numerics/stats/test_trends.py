"""Bins by hand, and tests of a trend against a count of all orders and scipy's Page test."""

from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats

from consilience.numerics.rows.arrays import Float64Array
from consilience.numerics.stats.trends import bin_edges, bin_means, bin_pairs, monotone_trend

RNG = np.random.default_rng(11)


def test_bins_are_half_open_except_for_the_last() -> None:
    x, y = np.array([0.0, 1, 2, 3, 4]), np.array([1.0, 3, 5, 7, 9])
    first, second, third = bin_means(x, y, np.array([0.0, 2, 4, 9]))
    assert (first.n, first.mean, first.se) == (2, 2.0, pytest.approx(1.0))
    assert (second.n, second.mean) == (2, 6.0)
    assert (third.n, third.mean, third.se) == (1, 9.0, None)
    last = bin_means(x, y, np.array([0.0, 2, 4]))[1]
    assert (last.n, last.mean) == (3, 7.0)


def test_an_empty_bin_has_no_mean() -> None:
    empty = bin_means(np.array([0.0, 5]), np.array([1.0, 2]), np.array([0.0, 1, 2, 5]))[1]
    assert (empty.n, empty.mean, empty.se) == (0, None, None)


def test_equal_numbers_fall_into_one_bin() -> None:
    assert bin_edges(np.array([1.0, 1, 1, 1, 2]), 3).tolist() == [1.0, 2.0]
    assert bin_edges(np.array([3.0, 3]), 2).tolist() == [3.0]


def test_bins_of_pairs_have_the_mean_score_and_the_jackknife_error() -> None:
    upper = np.triu(RNG.normal(size=(6, 6)), 1)
    scores, x = upper + upper.T, np.array([1.0, 1, 1, 1, 5, 5])
    few, two = bin_pairs(x, scores, np.array([0.0, 3, 6]))
    pairs = [upper[i, j] for i in range(4) for j in range(i + 1, 4)]
    without = [
        np.mean([upper[i, j] for i in range(4) for j in range(i + 1, 4) if left not in (i, j)]) for left in range(4)
    ]
    assert few.mean == pytest.approx(np.mean(pairs))
    assert few.se == pytest.approx(np.sqrt(3 / 4 * np.sum((without - np.mean(without)) ** 2)))
    assert (two.n, two.mean, two.se) == (2, pytest.approx(upper[4, 5]), None)


def test_a_pair_without_a_score_is_left_out() -> None:
    scores = np.array([[0, 0.2, np.nan], [0.2, 0, 0.4], [np.nan, 0.4, 0]])
    (found,) = bin_pairs(np.zeros(3), scores, np.array([0.0, 1]))
    assert (found.mean, found.se) == (pytest.approx(0.3), None)


def count_orders(scores: Float64Array, *, independent: bool) -> float:
    """The share of orders of the levels with a Page statistic at least as large, one by one."""
    ranks = np.apply_along_axis(stats.rankdata, 1, scores)
    blocks, levels = ranks.shape
    places = np.arange(1, levels + 1)
    orders = [list(order) for order in permutations(range(levels))]
    moves = product(orders, repeat=blocks) if independent else ([order] * blocks for order in orders)
    drawn = [sum(row[order] @ places for row, order in zip(ranks, move, strict=True)) for move in moves]
    return float((np.array(drawn) >= (ranks @ places).sum() - 1e-9).mean())


@pytest.mark.parametrize("independent", [True, False])
@pytest.mark.parametrize("ties", [True, False])
def test_the_p_value_of_a_trend_is_that_of_a_count_of_all_orders(*, independent: bool, ties: bool) -> None:
    scores = RNG.normal(size=(2, 4)) + 0.6 * np.arange(4)
    if ties:
        scores = np.round(scores)
    found = monotone_trend(scores, independent=independent)
    assert found is not None
    assert found.exact
    assert found.p_value == pytest.approx(count_orders(scores, independent=independent))


def test_independent_blocks_give_the_page_test_of_scipy() -> None:
    scores = RNG.normal(size=(5, 6)) + 0.2 * np.arange(6)
    found, theirs = monotone_trend(scores, independent=True), stats.page_trend_test(scores, method="exact")
    assert found is not None
    assert found.p_value == pytest.approx(theirs.pvalue)


def test_one_block_gives_the_exact_spearman_test() -> None:
    scores = RNG.normal(size=(1, 6))
    found = monotone_trend(scores, alternative="two_sided")
    assert found is not None
    assert found.value == pytest.approx(stats.spearmanr(np.arange(6), scores[0]).statistic)


def test_rising_and_falling_mirror_each_other() -> None:
    scores = RNG.normal(size=(3, 5)) + 0.5 * np.arange(5)
    rising, falling = monotone_trend(scores), monotone_trend(-scores, alternative="decreasing")
    assert rising is not None
    assert falling is not None
    assert (rising.value, rising.p_value) == pytest.approx((-falling.value, falling.p_value))


@pytest.mark.parametrize("independent", [True, False])
def test_many_levels_have_a_normal_p_value_that_random_draws_confirm(*, independent: bool) -> None:
    scores = RNG.normal(size=(3, 12)) + 0.1 * np.arange(12)
    found = monotone_trend(scores, independent=independent)
    assert found is not None
    assert not found.exact
    ranks, places = np.apply_along_axis(stats.rankdata, 1, scores), np.arange(12)
    drawn = np.array(
        [
            (RNG.permuted(ranks, axis=1) if independent else ranks[:, RNG.permutation(12)] @ np.eye(12)) @ places
            for _ in range(4000)
        ]
    ).sum(axis=1)
    assert found.p_value == pytest.approx((drawn >= (ranks @ places).sum()).mean(), abs=0.03)


def test_blocks_that_share_sets_have_no_p_value_below_one_order_of_all() -> None:
    rising = np.tile(np.arange(4.0), (20, 1))
    shared, page = monotone_trend(rising), monotone_trend(rising, independent=True)
    assert shared is not None
    assert page is not None
    assert shared.p_value == pytest.approx(1 / 24)
    assert page.p_value < 1e-20


def test_constant_scores_and_two_levels_have_no_trend() -> None:
    assert monotone_trend(np.ones((3, 5))) is None
    assert monotone_trend(np.array([[1.0, 2.0]])) is None


def test_a_constant_block_is_ignored() -> None:
    found = monotone_trend(np.array([[1.0, 1, 1], [1, 2, 3]]))
    assert found is not None
    assert (found.value, found.p_value) == (1.0, pytest.approx(1 / 6))
