from math import pi, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilience.numerics.subspaces.shapes import angular_shape, bures, gulp, procrustes, ridge_shape, unit_shape
from consilience.numerics.subspaces.spectra import ScaledDirections, find_spectrum
from tests.reference_implementations import subspaces as reference

SHAPES = [(80, 9, 14), (80, 14, 9), (60, 5, 5), (300, 80, 70), (20, 50, 40), (4, 7, 2)]


def pair(n: int, p: int, q: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 5))
    x = shared @ rng.normal(size=(5, p)) + rng.normal(size=(n, p)) + 1
    y = shared @ rng.normal(size=(5, q)) + rng.normal(size=(n, q)) - 1
    return x.astype(np.float32), y.astype(np.float32)


def shape(x: np.ndarray, alpha: float = 1.0) -> ScaledDirections:
    return unit_shape(find_spectrum(x), alpha)


def ridge(x: np.ndarray, penalty: float) -> ScaledDirections:
    return ridge_shape(find_spectrum(x), penalty)


@pytest.mark.parametrize(("n", "p", "q"), SHAPES)
def test_the_rotation_is_that_of_scipys_orthogonal_procrustes(n: int, p: int, q: int) -> None:
    x, y = pair(n, p, q)
    cosine = reference.procrustes(x, y)
    assert procrustes(shape(x), shape(y)) == pytest.approx(cosine, abs=1e-9)
    assert bures(shape(x), shape(y)) == pytest.approx(sqrt(2 - 2 * cosine), abs=1e-9)


@pytest.mark.parametrize(("n", "p", "q"), SHAPES)
def test_the_angle_is_that_of_netrep_for_rotations_only(n: int, p: int, q: int) -> None:
    x, y = pair(n, p, q)
    assert angular_shape(shape(x), shape(y)) == pytest.approx(reference.netrep_angle(x, y, 1.0), abs=1e-8)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9])
@pytest.mark.parametrize(("n", "p"), [(80, 9), (300, 80)])
def test_the_angle_is_that_of_netrep_after_partial_whitening(n: int, p: int, alpha: float) -> None:
    x, y = pair(n, p, p)
    found = angular_shape(shape(x, alpha), shape(y, alpha))
    assert found == pytest.approx(reference.netrep_angle(x, y, alpha), abs=1e-7)


def test_the_whitened_angle_is_that_of_the_canonical_correlations() -> None:
    x, y = pair(80, 6, 9)
    expected = np.arccos(reference.correlations(x, y).sum() / sqrt(6 * 9))
    assert angular_shape(shape(x, 0.0), shape(y, 0.0)) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("penalty", [1e-3, 0.01, 1.0])
@pytest.mark.parametrize(("n", "p", "q"), SHAPES)
def test_gulp_is_that_of_its_three_traces(n: int, p: int, q: int, penalty: float) -> None:
    x, y = pair(n, p, q)
    assert gulp(ridge(x, penalty), ridge(y, penalty)) == pytest.approx(reference.gulp(x, y, penalty), rel=1e-7)


def test_gulp_without_a_penalty_counts_unshared_directions() -> None:
    x, y = pair(80, 6, 9)
    expected = sqrt(6 + 9 - 2 * (reference.correlations(x, y) ** 2).sum())
    assert gulp(ridge(x, 0.0), ridge(y, 0.0)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("n", "d"), [(80, 9), (20, 50), (300, 80)])
def test_a_rotated_scaled_shifted_space_has_the_same_shape(n: int, d: int) -> None:
    x, _ = pair(n, d, 1)
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(d + 3, d)))
    turned = (x @ rotation.T * 4 + 0.5).astype(np.float32)
    assert procrustes(shape(x), shape(turned)) == pytest.approx(1.0, abs=1e-9)
    for distance in (bures, angular_shape):
        assert distance(shape(x), shape(turned)) == pytest.approx(0.0, abs=1e-5)
    assert gulp(ridge(x, 0.01), ridge(turned, 0.01)) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize(("n", "d"), [(80, 9), (20, 50), (300, 80)])
def test_a_space_has_distance_0_to_itself_to_the_last_digits(n: int, d: int) -> None:
    """1 - cosine alone would leave 1e-8."""
    x, _ = pair(n, d, 1)
    for found in (
        bures(shape(x), shape(x)),
        angular_shape(shape(x), shape(x)),
        angular_shape(shape(x, 0.5), shape(x, 0.5)),
        gulp(ridge(x, 0.01), ridge(x, 0.01)),
    ):
        assert found < 1e-12


@pytest.mark.parametrize("angle", [1e-2, 1e-4, 1e-6])
def test_small_distances_keep_their_digits(angle: float) -> None:
    """A plane and the same plane turned by an angle about one of its axes."""
    basis, _ = np.linalg.qr(np.hstack([np.ones((40, 1)), np.random.default_rng(2).normal(size=(40, 3))]))
    one, two, out = basis[:, 1:].T
    a, b = (
        ScaledDirections(40, scores / sqrt(2), np.full(2, sqrt(0.5)), np.ones(2), np.zeros(2), np.eye(2))
        for scores in (np.stack([one, two], 1), np.stack([one, np.cos(angle) * two + np.sin(angle) * out], 1))
    )
    assert bures(a, b) == pytest.approx(sqrt(2) * np.sin(angle / 2), rel=1e-9)
    assert angular_shape(a, b) == pytest.approx(2 * np.arcsin(np.sin(angle / 2) / sqrt(2)), rel=1e-9)
    assert gulp(a, b) == pytest.approx(np.sin(angle) / sqrt(2), rel=1e-9)


@pytest.mark.parametrize("metric", [procrustes, bures, angular_shape])
@pytest.mark.parametrize(("n", "p", "q"), [(40, 5, 8), (300, 80, 70)])
def test_permuted_directions_score_as_permuted_rows(metric: object, n: int, p: int, q: int) -> None:
    x, y = pair(n, p, q)
    order = np.random.default_rng(1).permutation(n)
    expected = metric(shape(x), shape(y[order]))  # type: ignore[operator]  # parametrised functions
    assert metric(shape(x), shape(y), order) == pytest.approx(expected, abs=1e-7)  # type: ignore[operator]  # the same


def test_orthogonal_spaces_have_the_largest_distance() -> None:
    basis, _ = np.linalg.qr(np.hstack([np.ones((30, 1)), np.random.default_rng(3).normal(size=(30, 7))]))
    x, y = basis[:, 1:4].astype(np.float32), basis[:, 4:].astype(np.float32)
    assert procrustes(shape(x), shape(y)) == pytest.approx(0.0, abs=1e-6)
    assert angular_shape(shape(x), shape(y)) == pytest.approx(pi / 2, abs=1e-6)
    assert bures(shape(x), shape(y)) == pytest.approx(sqrt(2), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dims=st.tuples(*[st.integers(1, 12)] * 3),
    alpha=st.floats(0, 1),
    noise=st.sampled_from([1e-3, 0.1, 1.0]),
)
def test_distances_obey_the_triangle_inequality(
    seed: int, dims: tuple[int, int, int], alpha: float, noise: float
) -> None:
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(9, 12))
    sides = [(shared[:, :d] + noise * rng.normal(size=(9, d))).astype(np.float32) for d in dims]
    for metric, factors in (
        (angular_shape, [shape(side, alpha) for side in sides]),
        (bures, [shape(side) for side in sides]),
        (gulp, [ridge(side, 0.01) for side in sides]),
    ):
        a, b, c = factors
        assert metric(a, c) <= metric(a, b) + metric(b, c) + 1e-9
        assert metric(a, b) == pytest.approx(metric(b, a), abs=1e-9)
