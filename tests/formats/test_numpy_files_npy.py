"""Reading of npy files, valid and invalid."""

import io
import pickle
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from consilience.errors import (
    ConsilienceError,
    InvalidShape,
    NonFiniteValues,
    TooFewRows,
    TooLarge,
    UnreadableFile,
    UnsupportedDtype,
)
from consilience.formats.files import FormatLimits, open_path, read_layers
from consilience.formats.open_file import Array


def save(tmp_path: Path, array: Array) -> Path:
    path = tmp_path / "a.npy"
    np.save(path, array)
    return path


def write_header(tmp_path: Path, text: str, values: bytes = b"", version: int = 1) -> Path:
    raw = text.encode("utf-8" if version == 3 else "latin-1")
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(raw)) + raw)
    with path.open("ab") as file:
        file.write(values)
    return path


def refusal(path: Path, kind: type[ConsilienceError]) -> ConsilienceError:
    with pytest.raises(kind) as caught, open_path(path) as file:
        for _ in file.blocks():
            pass
    return caught.value


def matrix(n: int = 6, dim: int = 3, dtype: str = "f4") -> Array:
    return np.random.default_rng(0).standard_normal((n, dim)).astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "kept"), [("<f2", "F16"), ("<f4", "F32"), ("<f8", "F32"), (">f4", "F32"), (">f2", "F16")]
)
def test_a_matrix_is_one_layer_named_0_in_its_stored_dtype(tmp_path: Path, dtype: str, kept: str) -> None:
    array = matrix(dtype=dtype)
    path = save(tmp_path, array)
    with open_path(path) as file:
        (header,) = file.layers
    assert (header.name, header.n, header.dim, header.dtype) == ("0", 6, 3, kept)
    ((_, values),) = read_layers(path)
    assert values.dtype == ("<f2" if kept == "F16" else "<f4")
    np.testing.assert_array_equal(values, array.astype(values.dtype))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(5000, 300), (3000, 4, 128), (4, 1), (4, 1, 1), (4, 2, 1)])
def test_layers_survive_many_blocks_in_either_memory_order(tmp_path: Path, shape: tuple[int, ...], order: str) -> None:
    array = np.asarray(np.random.default_rng(1).standard_normal(shape).astype("f4"), order=order)  # type: ignore[call-overload]  # order is one of two
    layers = read_layers(save(tmp_path, array))
    stacked = array.reshape(shape[0], -1, shape[-1])
    assert [name for name, _ in layers] == [str(i) for i in range(stacked.shape[1])]
    for i, (_, values) in enumerate(layers):
        np.testing.assert_array_equal(values, stacked[:, i])


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_version_of_the_header_is_read(tmp_path: Path, version: int) -> None:
    header = "{'shape': (4, 2), 'fortran_order': False, 'descr': '<f4', }\n"
    path = write_header(tmp_path, header, np.arange(8, dtype="<f4").tobytes(), version)
    ((_, values),) = read_layers(path)
    np.testing.assert_array_equal(values, np.arange(8).reshape(4, 2))


def test_a_truncated_file_is_refused_with_its_expected_and_actual_size(tmp_path: Path) -> None:
    path = save(tmp_path, matrix(100, 8))
    path.write_bytes(path.read_bytes()[:-7])
    error = refusal(path, UnreadableFile)
    assert "3200 bytes" in error.detail
    assert "3193" in error.detail


def test_bytes_after_the_values_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, matrix())
    path.write_bytes(path.read_bytes() + b"x")
    assert "contains 73" in refusal(path, UnreadableFile).detail


def test_a_header_that_claims_a_trillion_rows_is_refused_by_the_size_of_the_file(tmp_path: Path) -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 768)}\n"
    error = refusal(write_header(tmp_path, header, bytes(64)), UnreadableFile)
    assert "3072000000000000 bytes expected, 64 found" in str(error.value)


def test_a_header_whose_size_has_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'9' * 1900}, {'9' * 1900})}}\n"
    assert "more than 2^63" in refusal(write_header(tmp_path, header, bytes(64)), UnreadableFile).detail


def test_a_pickled_object_array_is_refused_and_its_pickle_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "a.npy"
    np.save(path, np.array([[Bomb()] * 2] * 4, dtype=object), allow_pickle=True)
    error = refusal(path, UnsupportedDtype)
    assert "never read" in str(error.hint)
    assert error.value == "|O"
    assert not (tmp_path / "ran").exists()
    pickle.loads(path.read_bytes()[path.read_bytes().index(b"\n") + 1 :])  # noqa: S301  # shows that the bomb is live
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("dtype", ["i8", "u1", "?", "c8", "U3", "S2", "M8[s]", "V2", "longdouble", [("O", "f4")]])
def test_numbers_of_another_dtype_are_refused_by_its_name(tmp_path: Path, dtype: str | list[tuple[str, str]]) -> None:
    array = np.zeros((5, 2), dtype=dtype)
    error = refusal(save(tmp_path, array), UnsupportedDtype)
    assert error.value
    assert "float32" in str(error.hint)


