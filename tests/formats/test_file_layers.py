import os
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from consilience.errors import NonFiniteValues, UnreadableFile
from consilience.formats.file_layers import FileLayer, find_file_layers
from consilience.formats.files import load_layers, open_path
from consilience.formats.open_file import Array


def save(path: Path, kind: str, array: Array) -> Path:
    if kind == "npy":
        np.save(path, array)
    else:
        save_file({"one": array, "two": np.ascontiguousarray(array[:, ::-1])}, path)
    return path


def find(path: Path) -> tuple[list[FileLayer], list[tuple[str, Array]]]:
    with open_path(path) as file:
        found = find_file_layers(path, file)
        assert found is not None
        return found, load_layers(file)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        *((kind, dtype) for kind in ("npy", "npy-3d", "safetensors") for dtype in (np.float16, np.float32, np.float64)),
        ("npy", ">f4"),
        ("safetensors", ml_dtypes.bfloat16),
    ],
)
def test_rows_read_in_place_equal_those_of_the_loaded_layer(tmp_path: Path, kind: str, dtype: str) -> None:
    shape = (50, 3, 7) if kind == "npy-3d" else (50, 7)
    array = np.random.default_rng(0).normal(size=shape).astype(dtype)
    layers, loaded = find(save(tmp_path / "file.npy", kind.partition("-")[0], array))
    ids = np.array([3, 49, 0, 3])
    for layer, (name, whole) in zip(layers, loaded, strict=True):
        assert (layer.name, layer.n, layer.dim) == (name, *whole.shape)
        np.testing.assert_array_equal(layer.rows(10, 33), whole[10:33])
        np.testing.assert_array_equal(layer.take(ids), whole[ids])
        assert layer.rows(0, 4).dtype == whole.dtype
    assert len({layer.digest for layer in layers}) == len(layers)


def test_files_that_cannot_be_read_in_place_have_no_file_layers(tmp_path: Path) -> None:
    array = np.ones((8, 3), np.float32)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(array))
    np.savez_compressed(tmp_path / "packed.npz", array)
    for name in ("fortran.npy", "packed.npz"):
        with open_path(tmp_path / name) as file:
            assert find_file_layers(tmp_path / name, file) is None


def test_a_non_finite_value_is_found_before_any_row_is_used(tmp_path: Path) -> None:
    array = np.ones((20, 3), np.float16)
    array[17, 1] = np.inf
    path = save(tmp_path / "a.npy", "npy", array)
    with open_path(path) as file, pytest.raises(NonFiniteValues) as caught:
        find_file_layers(path, file)
    assert "row 17, column 1" in str(caught.value.value)


def rewrite(path: Path) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(200)
        file.write(b"other values")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))  # a clock that stands still must not hide it


def replace(path: Path) -> None:
    other = save(path.with_name("other.npy"), "npy", np.zeros((90, 3), np.float32))
    other.replace(path)


@pytest.mark.parametrize("change", [Path.unlink, rewrite, replace, lambda path: os.truncate(path, 150)])
def test_a_file_that_changes_during_reading_is_refused(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = save(tmp_path / "a.npy", "npy", np.ones((50, 3), np.float32))
    (layer,), _ = find(path)
    change(path)
    for read in (lambda: layer.rows(0, 50), lambda: layer.take(np.array([7, 3]))):
        with pytest.raises(UnreadableFile, match="changed while"):
            read()
