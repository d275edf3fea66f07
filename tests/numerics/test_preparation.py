from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from consilience.numerics.preparation import Matrix, find_clamp, find_exact_clamp, prepare
from consilience.numerics.sources import ArrayLayer


def layers(stack: npt.NDArray[np.float32]) -> Sequence[Matrix]:
    return [ArrayLayer(str(i), stack[:, i]) for i in range(stack.shape[1])]


@pytest.fixture
def stack() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_t(3, size=(5000, 3, 16)).astype(np.float32)


def test_the_model_clamp_is_the_mean_of_the_row_quantiles_over_all_layers(stack: npt.NDArray[np.float32]) -> None:
    expected = np.quantile(np.abs(stack.reshape(5000, -1).astype(np.float64)), 0.95, axis=1).mean()
    assert find_clamp(layers(stack), 0.95, "model") == pytest.approx((expected,) * 3, rel=1e-6)


def test_the_layer_clamp_is_found_layer_by_layer(stack: npt.NDArray[np.float32]) -> None:
    expected = np.quantile(np.abs(stack.astype(np.float64)), 0.9, axis=2).mean(axis=0)
    assert find_clamp(layers(stack), 0.9, "layer") == pytest.approx(tuple(expected), rel=1e-6)


def test_rows_are_clamped_and_then_scaled_to_length_1(stack: npt.NDArray[np.float32]) -> None:
    rows = prepare(layers(stack)[1], clamp=0.8, normalise=True)
    clamped = np.clip(stack[:, 1].astype(np.float64), -0.8, 0.8)
    np.testing.assert_allclose(rows, clamped / np.linalg.norm(clamped, axis=1, keepdims=True), rtol=2e-6)


def test_without_clamp_and_scaling_the_rows_stay(stack: npt.NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(prepare(layers(stack)[0], clamp=None, normalise=False), stack[:, 0])


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e20, 1e30])
def test_very_small_and_very_large_rows_keep_their_direction(size: float) -> None:
    rows = np.array([[3, 4], [4, 3], [-3, 4], [0, 5]], np.float32) * np.float32(size)
    prepared = prepare(ArrayLayer("0", rows), clamp=None, normalise=True)
    np.testing.assert_allclose(prepared, [[0.6, 0.8], [0.8, 0.6], [-0.6, 0.8], [0, 1]], rtol=1e-6)


def test_zero_rows_stay_zero_and_are_told() -> None:
    rows, told = np.ones((6, 2), np.float32), []
    rows[[1, 4]] = 0
    prepared = prepare(ArrayLayer("0", rows), clamp=None, normalise=True, warn=told.append)
    assert told == [2]
    assert not prepared[[1, 4]].any()


def test_the_callers_array_is_left_alone() -> None:
    rows = np.full((4, 2), 3.0, np.float32)
    prepare(ArrayLayer("0", rows), clamp=1.0, normalise=True)
    assert (rows == 3.0).all()


@pytest.mark.parametrize("quantile", [0.6, 0.95, 0.999, 1.0])
def test_the_exact_clamp_is_an_element_of_the_sorted_values(stack: npt.NDArray[np.float32], quantile: float) -> None:
    values = np.sort(np.abs(stack).ravel())
    expected = values[min(int(quantile * values.size), values.size - 1)]
    assert find_exact_clamp(layers(stack), quantile, "model") == (expected,) * 3
    of_first = np.sort(np.abs(stack[:, 0]).ravel())
    expected = of_first[min(int(quantile * of_first.size), of_first.size - 1)]
    assert find_exact_clamp(layers(stack), quantile, "layer")[0] == expected


def test_centring_subtracts_the_mean_row_before_scaling(stack: npt.NDArray[np.float32]) -> None:
    rows = stack[:, 0].astype(np.float64) + 5
    centred = rows - rows.mean(axis=0)
    prepared = prepare(ArrayLayer("0", rows), centre=True)
    np.testing.assert_allclose(prepared, centred / np.linalg.norm(centred, axis=1, keepdims=True), atol=2e-6)
