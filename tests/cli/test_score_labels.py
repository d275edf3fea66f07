"""`consilience score` with files of ids and groups."""

import json
from pathlib import Path

import numpy as np
import pytest

from consilience.contract.scores import ScoreDocument
from tests.cli.conftest import Command

Pair = tuple[Path, Path]


@pytest.fixture
def names(tmp_path: Path) -> Path:
    """64 ids as JSON."""
    path = tmp_path / "names.json"
    path.write_text(json.dumps([f"item {i}" for i in range(64)]))
    return path


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """The same ids, one per line."""
    path = tmp_path / "names.txt"
    path.write_text("".join(f"item {i}\n" for i in range(64)))
    return path


def test_two_files_are_paired_by_id(consilience: Command, pair: Pair, names: Path, lines: Path) -> None:
    ran = consilience("score", *pair, "--pairing", "id", "--ids-a", names, "--ids-b", lines, "--json")
    assert (ran.status, ran.err) == (0, "")
    assert ScoreDocument.model_validate_json(ran.out).n == 64


def test_check_reads_ids_too(consilience: Command, pair: Pair, names: Path, lines: Path) -> None:
    words = ("--pairing", "id", "--ids-a", names, "--ids-b", lines, "--min", "mutual_knn=0.2")
    assert consilience("check", *pair, *words).status == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "`ids_b` has 2 entries, but there are 64 rows"),
        ("[1, 2.5]", "Entry 1 of `ids_b`"),
        ("[1, ", "`ids_b` is not valid JSON"),
        ("one\n\ntwo", "Entry 1 of `ids_b`"),
    ],
)
def test_an_invalid_file_of_ids_is_bad_input(
    consilience: Command, pair: Pair, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "bad").write_text(content)
    ran = consilience("score", *pair, "--pairing", "id", "--ids-b", tmp_path / "bad")
    assert (ran.status, ran.out) == (2, "")
    assert message in " ".join(ran.err.split())


def test_a_missing_file_of_groups_is_bad_usage(consilience: Command, pair: Pair) -> None:
    ran = consilience("score", *pair, "--groups-b", "missing.json")
    assert (ran.status, "missing.json" in ran.err) == (2, True)


def test_json_files_contain_their_own_ids(consilience: Command, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((16, 3))
    for name in ("a", "b"):
        document = {"vectors": rows.tolist(), "ids": list(range(16))}
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    ran = consilience("score", tmp_path / "a.json", tmp_path / "b.json", "--pairing", "id")
    assert ran.status == 0, ran.err
