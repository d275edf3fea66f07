from math import acos, sqrt

import numpy as np
import pytest

from consilience.numerics.subspaces.cca import (
    cca_mean,
    held_out_angle,
    held_out_bures,
    held_out_cca_mean,
    held_out_cca_r2,
    held_out_cosine,
    held_out_pwcca,
)
from consilience.numerics.subspaces.moments import PairSums, sum_rows
from consilience.numerics.subspaces.shapes import unit_shape
from consilience.numerics.subspaces.spectra import ScaledDirections, find_spectrum, scale_directions
from tests.reference_implementations import subspaces as reference


def pair(n: int = 80, p: int = 6, q: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    shared = rng.normal(size=(n, 4))
    x = shared @ rng.normal(size=(4, p)) + rng.normal(size=(n, p)) + 1
    y = shared @ rng.normal(size=(4, q)) + rng.normal(size=(n, q)) - 1
    return x.astype(np.float32), y.astype(np.float32)


def unseen(
    a: ScaledDirections, b: ScaledDirections, x: np.ndarray, y: np.ndarray
) -> tuple[ScaledDirections, ScaledDirections, PairSums]:
    return a, b, sum_rows(a.project(x), b.project(y))


def white(x: np.ndarray) -> ScaledDirections:
    return scale_directions(find_spectrum(x))


def shape(x: np.ndarray) -> ScaledDirections:
    return unit_shape(find_spectrum(x), 1.0)


def test_the_held_out_value_of_the_fitted_rows_is_the_score() -> None:
    x, y = pair()
    rho = reference.correlations(x, y)
    assert held_out_cca_mean(*unseen(white(x), white(y), x, y)) == pytest.approx(rho.mean(), abs=1e-7)
    assert held_out_cca_r2(*unseen(white(x), white(y), x, y)) == pytest.approx((rho**2).mean(), abs=1e-7)
    assert held_out_pwcca(*unseen(white(x), white(y), x, y)) == pytest.approx(reference.pwcca(x, y), abs=1e-7)
    assert held_out_cosine(*unseen(shape(x), shape(y), x, y)) == pytest.approx(reference.procrustes(x, y), abs=1e-9)


def test_the_fitted_rotation_is_applied_to_held_out_rows() -> None:
    x, y = pair()
    (a, b), (c, d) = (x[:50], y[:50]), (x[50:], y[50:])
    one, other = a - a.mean(axis=0, dtype=np.float64), b - b.mean(axis=0, dtype=np.float64)
    left, _, right = np.linalg.svd(one.T @ other, full_matrices=False)
    turned, target = (c - a.mean(axis=0, dtype=np.float64)), (d - b.mean(axis=0, dtype=np.float64))
    cosine = np.vdot(turned @ left @ right, target) / (np.linalg.norm(turned) * np.linalg.norm(target))
    assert held_out_cosine(*unseen(shape(a), shape(b), c, d)) == pytest.approx(cosine, abs=1e-9)
    assert held_out_angle(*unseen(shape(a), shape(b), c, d)) == pytest.approx(acos(cosine), abs=1e-9)
    assert held_out_bures(*unseen(shape(a), shape(b), c, d)) == pytest.approx(sqrt(2 - 2 * cosine), abs=1e-9)


def test_independent_spaces_score_near_0_on_held_out_rows() -> None:
    """In-sample the same pairs agree to 0.4."""
    rng = np.random.default_rng(0)
    in_sample, held_out = [], []
    for _ in range(40):
        x, y = (rng.normal(size=(200, 30)).astype(np.float32) for _ in range(2))
        a, b = white(x[:160]), white(y[:160])
        in_sample.append(cca_mean(a, b))
        held_out.append(held_out_cca_mean(*unseen(a, b, x[160:], y[160:])))
    assert np.mean(in_sample) > 0.3
    assert abs(np.mean(held_out)) < 4 * np.std(held_out) / sqrt(40)


def test_a_direction_constant_on_held_out_rows_counts_as_0() -> None:
    x, y = pair(40, 1, 1)
    still = np.full((5, 1), 3, dtype=np.float32)
    assert held_out_cca_mean(*unseen(white(x), white(y), still, y[:5])) == 0.0
