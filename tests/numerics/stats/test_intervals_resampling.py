"""Intervals of neighbour scores: from longer lists, never from a new search."""

import numpy as np
import pytest

from consilience.limits import BLOCKS, HALVES, HALVES_ROWS_MAX
from consilience.numerics.neighbour_overlap import metrics
from consilience.numerics.rows.arrays import BoolArray
from consilience.numerics.stats.intervals import (
    ConfidenceInterval,
    list_length,
    resampled_interval,
    score_each,
    subsample_rows,
)
from tests.reference_implementations import neighbours as reference

N, K = 200, 10


def bounds(
    x: np.ndarray, y: np.ndarray, level: float = 0.95, seed: int = 0, length: int | None = None
) -> ConfidenceInterval | None:
    a, b = (reference.lists_of(side, length or list_length(len(side), K)) for side in (x, y))

    def within(kept: BoolArray) -> float:
        return metrics.mutual_knn(a.restricted(kept, K), b.restricted(kept, K))

    return resampled_interval(value(x, y), score_each(within), len(x), K, level=level, seed=seed)


def value(x: np.ndarray, y: np.ndarray) -> float:
    return metrics.mutual_knn(reference.lists_of(x, K), reference.lists_of(y, K))


def test_the_population_interval_covers_the_mean_of_fresh_galleries() -> None:
    draws = [reference.views(N, seed) for seed in range(100)]
    values = [value(x, y) for x, y in draws]
    found = [bound for x, y in draws if (bound := bounds(x, y, seed=1)) is not None]
    assert len(found) == 100
    assert np.mean([bound.low <= np.mean(values) <= bound.high for bound in found]) >= 0.91
    widths = [(bound.high - bound.low) / (2 * 1.959964) for bound in found]
    assert 0.9 < np.mean(widths) / np.std(values) < 1.5


def test_the_spread_of_halves_is_that_of_a_new_search_of_each_half() -> None:
    x, y = reference.views(N)
    rng = np.random.default_rng(7)
    values = []
    for _ in range(HALVES):
        kept = np.sort(rng.permutation(N)[: N // 2])
        values.append(value(x[kept], y[kept]))
    found = bounds(x, y, seed=7, length=N - 1)
    assert found is not None
    assert found.method == "delete-half"
    assert found.high - value(x, y) == pytest.approx(1.959964 * np.std(values, ddof=1), rel=1e-6)


def test_large_galleries_use_the_block_jackknife() -> None:
    n = HALVES_ROWS_MAX + 1
    rng = np.random.default_rng(3)
    per_row = rng.normal(size=n)

    def within(kept: BoolArray) -> float:
        return float(per_row[kept].mean())

    block = np.random.default_rng(0).permutation(n) % BLOCKS
    without = np.array([per_row[block != left_out].mean() for left_out in range(BLOCKS)])
    se = np.sqrt((BLOCKS - 1) * without.var())
    found = resampled_interval(0.0, score_each(within), n, K, level=0.95, seed=0, limits=(None, None))
    assert found is not None
    assert found.method == "block-jackknife"
    assert found.high == pytest.approx(1.959964 * se, rel=1e-6)
    assert found.high == pytest.approx(1.96 / np.sqrt(n), rel=0.7)


def test_whole_groups_are_kept_or_left_out() -> None:
    groups = np.repeat(np.arange(30, dtype=np.int32) * 5, 4)
    seen = []

    def within(kept: BoolArray) -> float:
        seen.append(kept)
        return float(len(seen))

    resampled_interval(0.5, score_each(within), 120, 3, level=0.95, seed=0, groups=groups)
    assert all((kept.reshape(30, 4).sum(axis=1) % 4 == 0).all() and kept.sum() == 60 for kept in seen)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    x, y = reference.views(N)
    assert bounds(x, y, seed=7) == bounds(x, y, seed=7) != bounds(x, y, seed=8)


def test_a_higher_level_gives_a_wider_interval_around_the_same_value() -> None:
    x, y = reference.views(N)
    narrow, broad = bounds(x, y, 0.8), bounds(x, y, 0.99)
    assert narrow is not None
    assert broad is not None
    assert broad.low < narrow.low < value(x, y) < narrow.high < broad.high


@pytest.mark.parametrize("n", [20, 22, 30, 41])
def test_halves_of_at_most_2k_rows_give_no_interval(n: int) -> None:
    assert bounds(*reference.views(n)) is None


def test_halves_of_2k_plus_1_rows_cover_the_mean_of_fresh_galleries() -> None:
    draws = [reference.views(2 * (2 * K + 1), seed) for seed in range(150)]
    centre = np.mean([value(x, y) for x, y in draws])
    found = [bounds(x, y, seed=1) for x, y in draws]
    assert 0.91 <= np.mean([bound is not None and bound.low <= centre <= bound.high for bound in found]) <= 0.995


@pytest.mark.parametrize("width", [K + 1, 48, N - 1], ids=["some lists run out", "as planned", "whole"])
def test_scores_of_all_subsets_at_once_are_those_of_each_subset(width: int) -> None:
    a, b = (reference.lists_of(side, width) for side in reference.views(N))
    kept = np.random.default_rng(5).random((HALVES, N)) < np.linspace(0.02, 1.0, HALVES)[:, None]

    at_once = metrics.mutual_knn_in_galleries(a, b, K, kept)

    singly = [metrics.mutual_knn(a.restricted(part, K), b.restricted(part, K)) for part in kept]
    assert np.isnan(singly).any()
    np.testing.assert_allclose(at_once, singly, rtol=1e-12)


def test_blocks_keep_nine_tenths_of_the_rows() -> None:
    assert subsample_rows(HALVES_ROWS_MAX) == HALVES_ROWS_MAX // 2
    assert subsample_rows(10_001) == 9_000


def test_an_undefined_subset_gives_no_interval() -> None:
    assert resampled_interval(0.5, score_each(lambda _: float("nan")), N, K, level=0.95, seed=0) is None


def test_intervals_are_clipped_to_the_range_of_the_metric() -> None:
    x, _ = reference.views(N)
    found = bounds(x, x)
    assert found is not None
    assert (found.low, found.high) == (1.0, 1.0)
    wild = iter(np.random.default_rng(0).normal(size=HALVES))
    cut = resampled_interval(
        0.5, score_each(lambda _: float(next(wild))), N, K, level=0.95, seed=0, limits=(-1.0, None)
    )
    assert cut is not None
    assert cut.low == -1.0
    assert cut.high > 1.5
