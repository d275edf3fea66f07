"""`consilience score` without a server."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from consilience.contract.scores import ScoreDocument
from consilience.scoring import score
from tests.cli.conftest import Command
from tests.formats.tables.table_files import vectors, write

Pair = tuple[Path, Path]


def test_two_files_give_a_table(consilience: Command, pair: Pair) -> None:
    ran = consilience("score", *pair)
    assert ran.status == 0
    assert "mutual_knn k=10" in ran.out
    assert "cka" in ran.out
    assert "p-value" in ran.out


def test_json_output_is_the_document_of_the_library(consilience: Command, pair: Pair) -> None:
    ran = consilience("score", *pair, "--json", "--metric", "mutual_knn", "--k", 3, "--k", 5, "--layers", "all")
    document = ScoreDocument.model_validate_json(ran.out)
    assert [(s.metric, s.options) for s in document.scores] == [("mutual_knn", {"k": 3}), ("mutual_knn", {"k": 5})]
    expected = score(*pair, metrics=[{"metric": "mutual_knn", "k": [3, 5]}], layers="all")
    assert [s.value for s in document.scores] == [s.value for s in expected.scores]


def test_options_are_applied_and_recorded_in_the_document(consilience: Command, pair: Pair) -> None:
    ran = consilience(
        *("score", *pair, "--json", "--profile", "prh", "--null", "permutation", "--permutations", 40, "--seed", 9),
        *("--metric", "cka:debiased=false"),
    )
    document = ScoreDocument.model_validate_json(ran.out)
    assert document.preparation.profile == "prh"
    assert (document.scores[0].null.method, document.scores[0].null.permutations) == ("permutation", 40)
    assert document.seed == 9
    assert document.scores[0].options["debiased"] is False


def test_an_estimate_and_a_gallery_curve_are_printed(consilience: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    files = (tmp_path / "a.npy", tmp_path / "b.npy")
    for file in files:
        np.save(file, rng.normal(size=(400, 8)).astype(np.float32))
    ran = consilience("score", *files, "--metric", "mutual_knn", "--estimate", 150, "--gallery-sizes", "100,300,400")
    assert ran.status == 0
    for part in ("400 items, 150 queries", "±", "mutual_knn k=10 by gallery size", "━"):
        assert part in ran.out


def test_parquet_and_arrow_files_have_the_scores_of_npy_files(consilience: Command, pair: Pair, tmp_path: Path) -> None:
    tables = [tmp_path / "a.parquet", tmp_path / "b.arrow"]
    for path, source, kind in zip(tables, pair, ("parquet", "arrow-file"), strict=True):
        path.write_bytes(write(kind, pa.table({"id": range(64), "x": vectors(np.load(source))})))
    ran = consilience("score", *tables, "--json", "--pairing", "id")
    document = ScoreDocument.model_validate_json(ran.out)
    assert [s.value for s in document.scores] == [s.value for s in score(*pair).scores]


def test_out_writes_the_document_and_the_table_is_still_printed(
    consilience: Command, pair: Pair, tmp_path: Path
) -> None:
    out = tmp_path / "new folder" / "scores.json"
    ran = consilience("score", *pair, "--out", out)
    assert "mutual_knn" in ran.out
    assert str(out) in ran.err.replace("\n", "")
    assert json.loads(out.read_text())["schema"] == "consilience.score/1"


def test_a_file_that_cannot_be_written_is_bad_input(consilience: Command, pair: Pair) -> None:
    ran = consilience("score", *pair, "--out", pair[0] / "below-a-file.json")
    assert (ran.status, ran.out) == (2, "")  # before anything is scored


def test_an_undefined_score_is_a_valid_result(consilience: Command, pair: Pair, constant: Path) -> None:
    ran = consilience("score", pair[0], constant, "--metric", "cka")
    assert ran.status == 0
    assert "undefined" in ran.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--metric", "nope"), "no metric 'nope'"),
        (("--metric", "cka:k=3"), "no cka option 'k'"),
        (("--metric", "mutual_knn:k=many"), "many"),
        (("--k", "0"), "--k"),
        (("--k", "64"), "64"),
        (("--profile", "l3"), "--profile"),
        (("--layers", "12"), "12"),
        (("--permutations", "1"), "permutations"),
        (("--null", "exact"), "--null"),
        (("--nonsense",), "--nonsense"),
    ],
)
def test_bad_usage_has_exit_status_2_and_names_the_value(
    consilience: Command, pair: Pair, words: tuple[str, ...], message: str
) -> None:
    ran = consilience("score", *pair, *words)
    assert ran.status == 2
    assert message in ran.err
    assert ran.out == ""


def test_a_missing_file_is_named(consilience: Command, pair: Pair) -> None:
    ran = consilience("score", pair[0], "missing.npy")
    assert (ran.status, "missing.npy" in ran.err) == (2, True)


def test_a_file_that_is_not_an_embedding_set_is_bad_input(consilience: Command, pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("not an array")
    assert consilience("score", pair[0], tmp_path / "text.npy").status == 2


def test_a_folder_and_a_device_file_are_rejected_with_own_messages(
    consilience: Command, pair: Pair, tmp_path: Path
) -> None:
    assert "is a folder" in consilience("score", pair[0], tmp_path).err
    assert "is not a regular file" in consilience("score", pair[0], "/dev/null").err


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_an_error_in_a_file_names_the_file(
    consilience: Command, pair: Pair, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "b" / "empty.npy").parent.mkdir()
    (tmp_path / "b" / "empty.npy").touch()
    ran = consilience("score", pair[0], tmp_path / "b" / "empty.npy", *words)
    assert (ran.status, "b/empty.npy: The file is empty." in ran.err) == (2, True)


@pytest.mark.parametrize("seconds", ["inf", "1e300", "3600"])
def test_a_very_long_time_limit_is_accepted(consilience: Command, pair: Pair, seconds: str) -> None:
    assert consilience("score", *pair, "--metric", "cka", "--timeout", seconds).status == 0


@pytest.mark.parametrize("url", ["nonsense", "ftp://host", "http://", "http://host:99999", ""])
def test_an_invalid_server_url_is_bad_usage(consilience: Command, pair: Pair, url: str) -> None:
    ran = consilience("score", *pair, "--server", url)
    assert (ran.status, "must be an http or https URL" in ran.err) == (2, True)


def test_a_dry_run_with_a_reference_set_is_rejected(consilience: Command, pair: Pair) -> None:
    ran = consilience("score", pair[0], "--reference", "r", "--dry-run", "--server", "http://127.0.0.1:9")
    assert (ran.status, "Leave out --dry-run" in ran.err) == (2, True)


def test_an_id_needs_a_server(consilience: Command, pair: Pair) -> None:
    ran = consilience("score", pair[0], "emb_" + "0" * 32)
    assert (ran.status, "--server" in ran.err) == (2, True)


def test_a_device_can_be_chosen_only_without_a_server(consilience: Command, pair: Pair) -> None:
    document = ScoreDocument.model_validate_json(consilience("score", *pair, "--json", "--device", "cpu").out)
    assert document.scores[0].neighbours is not None
    assert document.scores[0].neighbours.device == "cpu"
    assert "'gpu' is not a device" in consilience("score", *pair, "--device", "gpu").err
    ran = consilience("score", *pair, "--device", "cuda", "--server", "http://127.0.0.1:1")
    assert (ran.status, "the workers of the service choose their device" in ran.err) == (2, True)


def test_an_unreachable_service_has_exit_status_3(consilience: Command, pair: Pair) -> None:
    ran = consilience("score", *pair, "--server", "http://127.0.0.1:1")
    assert (ran.status, "127.0.0.1:1" in ran.err, ran.out) == (3, True, "")


def test_a_dry_run_prints_the_cost_and_computes_no_score(consilience: Command, pair: Pair) -> None:
    ran = consilience("score", *pair, "--dry-run", "--memory-budget", "600MB", "--json")
    found = json.loads(ran.out)
    assert (ran.status, found["n"], found["memory_budget_bytes"], found["streamed"]) == (0, 64, 600_000_000, False)
    assert found["bytes"] > 100_000_000
    assert "rows in memory" in consilience("score", *pair, "--dry-run").out


def test_an_invalid_memory_budget_is_rejected_with_its_value(consilience: Command, pair: Pair) -> None:
    for word in ("much", "-1", "1XB", "1MB"):
        ran = consilience("score", *pair, "--memory-budget", word)
        assert ran.status == 2
        assert word in ran.err or "1000000" in ran.err


def test_a_dry_run_on_a_service_needs_stored_sets(consilience: Command, pair: Pair) -> None:
    ran = consilience("score", *pair, "--dry-run", "--server", "http://127.0.0.1:9")
    assert ran.status == 2
    assert "Upload it first" in ran.err
