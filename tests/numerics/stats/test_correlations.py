"""Correlations against scipy, and exact p-values against a count of all orders."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from scipy import stats
from scipy.stats import rankdata

from consilience.numerics.rows.arrays import Float64Array
from consilience.numerics.stats.correlations import Correlation, average_ranks, partial_correlation, pearson, spearman

Correlate = Callable[[Float64Array, Float64Array], Correlation | None]
RNG = np.random.default_rng(7)
X, Y, Z = RNG.normal(size=(3, 40)) + RNG.normal(size=40)


def test_values_and_p_values_of_many_models_are_those_of_scipy() -> None:
    for ours, theirs in ((pearson(X, Y), stats.pearsonr(X, Y)), (spearman(X, Y), stats.spearmanr(X, Y))):
        assert ours is not None
        assert not ours.exact
        assert (ours.value, ours.p_value) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-9)


def test_the_interval_of_pearson_is_that_of_scipy_and_that_of_spearman_is_wider() -> None:
    ours, theirs, ranks = pearson(X, Y, 0.9), stats.pearsonr(X, Y).confidence_interval(0.9), spearman(X, Y, 0.9)
    assert ours is not None
    assert ranks is not None
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)
    assert np.diff(np.arctanh([ranks.low, ranks.high])) > np.diff(np.arctanh([ours.low, ours.high]))


@pytest.mark.parametrize("correlate", [pearson, spearman])
@pytest.mark.parametrize("y", [[0.1, 0.4, 0.2, 0.9, 0.3, 0.8], [1, 1, 2, 2, 3, 3], [5, 0, 0, 0, 0, 0.0]])
def test_few_models_have_the_p_value_of_a_count_of_all_orders(correlate: Correlate, y: list[float]) -> None:
    x = np.array([3.0, 1, 4, 1, 5, 9])
    found = correlate(x, np.array(y, dtype=float))
    assert found is not None
    assert found.exact
    measure = stats.pearsonr if correlate is pearson else stats.spearmanr
    drawn = np.array([measure(x, np.array(y)[list(order)]).statistic for order in permutations(range(6))])
    assert found.p_value == pytest.approx((np.abs(drawn) >= abs(found.value) - 1e-9).mean())


def test_a_partial_correlation_is_that_of_the_inverse_covariance() -> None:
    found = partial_correlation(X, Y, Z[:, None], ranks=False)
    precision = np.linalg.inv(np.cov([X, Y, Z]))
    assert found is not None
    assert found.value == pytest.approx(-precision[0, 1] / np.sqrt(precision[0, 0] * precision[1, 1]))
    freedom = 40 - 3
    t = found.value * np.sqrt(freedom / (1 - found.value**2))
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(t), freedom))


def test_a_partial_correlation_of_ranks_does_not_depend_on_the_scale() -> None:
    plain, bent = partial_correlation(X, Y, Z[:, None]), partial_correlation(np.exp(X), Y**3, 10 ** Z[:, None])
    assert plain is not None
    assert bent is not None
    assert plain.value == pytest.approx(bent.value)


def test_values_explained_by_the_covariate_have_no_partial_correlation() -> None:
    assert partial_correlation(2 * Z + 1, Y, Z[:, None], ranks=False) is None
    assert partial_correlation(X, Y, np.column_stack([Z, X])) is None


def test_constant_numbers_and_two_models_have_no_correlation() -> None:
    assert pearson(np.full(9, 0.1), np.arange(9.0)) is None
    assert spearman(np.arange(9.0), np.full(9, 3.0)) is None
    assert pearson(np.array([1.0, 2]), np.array([1.0, 2])) is None


def test_three_models_have_a_p_value_and_no_interval() -> None:
    found = spearman(np.array([1.0, 2, 3]), np.array([1.0, 3, 2]))
    assert found is not None
    assert (found.value, found.p_value) == (pytest.approx(0.5), 1.0)
    assert (found.low, found.high) == (None, None)


def test_intervals_cover_the_correlation_of_the_population() -> None:
    rng, covered, true = np.random.default_rng(3), 0, 0.6
    for _ in range(400):
        x = rng.normal(size=12)
        found = pearson(x, true * x + 0.8 * rng.normal(size=12))
        assert found is not None
        covered += found.low <= true <= found.high  # type: ignore[operator]  # there is one for 12 models
    assert 0.92 <= covered / 400 <= 0.98


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_ranks_are_those_of_scipy_also_with_ties_and_nan(axis: int | None) -> None:
    values = np.random.default_rng(0).integers(0, 6, (7, 11)).astype(float)
    values[np.random.default_rng(1).random(values.shape) < 0.2] = np.nan

    np.testing.assert_array_equal(average_ranks(values, axis), rankdata(values, axis=axis, nan_policy="omit"))


def test_an_empty_array_has_no_ranks() -> None:
    assert average_ranks([]).shape == (0,)
    assert np.isnan(average_ranks([np.nan, np.nan])).all()
