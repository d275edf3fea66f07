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


def test_a_map_survives_writing_and_reading(tmp_path: Path) -> None:
    write_map(tmp_path / "map.safetensors", FILE)
    found = read_map(tmp_path / "map.safetensors")
    assert found.card == FILE.card
    assert {name: tensor.tolist() for name, tensor in found.tensors.items()} == {
        name: tensor.tolist() for name, tensor in FILE.tensors.items()
    }


def test_the_safetensors_package_reads_a_map_file_too(tmp_path: Path) -> None:
    write_map(tmp_path / "map.safetensors", FILE)
    with safe_open(tmp_path / "map.safetensors", "np") as file:
        assert file.metadata() == {CARD_KEY: FILE.card.model_dump_json(by_alias=True)}
        assert file.get_tensor("0.weights").tolist() == WEIGHTS.tolist()


def test_the_digest_covers_names_shapes_and_values() -> None:
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
def test_tensors_that_do_not_map_one_dimension_to_the_other_are_refused(tensors: dict[str, np.ndarray]) -> None:
    with pytest.raises(UnreadableFile, match="do not map 3 dimensions to 2"):
        MapFile(FILE.card, tensors).check()


def test_values_that_differ_from_the_digest_in_the_card_are_refused(tmp_path: Path) -> None:
    write_map(tmp_path / "x", MapFile(FILE.card, {"0.weights": WEIGHTS + 1, "0.bias": BIAS}))
    with pytest.raises(UnreadableFile, match="differs from the digest in its card"):
        read_map(tmp_path / "x")


@pytest.mark.parametrize("card", ["", "[]", "{}", '{"schema": "consilience.map/1"}'])
def test_an_invalid_card_is_refused(tmp_path: Path, card: str) -> None:
    with pytest.raises(UnreadableFile, match="card of the map is not valid"):
        read_map(write_raw(tmp_path / "x", {"__metadata__": {CARD_KEY: card}, "x": entry("F32", [2], 8)}, bytes(8)))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "map.safetensors"
    write_map(path, FILE)
    before = path.read_bytes()
    broken = MapFile(FILE.card, {"0.weights": WEIGHTS, "1": None})  # type: ignore[dict-item]  # it fails on its way
    with pytest.raises((ValueError, AttributeError)):
        write_map(path, broken)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_reported_with_its_path(tmp_path: Path) -> None:
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
def test_a_safetensors_file_without_a_map_is_refused(tmp_path: Path, header: dict[str, object]) -> None:
    with pytest.raises(UnreadableFile):
        read_map(write_raw(tmp_path / "x", header, bytes(8)))


def test_nan_among_the_weights_is_refused(tmp_path: Path) -> None:
    values = np.array([1, np.nan], "<f4").tobytes()
    card = FILE.card.model_dump_json(by_alias=True)
    path = write_raw(tmp_path / "x", {"__metadata__": {CARD_KEY: card}, "x": entry("F32", [2], 8)}, values)
    with pytest.raises(NonFiniteValues, match="'x'"):
        read_map(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="There is no file"):
        read_map(tmp_path / "nothing")
