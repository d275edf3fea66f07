"""`consilience extract`: a file here."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command


def test_an_extracted_file_can_be_scored(consilience: Command, tmp_path: Path) -> None:
    out = tmp_path / "rows.safetensors"
    made = consilience("extract", "baseline:random?dim=4", "scenes:n=16", "--view", "code", "--out", out, "--json")
    assert made.status == 0, made.err
    assert json.loads(made.out)["model"] == "baseline:random?dim=4"
    assert consilience("score", out, out, "--k", "3").status == 0


def test_a_missing_output_file_is_rejected(consilience: Command) -> None:
    rejected = consilience("extract", "baseline:random", "scenes:n=16", "--view", "code")
    assert rejected.status == 2
    assert "--out FILE" in rejected.err


def test_an_unknown_model_or_view_is_bad_input(consilience: Command, tmp_path: Path) -> None:
    for words in (["nothing", "scenes", "--view", "code"], ["baseline:pixels", "scenes:n=8", "--view", "code"]):
        assert consilience("extract", *words, "--out", tmp_path / "x.safetensors").status == 2
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(
    "words", [("--out", "x.safetensors"), ("--ids-out", "x.json"), ("--device", "cpu"), ("--models", ".")]
)
def test_local_options_are_rejected_with_a_server(consilience: Command, words: tuple[str, ...]) -> None:
    command = ("extract", "baseline:random", "scenes:n=16", "--view", "code", "--server", "http://127.0.0.1:9")
    ran = consilience(*command, *words)
    assert (ran.status, f"Leave out {words[0]} or --server." in ran.err) == (2, True)


def test_missing_folders_of_both_files_are_created(consilience: Command, tmp_path: Path) -> None:
    out, ids = tmp_path / "sets" / "rows.safetensors", tmp_path / "ids" / "rows.json"
    words = ("extract", "baseline:random", "scenes:n=16", "--view", "code", "--out", out, "--ids-out", ids)
    assert consilience(*words).status == 0
    assert (out.is_file(), len(json.loads(ids.read_text()))) == (True, 16)
