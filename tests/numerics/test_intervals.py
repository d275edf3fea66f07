import numpy as np

from consilience.numerics.cka import CkaOptions, cka, jackknife
from consilience.numerics.intervals import jackknife_bounds
from consilience.numerics.moments import find_moments
from tests import twins

N = 200


def sample(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Two noisy views of one latent space."""
    latent = rng.normal(size=(n, 8))
    views = (latent + 0.8 * rng.normal(size=(n, 8)) for _ in range(2))
    return tuple(twins.unit_rows(view).astype(np.float32) for view in views)  # type: ignore[return-value]  # two views


def test_the_jackknife_interval_of_debiased_cka_covers_the_mean_of_fresh_samples() -> None:
    rng = np.random.default_rng(1)
    sides = [tuple(find_moments(side) for side in sample(rng, N)) for _ in range(150)]
    values = [cka(a, b, CkaOptions()) for a, b in sides]
    centre = np.mean(values)
    found = [
        jackknife_bounds(value, jackknife(a, b, CkaOptions()), 0.95)
        for value, (a, b) in zip(values, sides, strict=True)
    ]
    covered = np.mean([bounds is not None and bounds.low <= centre <= bounds.high for bounds in found])
    assert 0.89 <= covered <= 0.99


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
