"""Safetensors files, read without memory-mapping and at least as strictly as by the safetensors package."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from consilience.errors import (
    ConsilienceError,
    InvalidShape,
    NonFiniteValues,
    TooFewRows,
    TooLarge,
    UnreadableFile,
    UnsupportedDtype,
    UnsupportedFormat,
)
from consilience.formats.files import FormatLimits, open_file, open_path, read_layers
from consilience.formats.open_file import Array

MEDIA_TYPE = "application/x-safetensors"


def refusal(path: Path, kind: type[ConsilienceError]) -> ConsilienceError:
    with pytest.raises(kind) as caught, open_file(path, MEDIA_TYPE, FormatLimits()) as file:
        for _ in file.blocks():
            pass
    return caught.value


def write(tmp_path: Path, header: object, values: bytes = b"") -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + values)
    return path


def entry(begin: int = 0, end: int = 32, shape: tuple[int, ...] = (4, 2), dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_each_tensor_is_a_layer_of_its_name_in_natural_order_and_in_its_own_dtype(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Array] = {
        "layer.10": rng.standard_normal((3000, 700)).astype("f4"),
        "layer.2": rng.standard_normal((3000, 5)).astype(ml_dtypes.bfloat16),
        "embed": rng.standard_normal((3000, 1)).astype("f2"),
        "layer.1": rng.standard_normal((3000, 2)),
    }
    path = tmp_path / "a.safetensors"
    save_file(arrays, path, metadata={"model": "m"})
    with open_path(path) as file:
        assert [(layer.name, layer.dtype) for layer in file.layers] == [
            ("embed", "F16"),
            ("layer.1", "F32"),
            ("layer.2", "BF16"),
            ("layer.10", "F32"),
        ]
    for name, values in read_layers(path):
        assert values.tobytes() == (arrays[name].astype("f4") if name == "layer.1" else arrays[name]).tobytes()


def test_a_single_3d_tensor_is_a_stack_of_layers(tmp_path: Path) -> None:
    array = np.random.default_rng(0).standard_normal((50, 3, 8)).astype(ml_dtypes.bfloat16)
    save_file({"hidden": array}, tmp_path / "a")
    layers = read_layers(tmp_path / "a")
    assert [name for name, _ in layers] == ["0", "1", "2"]
    assert all(values.tobytes() == array[:, i].tobytes() for i, (_, values) in enumerate(layers))


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.zeros((9, 2), "i4"), UnsupportedDtype),
        (np.zeros((9, 2), ml_dtypes.float8_e4m3fn), UnsupportedDtype),
        (np.zeros(9, "f4"), InvalidShape),
        (np.zeros((9, 0), "f4"), InvalidShape),
        (np.zeros((3, 2), "f4"), TooFewRows),
        (np.full((9, 2), np.inf, ml_dtypes.bfloat16), NonFiniteValues),
        (np.full((9, 2), -1e39), NonFiniteValues),
    ],
)
def test_the_error_names_an_unusable_tensor(tmp_path: Path, array: Array, kind: type[ConsilienceError]) -> None:
    save_file({"culprit": array}, tmp_path / "a.safetensors")
    error = refusal(tmp_path / "a.safetensors", kind)
    assert "culprit" in f"{error.detail} {error.value}"


@pytest.mark.parametrize(
    ("header", "values"),
    [
        (b"", b""),
        (b"{", b""),
        (b"[]", b""),
        (b"\xff\xfe", b""),
        (b"[" * 100_000, b""),
        ({"a": None}, b""),
        ({"a": entry(0, 64)}, bytes(64)),
        ({"a": entry(0, 31)}, bytes(31)),
        ({"a": entry(8, 40)}, bytes(40)),
        ({"a": entry()}, bytes(31)),
        ({"a": entry()}, bytes(33)),
        ({"a": entry(), "b": entry()}, bytes(32)),
        ({"a": entry(), "b": entry(33, 65)}, bytes(65)),
        ({"a": entry(), "b": entry(16, 48)}, bytes(48)),
        ({"a": entry(0, 32, (2**62, 4))}, bytes(32)),
        ({"a": entry(0, 32, (4, 10**300))}, bytes(32)),
        ({"a": entry(0, 32, (10**2000, 10**3000))}, bytes(32)),
        ({"a": entry(0, 32, (4, 2, -1))}, bytes(32)),
        ({"a": {**entry(), "shape": [4.0, 2.0]}}, bytes(32)),
        ({"a": {**entry(), "data_offsets": [0, 16, 32]}}, bytes(32)),
        ({"a": {"dtype": "F32", "shape": [4, 2]}}, bytes(32)),
    ],
)
def test_every_file_that_the_package_refuses_is_an_unreadable_file(
    tmp_path: Path, header: object, values: bytes
) -> None:
    path = write(tmp_path, header, values)
    refusal(path, UnreadableFile)
    with pytest.raises(SafetensorError), safe_open(path, "numpy"):
        pass


def test_a_duplicate_name_is_refused_although_the_package_accepts_it(tmp_path: Path) -> None:
    text = json.dumps(entry())
    path = write(tmp_path, f'{{"a": {text}, "a": {text}}}'.encode(), bytes(32))
    assert refusal(path, UnreadableFile).value == "'a'"


@pytest.mark.parametrize("length", [2**60, 2**64 - 1, 1000])
def test_a_header_that_is_longer_than_the_file_is_refused_with_both_sizes(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b'{"a":1}')
    assert refusal(path, UnreadableFile).value == f"{length + 8} bytes expected, 15 found"


def test_a_header_over_a_megabyte_is_refused(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, b"{" + b" " * 2**20 + b"}"), TooLarge).limit == 2**20


@pytest.mark.parametrize("size", range(9))
def test_a_file_shorter_than_any_header_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(bytes(size))
    refusal(path, UnreadableFile)


def test_a_file_without_a_tensor_is_refused(tmp_path: Path) -> None:
    refusal(write(tmp_path, {"__metadata__": {"a": "b"}}), UnsupportedFormat)


@pytest.mark.parametrize("name", ["", "a\tb", "x" * 129, "9" * 5000, "\ud800"])
def test_a_name_that_cannot_be_printed_is_refused(tmp_path: Path, name: str) -> None:
    assert refusal(write(tmp_path, {name: entry()}, bytes(32)), UnsupportedFormat).limit == 128


def test_more_layers_than_the_limit_are_refused(tmp_path: Path) -> None:
    header = {f"layer{i}": entry(32 * i, 32 * i + 32) for i in range(1025)}
    assert refusal(write(tmp_path, header, bytes(32 * 1025)), TooLarge).limit == 1024


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'}", b"PK\x03\x04" * 9])
def test_a_file_of_another_format_is_not_reported_as_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    assert refusal(path, UnreadableFile).detail.startswith("The file is not a safetensors file: ")
