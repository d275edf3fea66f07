import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from consilience.errors import InputError, NonFiniteValues, UnreadableFile
from consilience.formats.map_files import CARD_KEY, MapFile, read_map, tensors_digest, write_map
from consilience.maps.api import fit_map

ROWS = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
FILE = fit_map(ROWS, ROWS[:, :2], map="ridge").file()
WEIGHTS, BIAS = FILE.tensors["0.weights"], FILE.tensors["0.bias"]


def test_a_map_comes_back_as_it_was(tmp_path: Path) -> None:
    write_map(tmp_path / "map.safetensors", FILE)
    found = read_map(tmp_path / "map.safetensors")
    assert found.card == FILE.card
    assert {name: tensor.tolist() for name, tensor in found.tensors.items()} == {
        name: tensor.tolist() for name, tensor in FILE.tensors.items()
    }


def test_the_safetensors_package_reads_it_too(tmp_path: Path) -> None:
    write_map(tmp_path / "map.safetensors", FILE)
    with safe_open(tmp_path / "map.safetensors", "np") as file:
        assert file.metadata() == {CARD_KEY: FILE.card.model_dump_json(by_alias=True)}
        assert file.get_tensor("0.weights").tolist() == WEIGHTS.tolist()


def test_the_digest_is_of_names_shapes_and_values() -> None:
    others = [
        {"0.weights": WEIGHTS.reshape(2, 3), "0.bias": BIAS},
        {"1.weights": WEIGHTS, "0.bias": BIAS},
        {"0.weights": WEIGHTS + 1, "0.bias": BIAS},
    ]
    assert len({FILE.card.digest, *map(tensors_digest, others)}) == 4
    assert tensors_digest(dict(reversed(FILE.tensors.items()))) == FILE.card.digest


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"0.weights": WEIGHTS},
        {"0.weights": WEIGHTS, "0.bias": BIAS[:1]},
        {"0.weights": WEIGHTS[:2], "0.bias": BIAS},
        {"0.weights": BIAS, "0.bias": BIAS},
        {"1.weights": WEIGHTS, "1.bias": BIAS},
        {"0.weights": WEIGHTS, "0.bias": BIAS, "1.weights": WEIGHTS[:2], "1.bias": BIAS},
    ],
    ids=range(7),
)
def test_values_that_do_not_lead_from_one_dimension_to_the_other_are_refused(tensors: dict[str, np.ndarray]) -> None:
    with pytest.raises(UnreadableFile, match="do not lead from 3 to 2 dimensions"):
        MapFile(FILE.card, tensors).check()


def test_values_that_the_card_is_not_about_are_refused(tmp_path: Path) -> None:
    write_map(tmp_path / "x", MapFile(FILE.card, {"0.weights": WEIGHTS + 1, "0.bias": BIAS}))
    with pytest.raises(UnreadableFile, match="not those that its card is about"):
        read_map(tmp_path / "x")


@pytest.mark.parametrize("card", ["", "[]", "{}", '{"schema": "consilience.map/1"}'])
def test_a_card_that_is_none_is_refused(tmp_path: Path, card: str) -> None:
    with pytest.raises(UnreadableFile, match="card cannot be read"):
        read_map(write_raw(tmp_path / "x", {"__metadata__": {CARD_KEY: card}, "x": entry("F32", [2], 8)}, bytes(8)))


def test_a_file_that_cannot_be_finished_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "map.safetensors"
    write_map(path, FILE)
    before = path.read_bytes()
    broken = MapFile(FILE.card, {"0.weights": WEIGHTS, "1": None})  # type: ignore[dict-item]  # it fails on its way
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
        {"__metadata__": {CARD_KEY: 3}, "x": entry("F32", [2], 8)},
        {"__metadata__": {CARD_KEY: "{}"}, "x": entry("F16", [4], 8)},
        {"__metadata__": {CARD_KEY: "{}"}, "x": entry("F32", [1, 1, 2], 8)},
        {"__metadata__": {CARD_KEY: "{}"}, "x": entry("F32", [3], 8)},
    ],
)
def test_safetensors_that_are_no_map_are_refused(tmp_path: Path, header: dict[str, object]) -> None:
    with pytest.raises(UnreadableFile):
        read_map(write_raw(tmp_path / "x", header, bytes(8)))


def test_nan_among_the_weights_is_refused(tmp_path: Path) -> None:
    values = np.array([1, np.nan], "<f4").tobytes()
    card = FILE.card.model_dump_json(by_alias=True)
    path = write_raw(tmp_path / "x", {"__metadata__": {CARD_KEY: card}, "x": entry("F32", [2], 8)}, values)
    with pytest.raises(NonFiniteValues, match="'x'"):
        read_map(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="no such file"):
        read_map(tmp_path / "nothing")
