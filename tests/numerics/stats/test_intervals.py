import numpy as np
import pytest

from consilience.numerics.stats.intervals import Replicates, difference_interval, jackknife_interval


def test_the_interval_of_a_correlation_stays_below_1() -> None:
    values = 0.99 + 0.01 * np.random.default_rng(8).normal(size=50)
    found = jackknife_interval(0.99, values, 0.95)
    assert found is not None
    assert found.high < 1


def test_the_interval_of_perfect_agreement_ends_at_1() -> None:
    found = jackknife_interval(1.0, np.ones(50), 0.95)
    assert found is not None
    assert (found.low, found.high) == (1.0, 1.0)


def test_an_undefined_leave_one_out_value_gives_no_interval() -> None:
    assert jackknife_interval(0.5, np.array([0.4, np.nan, 0.5]), 0.95) is None


def test_the_interval_of_a_difference_uses_the_covariance_of_both_scores() -> None:
    # Given two scores that share most of what the items do to them
    rng = np.random.default_rng(1)
    shared, (a, b) = rng.normal(size=64), 0.1 * rng.normal(size=(2, 64))
    parts = Replicates(shared + a, 1 / 63, "delete-half"), Replicates(shared + b, 1 / 63, "delete-half")

    found = difference_interval(0.5, 0.4, parts, 0.95)

    assert found is not None
    assert found.method == "paired delete-half"
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * (a - b).std(ddof=1))
    assert (found.high - found.low) / 2 < 1.96 * np.hypot(parts[0].se, parts[1].se) / 4


def test_a_difference_needs_equal_subsets_and_defined_scores() -> None:
    halves, blocks = Replicates(np.ones(64), 1 / 63, "delete-half"), Replicates(np.ones(10), 0.9, "block-jackknife")
    with pytest.raises(ValueError, match="delete-half with 64 and block-jackknife with 10 subsets"):
        difference_interval(0.5, 0.4, (halves, blocks), 0.95)
    hole = Replicates(np.array([0.1, np.nan]), 1.0, "delete-half")
    assert difference_interval(0.5, 0.4, (hole, hole), 0.95) is None
