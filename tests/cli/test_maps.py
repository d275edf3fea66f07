"""`consilience map` without a server."""

from pathlib import Path

import numpy as np
import pytest

from consilience.contract.maps import MapDocument
from consilience.maps.api import fit_map, load_map
from tests.cli.conftest import Command

Pair = tuple[Path, Path]


@pytest.fixture
def map_file(consilience: Command, pair: Pair, tmp_path: Path) -> Path:
    ran = consilience(
        "map", "fit", *pair, "--out", tmp_path / "map.safetensors", "--model-a", "old", "--model-b", "new"
    )
    assert ran.status == 0
    return tmp_path / "map.safetensors"


def test_a_map_of_two_files_is_written_and_summarised_as_a_table(
    consilience: Command, pair: Pair, tmp_path: Path
) -> None:
    ran = consilience("map", "fit", *pair, "--out", tmp_path / "map.safetensors", "--kind", "procrustes")
    assert ran.status == 0
    for part in ("procrustes map, a (8) to b (8)", "51 training rows, 13 held-out rows", "recall@1, a to b", "chance"):
        assert part in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    assert load_map(tmp_path / "map.safetensors").card.digest == fit_map(*pair, map="procrustes").card.digest


def test_json_output_is_the_model_card_only(consilience: Command, pair: Pair, map_file: Path, tmp_path: Path) -> None:
    words = ("--kind", "low_rank:rank=3,penalty=0.01", "--seed", 4, "--test-share", 0.3, "--json")
    ran = consilience("map", "fit", *pair, "--out", tmp_path / "other.safetensors", *words)
    card = MapDocument.model_validate_json(ran.out)
    assert card.map.model_dump() == {"kind": "low_rank", "rank": 3, "penalty": 0.01}
    assert (card.seed, card.n_test) == (4, 20)
    assert (
        MapDocument.model_validate_json(consilience("map", "report", map_file, "--json").out) == load_map(map_file).card
    )


def test_the_report_of_a_map_file_is_that_of_its_fit(consilience: Command, map_file: Path) -> None:
    assert "ridge map, old (8) to new (8)" in consilience("map", "report", map_file).out


def test_translated_vectors_are_those_of_the_library(
    consilience: Command, pair: Pair, map_file: Path, tmp_path: Path
) -> None:
    ran = consilience("map", "apply", map_file, pair[0], "--out", tmp_path / "new.npy")
    assert ran.status == 0
    assert "64 vectors of 8 dimensions" in ran.err
    assert np.array_equal(np.load(tmp_path / "new.npy"), load_map(map_file).apply(np.load(pair[0])))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--kind", "rigde"), "no map 'rigde'"),
        (("--kind", "ridge:rank=3"), "no ridge option 'rank'"),
        (("--kind", "ridge:penalty=-1"), "--kind (penalty)"),
        (("--kind", "low_rank:rank=9"), "Rank 9 is too large for a map"),
        (("--layer-a", "7"), "no layer '7'"),
        (("--test-share", "0.9"), "--test-share"),
    ],
)
def test_invalid_map_options_are_rejected_and_nothing_is_written(
    consilience: Command, pair: Pair, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    ran = consilience("map", "fit", *pair, "--out", tmp_path / "map.safetensors", *words)
    assert ran.status == 2
    assert message in ran.err
    assert not (tmp_path / "map.safetensors").exists()


def test_unsuitable_vectors_are_rejected_and_nothing_is_written(
    consilience: Command, pair: Pair, map_file: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "narrow.npy", np.ones((9, 5), np.float32))
    np.save(tmp_path / "spoilt.npy", np.full((9, 8), np.nan, np.float32))
    out = tmp_path / "out.npy"
    for source, words, message in (
        (tmp_path / "narrow.npy", (), "the map takes (n, 8)"),
        (tmp_path / "spoilt.npy", (), "NaN"),
        (pair[1], (), "the rows that the map leads to"),
        (pair[0], ("--model", "new"), "takes vectors of the model old"),
        (pair[0], ("--layer", "9"), "The set has no layer '9'. Its layers are 0; `last` is allowed too."),
    ):
        ran = consilience("map", "apply", map_file, source, "--out", out, *words)
        assert ran.status == 2
        assert message in ran.err
        assert not out.exists()


def test_a_file_that_is_not_a_map_is_rejected(consilience: Command, pair: Pair) -> None:
    ran = consilience("map", "report", pair[0])
    assert ran.status == 2
    assert "error:" in ran.err


def test_an_id_needs_a_server(consilience: Command, pair: Pair, map_file: Path, tmp_path: Path) -> None:
    out, stored = ("--out", tmp_path / "out"), "emb_" + "0" * 32
    for words in (
        ("fit", stored, pair[1], *out),
        ("apply", map_file, stored, *out),
        ("apply", "map_" + "0" * 32, pair[0], *out),
        ("report", "map_" + "0" * 32),
    ):
        ran = consilience("map", *words)
        assert (ran.status, "Name its service with --server URL" in ran.err) == (2, True)


def test_the_report_of_a_map_file_rejects_a_server(consilience: Command, map_file: Path) -> None:
    ran = consilience("map", "report", map_file, "--server", "http://127.0.0.1:9")
    assert (ran.status, "Leave out --server" in ran.err) == (2, True)


def test_missing_folders_of_the_output_file_are_created(consilience: Command, pair: Pair, tmp_path: Path) -> None:
    found, new = tmp_path / "maps" / "old" / "map.safetensors", tmp_path / "vectors" / "new.npy"
    assert consilience("map", "fit", *pair, "--out", found).status == 0
    assert consilience("map", "apply", found, pair[0], "--out", new).status == 0
    assert (found.is_file(), new.is_file()) == (True, True)
