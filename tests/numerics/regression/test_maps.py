import ml_dtypes
import numpy as np
import pytest
import torch

from consilience.errors import InvalidShape, NonFiniteValues
from consilience.numerics.regression.maps import Affine, LinearStep, Transform, translate


def random_rows(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_an_affine_map_equals_its_step_with_the_origin_in_the_bias() -> None:
    affine = Affine(np.diag([2.0, 3.0]), np.array([1.0, 1.0]), np.array([10.0, 20.0]))
    assert Transform((affine.step(),)).apply(np.array([[1, 1], [2, 2]], np.float32)).tolist() == [[10, 20], [12, 23]]


def test_two_steps_with_a_gelu_give_the_result_of_torch() -> None:
    first, second = torch.nn.Linear(5, 7), torch.nn.Linear(7, 3)
    steps = [
        LinearStep(layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy()) for layer in (first, second)
    ]
    rows = random_rows(9000, 5)
    with torch.no_grad():
        expected = second(torch.nn.functional.gelu(first(torch.from_numpy(rows)))).numpy()
    assert Transform(tuple(steps), gelu=True).apply(rows) == pytest.approx(expected, abs=1e-6)


def test_rows_are_scaled_to_length_1_if_the_map_is_normalised() -> None:
    identity = Transform((LinearStep(np.eye(4, dtype=np.float32), np.zeros(4, np.float32)),))
    rows = random_rows(10, 4)
    found = translate(identity, rows, normalise=True)
    assert found == pytest.approx(rows / np.linalg.norm(rows, axis=1, keepdims=True), abs=1e-6)
    assert np.array_equal(translate(identity, rows, normalise=False), rows)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_vectors_can_have_any_float_type_and_memory_order(dtype: type) -> None:
    transform = Transform((LinearStep(random_rows(6, 2), random_rows(2)),))
    rows = random_rows(20, 6).astype(dtype)
    expected = translate(transform, rows.astype(np.float32), normalise=True)
    assert translate(transform, np.asfortranarray(rows), normalise=True) == pytest.approx(expected, abs=1e-6)


def test_the_vectors_of_the_caller_are_not_changed() -> None:
    transform = Transform((LinearStep(random_rows(6, 2), random_rows(2)),))
    rows = random_rows(20, 6)
    before = rows.copy()
    translate(transform, rows, normalise=True)
    assert np.array_equal(rows, before)


def test_a_wrong_dimension_is_an_error_that_names_the_right_one() -> None:
    transform = Transform((LinearStep(random_rows(6, 2), random_rows(2)),))
    for rows in (random_rows(20, 5), random_rows(6)):
        with pytest.raises(InvalidShape, match=r"the map takes \(n, 6\)"):
            translate(transform, rows, normalise=True)


def test_nan_is_an_error_that_names_its_row() -> None:
    transform = Transform((LinearStep(random_rows(6, 2), random_rows(2)),))
    rows = random_rows(9000, 6)
    rows[8000, 3] = np.nan
    with pytest.raises(NonFiniteValues, match="row 8000, column 3"):
        translate(transform, rows, normalise=False)