def test_for_bfloat16_saved_as_void_the_error_recommends_safetensors(tmp_path: Path) -> None:
    error = refusal(save(tmp_path, np.zeros((5, 2), ml_dtypes.bfloat16)), UnsupportedDtype)
    assert "safetensors" in str(error.hint)


@pytest.mark.parametrize("shape", [(5,), (), (5, 0), (5, 2, 0), (5, 0, 2), (2, 2, 2, 2)])
def test_a_shape_other_than_that_of_embeddings_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert refusal(save(tmp_path, np.zeros(shape, "f4")), InvalidShape).value == str(shape)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_fewer_than_four_rows_are_refused(tmp_path: Path, n: int) -> None:
    assert refusal(save(tmp_path, np.zeros((n, 2), "f4")), TooFewRows).limit == 4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_the_first_value_that_is_not_finite_is_named_by_its_position(tmp_path: Path, bad: float, dtype: str) -> None:
    array = np.zeros((3000, 2, 400), dtype)
    array[2017, 1, 33] = array[2018, 0, 0] = bad
    assert refusal(save(tmp_path, array), NonFiniteValues).value == f"row 2017, column 33 of layer 1: {bad}"


def test_a_float64_beyond_float32_is_refused_and_not_made_infinite(tmp_path: Path) -> None:
    array = matrix(dtype="f8")
    array[4, 2] = 1e300
    error = refusal(save(tmp_path, array), NonFiniteValues)
    assert error.value == "row 4, column 2 of layer 0: 1e+300"
    assert "float32" in error.detail


def test_a_float64_below_float32_becomes_zero(tmp_path: Path) -> None:
    ((_, values),) = read_layers(save(tmp_path, np.full((4, 2), 1e-300)))
    assert not values.any()


@pytest.mark.parametrize(
    "header",
    [
        "",
        "{",
        "[]",
        "-" * 4000 + "1",
        "(" * 4000,
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (4, 2)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': [4, 2]}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4, -2)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4, True)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4.0, 2)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 2), 'more': 1}",
        "__import__('os').abort()",
    ],
)
def test_a_header_that_numpy_does_not_write_is_refused(tmp_path: Path, header: str) -> None:
    refusal(write_header(tmp_path, header, bytes(32)), UnreadableFile)


def test_a_header_over_4_kb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    assert refusal(write_header(tmp_path, " " * 4097), UnreadableFile).limit == 4096
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x02\x00" + b"\xff" * 4)
    assert refusal(path, UnreadableFile).value == str(2**32 - 1)


@pytest.mark.parametrize("length", range(7, 80, 8))
def test_a_file_that_ends_within_its_header_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(save(tmp_path, matrix()).read_bytes()[:length])
    refusal(path, UnreadableFile)


def test_an_unknown_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x09\x00" + bytes(100))
    assert refusal(path, UnreadableFile).value == "9.0"


def test_a_very_wide_array_in_fortran_order_is_refused(tmp_path: Path) -> None:
    array = np.zeros((4, 3, 30_000), "f2", order="F")
    assert "ascontiguousarray" in str(refusal(save(tmp_path, array), InvalidShape).hint)


@pytest.mark.parametrize(
    ("limits", "shape"),
    [
        (FormatLimits(rows=9), (10, 4)),
        (FormatLimits(dim=3), (10, 4)),
        (FormatLimits(layers=2), (10, 3, 4)),
        (FormatLimits(), (4, 1000, 5000)),
    ],
)
def test_an_error_about_a_limit_has_the_value_and_the_limit(
    tmp_path: Path, limits: FormatLimits, shape: tuple[int, ...]
) -> None:
    path = save(tmp_path, np.zeros(shape, "f4"))
    with pytest.raises(TooLarge) as caught, open_path(path, limits):
        pass
    assert int(str(caught.value.value)) > int(str(caught.value.limit))


def test_a_file_that_shrinks_while_it_is_read_is_an_unreadable_file(tmp_path: Path) -> None:
    path = save(tmp_path, np.zeros((5000, 300), "f4"))
    with open_path(path) as file:
        blocks = file.blocks()
        next(blocks)
        with path.open("r+b") as raw:
            raw.truncate(5_000_000)
        with pytest.raises(UnreadableFile, match="too early"):
            list(blocks)


def test_a_file_can_be_read_twice(tmp_path: Path) -> None:
    with open_path(save(tmp_path, matrix())) as file:
        first, second = ([rows.tobytes() for _, rows in file.blocks()] for _ in range(2))
    assert first == second


def test_the_values_equal_those_that_numpy_reads(tmp_path: Path) -> None:
    array = matrix(50, 7, "f8").T.copy().T
    stream = io.BytesIO()
    np.save(stream, array)
    path = tmp_path / "a.npy"
    path.write_bytes(stream.getvalue())
    np.testing.assert_array_equal(read_layers(path)[0][1], np.load(path).astype("f4"))
