import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from consilience.errors import InputError, NonFiniteValues, UnreadableFile
from consilience.formats.map_files import CARD, MapFile, read_map, write_map

FILE = MapFile(
    '{"kind": "ridge"}',
    {"0.weights": np.arange(6, dtype=np.float32).reshape(2, 3), "0.bias": np.zeros(3, np.float32)},
)


def test_a_map_comes_back_as_it_was(tmp_path: Path) -> None:
    write_map(tmp_path / "map.safetensors", FILE)
    found = read_map(tmp_path / "map.safetensors")
    assert found.card == FILE.card
    assert found.digest == FILE.digest
    assert {name: tensor.tolist() for name, tensor in found.tensors.items()} == {
        name: tensor.tolist() for name, tensor in FILE.tensors.items()
    }


def test_the_safetensors_package_reads_it_too(tmp_path: Path) -> None:
    write_map(tmp_path / "map.safetensors", FILE)
    with safe_open(tmp_path / "map.safetensors", "np") as file:
        assert file.metadata() == {CARD: FILE.card}
        assert file.get_tensor("0.weights").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_digest_is_of_names_shapes_and_values() -> None:
    weights, bias = FILE.tensors["0.weights"], FILE.tensors["0.bias"]
    others = [
        {"0.weights": weights.reshape(3, 2), "0.bias": bias},
        {"1.weights": weights, "0.bias": bias},
        {"0.weights": weights + 1, "0.bias": bias},
    ]
    assert len({FILE.digest, *(MapFile("{}", tensors).digest for tensors in others)}) == 4
    assert MapFile("{}", dict(reversed(FILE.tensors.items()))).digest == FILE.digest


def test_a_file_that_cannot_be_finished_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "map.safetensors"
    write_map(path, FILE)
    before = path.read_bytes()
    broken = MapFile("{}", {"0.weights": "no array"})  # type: ignore[dict-item]  # it fails on its way
    with pytest.raises((ValueError, AttributeError)):
        write_map(path, broken)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_map(tmp_path / "nowhere" / "map.safetensors", FILE)


@pytest.mark.parametrize("cut", [0, 7, 40, 300])
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "map.safetensors"
    write_map(path, FILE)
    path.write_bytes(path.read_bytes()[: min(cut, path.stat().st_size - 1)])
    with pytest.raises(UnreadableFile):
        read_map(path)


def write_raw(path: Path, header: dict[str, object], values: bytes) -> Path:
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + values)
    return path


def entry(dtype: str, shape: list[int], size: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}


@pytest.mark.parametrize(
    "header",
    [
        {"x": entry("F32", [2], 8)},
        {"__metadata__": [], "x": entry("F32", [2], 8)},
        {"__metadata__": {CARD: 3}, "x": entry("F32", [2], 8)},
        {"__metadata__": {CARD: "{}"}, "x": entry("F16", [4], 8)},
        {"__metadata__": {CARD: "{}"}, "x": entry("F32", [1, 1, 2], 8)},
        {"__metadata__": {CARD: "{}"}, "x": entry("F32", [3], 8)},
    ],
)
def test_safetensors_that_are_no_map_are_refused(tmp_path: Path, header: dict[str, object]) -> None:
    with pytest.raises(UnreadableFile):
        read_map(write_raw(tmp_path / "x", header, bytes(8)))


def test_nan_among_the_weights_is_refused(tmp_path: Path) -> None:
    values = np.array([1, np.nan], "<f4").tobytes()
    path = write_raw(tmp_path / "x", {"__metadata__": {CARD: "{}"}, "x": entry("F32", [2], 8)}, values)
    with pytest.raises(NonFiniteValues, match="'x'"):
        read_map(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="no such file"):
        read_map(tmp_path / "nothing")
