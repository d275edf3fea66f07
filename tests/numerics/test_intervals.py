import numpy as np

from consilience.numerics.intervals import jackknife_bounds


def test_the_bounds_of_a_correlation_stay_below_1() -> None:
    values = 0.99 + 0.01 * np.random.default_rng(8).normal(size=50)
    found = jackknife_bounds(0.99, values, 0.95)
    assert found is not None
    assert found.high < 1


def test_a_perfect_agreement_has_a_bound_of_1() -> None:
    found = jackknife_bounds(1.0, np.ones(50), 0.95)
    assert found is not None
    assert (found.low, found.high) == (1.0, 1.0)


def test_there_is_none_where_leaving_a_row_out_is_undefined() -> None:
    assert jackknife_bounds(0.5, np.array([0.4, np.nan, 0.5]), 0.95) is None
