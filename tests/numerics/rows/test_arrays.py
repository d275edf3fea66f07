import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilience.errors import InputError, InvalidShape, NonFiniteValues, TooFewRows, UnsupportedDtype
from consilience.numerics.rows.arrays import count_duplicates, split_layers


def test_a_matrix_is_one_layer_called_0() -> None:
    assert list(split_layers(np.ones((4, 2), np.float32), "a")) == ["0"]


def test_a_stack_gives_layers_in_the_order_of_its_middle_axis() -> None:
    stack = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    layers = split_layers(stack, "a")
    assert list(layers) == ["0", "1", "2"]
    np.testing.assert_array_equal(layers["1"], stack[:, 1])


def test_a_mapping_keeps_its_names_and_order() -> None:
    assert list(split_layers({"late": np.ones((4, 1)), "early": np.ones((4, 9))}, "b")) == ["late", "early"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_every_float_type_is_accepted(dtype: type) -> None:
    assert split_layers(np.ones((5, 2)).astype(dtype), "a")["0"].dtype == dtype


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (np.ones(8), InvalidShape),
        (np.ones((2, 2, 2, 2)), InvalidShape),
        (np.ones((8, 0)), InvalidShape),
        ({}, InvalidShape),
        ({"x": np.ones((5, 2)), "y": np.ones((6, 2))}, InvalidShape),
        (np.ones((8, 2), np.int64), UnsupportedDtype),
        (np.ones((8, 2), np.complex64), UnsupportedDtype),
        (np.array([["a", "b"]] * 8), UnsupportedDtype),
        (np.ones((3, 2)), TooFewRows),
        (np.full((8, 2), np.nan), NonFiniteValues),
        (np.full((8, 2), np.inf, np.float16), NonFiniteValues),
        (np.full((8, 2), 1e300), NonFiniteValues),
    ],
)
def test_invalid_arrays_raise_an_error_of_their_kind(values: object, error: type[InputError]) -> None:
    with pytest.raises(error):
        split_layers(values, "a")


def test_the_first_bad_value_is_named_by_row_and_column() -> None:
    values = np.ones((9000, 3), np.float32)
    values[8000, 2] = np.nan
    with pytest.raises(NonFiniteValues, match="nan in row 8000, column 2"):
        split_layers(values, "a")


def test_rows_that_equal_an_earlier_row_are_counted() -> None:
    values = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float16)
    values[[7, 8, 9]] = values[3]
    assert count_duplicates([values[:2], values[2:]]) == 3


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_duplicates_are_those_that_a_set_removes(numbers: list[int]) -> None:
    values = np.array(numbers, dtype=np.float32)[:, None].repeat(2, axis=1)
    assert count_duplicates([values[:2], values[2:]]) == len(numbers) - len(set(numbers))
