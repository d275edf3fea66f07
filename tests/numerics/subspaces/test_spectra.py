import numpy as np
import pytest

from consilience.numerics.subspaces.spectra import find_cross, find_spectrum, scale_directions, singular_values

SHAPES = [(60, 9), (20, 50), (30, 30), (4, 2)]


def rows(n: int, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) * 0.9 ** np.arange(d) + 2).astype(np.float32)


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("zscore", [True, False])
def test_the_decomposition_is_that_of_numpy(n: int, d: int, centre: bool, zscore: bool) -> None:
    x = rows(n, d)
    taken = x.astype(np.float64) - (x.mean(axis=0, dtype=np.float64) if centre else 0.0)
    taken = taken / np.sqrt((taken**2).mean(axis=0)) if zscore else taken
    found = find_spectrum(x, centre=centre, zscore=zscore)
    left, values, _ = np.linalg.svd(taken, full_matrices=False)
    assert found.rank == np.linalg.matrix_rank(taken, rtol=1e-6)
    np.testing.assert_allclose(found.values, values[: found.rank], rtol=1e-5)
    np.testing.assert_allclose(found.values[:3], values[: min(3, found.rank)], rtol=1e-12)
    np.testing.assert_allclose(found.left.T @ found.left, np.eye(found.rank), atol=1e-12)
    kept = left[:, : found.rank]
    np.testing.assert_allclose(found.left @ found.left.T, kept @ kept.T, atol=1e-5)
    np.testing.assert_allclose((x - found.mean) @ found.whitening, found.left, atol=1e-7)


def test_directions_far_weaker_than_the_strongest_are_orthonormal() -> None:
    rng = np.random.default_rng(1)
    basis, _ = np.linalg.qr(rng.normal(size=(200, 40)))
    x = (basis * np.logspace(0, -5.5, 40)).astype(np.float32)
    found = find_spectrum(x)
    assert found.values[-1] / found.values[0] < 1e-5
    np.testing.assert_allclose(found.left.T @ found.left, np.eye(found.rank), atol=1e-13)


@pytest.mark.parametrize(("n", "d"), [(100, 30), (40, 90)])
@pytest.mark.parametrize("offset", [0.0, 10.0])
def test_float32_rounding_adds_no_direction(n: int, d: int, offset: float) -> None:
    rng = np.random.default_rng(2)
    x = (rng.normal(size=(n, 5)) @ rng.normal(size=(5, d)) + offset).astype(np.float32)
    assert find_spectrum(x).rank == 5
    assert np.linalg.matrix_rank(x - x.mean(axis=0, dtype=np.float64)) > 5


def test_equal_rows_have_no_direction_and_constant_columns_are_left_out() -> None:
    constant = np.full((300, 5), 0.1, np.float32)
    assert find_spectrum(constant).rank == 0
    x = np.hstack([rows(300, 3), constant])
    found = find_spectrum(x, zscore=True)
    assert found.rank == 3
    np.testing.assert_allclose(found.values @ found.values, 3 * 300, rtol=1e-9)


def test_other_rows_are_projected_on_the_same_directions() -> None:
    x = rows(50, 6)
    factor = scale_directions(find_spectrum(x), np.array([2.0, 1.0]))
    np.testing.assert_allclose(factor.project(x), factor.scores, atol=1e-12)
    assert factor.project(x[:7]).shape == (7, 2)


@pytest.mark.parametrize("shape", [(70, 90), (90, 70), (65, 65)])
def test_approximate_singular_values_have_half_of_the_digits(shape: tuple[int, int]) -> None:
    cross = np.random.default_rng(3).normal(size=shape) * 0.8 ** np.arange(shape[1])
    exact = singular_values(cross)
    np.testing.assert_allclose(singular_values(cross, approximate=True), exact, atol=1e-7 * exact[0])


def test_a_permutation_reorders_the_rows_of_b() -> None:
    a, b = scale_directions(find_spectrum(rows(30, 4))), scale_directions(find_spectrum(rows(30, 6, 1)))
    order = np.random.default_rng(4).permutation(30)
    moved = scale_directions(find_spectrum(rows(30, 6, 1)[order]))
    np.testing.assert_allclose(
        singular_values(find_cross(a, b, order)), singular_values(find_cross(a, moved)), atol=1e-12
    )


@pytest.mark.parametrize("shape", [(60, 20), (20, 60)])
def test_leading_directions_are_those_of_the_whole_spectrum(shape: tuple[int, int]) -> None:
    x = rows(*shape)
    whole, some = find_spectrum(x, zscore=True), find_spectrum(x, zscore=True, leading=5)
    signs = np.sign(np.sum(whole.left[:, :5] * some.left, axis=0))
    np.testing.assert_allclose(some.values, whole.values[:5], rtol=1e-12)
    np.testing.assert_allclose(some.left * signs, whole.left[:, :5], atol=1e-9)
    np.testing.assert_allclose(some.whitening * signs, whole.whitening[:, :5], atol=1e-9)
