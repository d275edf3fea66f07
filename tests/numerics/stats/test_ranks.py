import numpy as np
import pytest
from scipy.stats import rankdata

from consilience.numerics.stats.correlations import average_ranks


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_ranks_are_those_of_scipy_also_with_ties_and_gaps(axis: int | None) -> None:
    values = np.random.default_rng(0).integers(0, 6, (7, 11)).astype(float)
    values[np.random.default_rng(1).random(values.shape) < 0.2] = np.nan

    np.testing.assert_array_equal(average_ranks(values, axis), rankdata(values, axis=axis, nan_policy="omit"))


def test_nothing_has_no_ranks() -> None:
    assert average_ranks([]).shape == (0,)
    assert np.isnan(average_ranks([np.nan, np.nan])).all()
