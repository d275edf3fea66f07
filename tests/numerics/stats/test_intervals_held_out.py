import numpy as np
import pytest
from scipy import stats

from consilience.numerics.stats.intervals import (
    assign_folds,
    block_jackknife_interval,
    held_out_interval,
    leave_blocks_out,
    split_folds,
)

FREE = (None, None)


def test_fold_sizes_differ_by_at_most_one() -> None:
    part = assign_folds(np.random.default_rng(0).permutation(53), 5)
    assert sorted(np.bincount(part)) == [10, 10, 11, 11, 11]


def test_whole_groups_are_assigned_in_the_order_of_their_first_items() -> None:
    groups = np.array([0, 0, 1, 1, 2, 2], dtype=np.int32)
    assert assign_folds(np.array([4, 0, 1, 5, 2, 3]), 2, groups).tolist() == [1, 1, 0, 0, 0, 0]


def test_each_row_is_held_out_twice() -> None:
    splits = list(split_folds(43, seed=1))
    assert len(splits) == 10
    assert np.bincount(np.concatenate([scored for _, scored in splits])).tolist() == [2] * 43
    for fitted, scored in splits:
        assert sorted([*fitted, *scored]) == list(range(43))


def test_each_row_is_left_out_once() -> None:
    kept = list(leave_blocks_out(43, seed=1))
    assert np.bincount(np.concatenate(kept)).tolist() == [9] * 43
    assert len(list(leave_blocks_out(4, seed=1))) == 4


def test_splits_keep_groups_together() -> None:
    groups = np.repeat(np.arange(12), 4).astype(np.int32)
    for fitted, scored in split_folds(48, 0, groups):
        assert not set(groups[fitted]) & set(groups[scored])


def test_the_block_jackknife_of_a_mean_is_its_standard_error() -> None:
    """Blocks of one row: the jackknife of the mean is s / sqrt(n), exactly."""
    x = np.random.default_rng(2).normal(size=10)
    found = block_jackknife_interval(x.mean(), np.array([np.delete(x, j).mean() for j in range(10)]), 0.9, FREE)
    expected = stats.t.interval(0.9, 9, loc=x.mean(), scale=x.std(ddof=1) / np.sqrt(10))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.method == "block-jackknife"


def test_the_held_out_interval_allows_for_rows_that_splits_share() -> None:
    values = np.random.default_rng(3).normal(size=10)
    found = held_out_interval(values.mean(), values, 5, 0.95, FREE)
    scale = values.std(ddof=1) * np.sqrt(1 / 10 + 1 / 4)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 9, loc=values.mean(), scale=scale))
    assert found.method == "held-out"


def test_intervals_stay_within_the_limits() -> None:
    values = np.array([0.9, 1.0, 0.95, 0.2])
    assert held_out_interval(0.9, values, 5, 0.95, (0.0, 1.0)).high == 1.0
    assert block_jackknife_interval(0.1, values, 0.95, (0.0, None)).low == 0.0
