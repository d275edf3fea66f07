from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from ml_dtypes import bfloat16

from consilience.numerics.rows.prepared import RawRows, find_clamp, find_exact_clamp
from consilience.numerics.rows.sources import ArrayLayer


def layers(stack: npt.NDArray[np.float32]) -> Sequence[RawRows]:
    return [ArrayLayer(str(i), stack[:, i]) for i in range(stack.shape[1])]


@pytest.fixture
def stack() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_t(3, size=(5000, 3, 16)).astype(np.float32)


def test_the_model_clamp_is_the_mean_row_quantile_over_all_layers(stack: npt.NDArray[np.float32]) -> None:
    expected = np.quantile(np.abs(stack.reshape(5000, -1).astype(np.float64)), 0.95, axis=1).mean()
    assert find_clamp(layers(stack), 0.95, "model") == pytest.approx((expected,) * 3, rel=1e-6)


def test_the_layer_clamp_is_computed_per_layer(stack: npt.NDArray[np.float32]) -> None:
    expected = np.quantile(np.abs(stack.astype(np.float64)), 0.9, axis=2).mean(axis=0)
    assert find_clamp(layers(stack), 0.9, "layer") == pytest.approx(tuple(expected), rel=1e-6)


@pytest.mark.parametrize("quantile", [0.6, 0.95, 0.999, 1.0])
def test_the_exact_clamp_is_an_element_of_the_sorted_values(stack: npt.NDArray[np.float32], quantile: float) -> None:
    values = np.sort(np.abs(stack).ravel())
    expected = values[min(int(quantile * values.size), values.size - 1)]
    assert find_exact_clamp(layers(stack), quantile, "model") == (expected,) * 3
    of_first = np.sort(np.abs(stack[:, 0]).ravel())
    expected = of_first[min(int(quantile * of_first.size), of_first.size - 1)]
    assert find_exact_clamp(layers(stack), quantile, "layer")[0] == expected


@pytest.mark.parametrize("dtypes", [["f2"], ["f4"], ["f8"], [bfloat16], ["f2", "f2"], ["f2", bfloat16, "f4"]])
@pytest.mark.parametrize("dim", [1, 2, 7, 1000, 4001])
@pytest.mark.parametrize("quantile", [0.51, 0.95, 1.0])
def test_row_quantiles_are_those_of_numpy_to_the_bit(dtypes: list[npt.DTypeLike], dim: int, quantile: float) -> None:
    rng = np.random.default_rng(dim)
    stored = [(rng.standard_t(2, size=(6, dim)) * rng.choice([0, 1e-6, 1], size=dim)).astype(dtype) for dtype in dtypes]
    values = np.concatenate([np.abs(rows.astype(np.float32)) for rows in stored], axis=1)
    expected = np.quantile(values, quantile, axis=1).sum(dtype=np.float64) / 6
    assert find_clamp([ArrayLayer("0", rows) for rows in stored], quantile, "model")[0] == expected


def test_row_quantiles_are_the_same_on_several_threads() -> None:
    rows = np.random.default_rng(0).normal(size=(1031, 4100)).astype(np.float16)
    expected = np.quantile(np.abs(rows.astype(np.float32)), 0.95, axis=1).sum(dtype=np.float64) / 1031
    assert find_clamp([ArrayLayer("0", rows)], 0.95, "model") == (expected,)
