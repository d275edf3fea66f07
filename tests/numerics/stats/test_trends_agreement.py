"""Agreement of metrics over a study, whose pairs share models."""

import numpy as np
import pytest
from scipy import stats

from consilience.numerics.rows.arrays import Float64Array
from consilience.numerics.stats.trends import correlate_metrics

RNG = np.random.default_rng(2)


def upper(full: Float64Array) -> Float64Array:
    """Keep one triangle, as in a study of models against themselves."""
    return np.where(np.triu(np.ones(full.shape, bool), 1), full, np.nan)


def test_the_value_is_the_spearman_correlation_over_all_pairs() -> None:
    x, y = RNG.normal(size=(2, 5, 6))
    found = correlate_metrics(x, y, square=False)
    assert found is not None
    assert found.value == pytest.approx(stats.spearmanr(x.ravel(), y.ravel()).statistic)
    assert found.n == 30


def test_one_triangle_of_a_square_grid_counts_each_pair_once() -> None:
    x, y = RNG.normal(size=(2, 7, 7))
    pairs = np.triu_indices(7, 1)
    found = correlate_metrics(upper(x), upper(y), square=True)
    assert found is not None
    assert found.value == pytest.approx(stats.spearmanr(x[pairs], y[pairs]).statistic)
    assert found.n == 21


def test_pairs_without_a_score_are_left_out() -> None:
    x, y = RNG.normal(size=(2, 4, 5))
    x[0, 0] = y[1, 1] = np.nan
    found = correlate_metrics(x, y, square=False)
    kept = ~np.isnan(x) & ~np.isnan(y)
    assert found is not None
    assert found.value == pytest.approx(stats.spearmanr(x[kept], y[kept]).statistic)


def test_the_interval_is_that_of_the_jackknife_over_models() -> None:
    x = RNG.normal(size=(6, 5))
    y = x + RNG.normal(size=(6, 5))
    found = correlate_metrics(x, y, square=False, level=0.95)
    assert found is not None
    variance = 0.0
    for axis, n in ((0, 6), (1, 5)):
        left = [
            np.arctanh(stats.spearmanr(np.delete(x, j, axis).ravel(), np.delete(y, j, axis).ravel()).statistic)
            for j in range(n)
        ]
        variance += (n - 1) / n * np.sum((left - np.mean(left)) ** 2)
    width = stats.norm.ppf(0.975) * np.sqrt(variance)
    assert found.low == pytest.approx(np.tanh(np.arctanh(found.value) - width))
    assert found.high == pytest.approx(np.tanh(np.arctanh(found.value) + width))


def test_one_strong_model_per_metric_is_not_significant() -> None:
    # Given scores that a single good model lifts in each metric, not the same one
    small = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, y = (side + side.T for side in rng.normal(size=(2, 1, 9)) + 0.3 * rng.normal(size=(2, 9, 9)))
        found = correlate_metrics(upper(x), upper(y), square=True, seed=seed)
        assert found is not None
        small += found.p_value <= 0.05
    assert small <= 6  # pairs counted as new ones would give about 20


def test_constant_scores_and_two_pairs_have_no_correlation() -> None:
    assert correlate_metrics(np.ones((3, 3)), RNG.normal(size=(3, 3)), square=False) is None
    assert correlate_metrics(np.array([[1.0, 2.0]]), np.array([[1.0, 2.0]]), square=False) is None
