"""`consilience extract`: a file here."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command


def test_a_dataset_becomes_a_file_that_can_be_scored(consilience: Command, tmp_path: Path) -> None:
    out = tmp_path / "rows.safetensors"
    made = consilience("extract", "baseline:random?dim=4", "scenes:n=16", "--view", "code", "--out", out, "--json")
    assert made.status == 0, made.err
    assert json.loads(made.out)["model"] == "baseline:random?dim=4"
    assert consilience("score", out, out, "--k", "3").status == 0


def test_without_a_place_for_the_set_nothing_is_made(consilience: Command) -> None:
    refused = consilience("extract", "baseline:random", "scenes:n=16", "--view", "code")
    assert refused.status == 2
    assert "--out FILE" in refused.err


def test_what_cannot_be_is_said(consilience: Command, tmp_path: Path) -> None:
    for words in (["nothing", "scenes", "--view", "code"], ["baseline:pixels", "scenes:n=8", "--view", "code"]):
        assert consilience("extract", *words, "--out", tmp_path / "x.safetensors").status == 2
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(
    "words", [("--out", "x.safetensors"), ("--ids-out", "x.json"), ("--device", "cpu"), ("--models", ".")]
)
def test_what_is_for_work_here_is_not_silently_ignored_by_a_service(
    consilience: Command, words: tuple[str, ...]
) -> None:
    asked = ("extract", "baseline:random", "scenes:n=16", "--view", "code", "--server", "http://127.0.0.1:9")
    ran = consilience(*asked, *words)
    assert (ran.status, f"Leave out {words[0]}, or --server." in ran.err) == (2, True)


def test_folders_on_the_way_to_both_files_are_made(consilience: Command, tmp_path: Path) -> None:
    out, ids = tmp_path / "sets" / "rows.safetensors", tmp_path / "ids" / "rows.json"
    words = ("extract", "baseline:random", "scenes:n=16", "--view", "code", "--out", out, "--ids-out", ids)
    assert consilience(*words).status == 0
    assert (out.is_file(), len(json.loads(ids.read_text()))) == (True, 16)
