"""The command with a running service."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from consilience.client.sync import Client
from consilience.contract.jobs import Job, JobPage, JobStatus
from consilience.contract.scores import ScoreDocument
from tests.cli.conftest import Command


def test_score_with_a_server_is_computed_by_the_service(on_service: Command, docs: Path, code: Path) -> None:
    ran = on_service("score", docs, code, "--metric", "mutual_knn", "--json")
    assert ran.status == 0
    document = ScoreDocument.model_validate_json(ran.out)
    assert document.scores[0].value == pytest.approx(0.20918, abs=5e-4)
    assert document.a.id is not None


def test_stored_sets_are_scored_by_their_ids(on_service: Command, docs: Path, code: Path) -> None:
    stored = on_service("upload", docs, code)
    ids = re.findall(r"emb_[0-9a-f]{32}", stored.out)
    assert (stored.status, len(ids)) == (0, 2)
    assert "0.2092" in on_service("score", *ids).out


def test_upload_prints_one_document_per_line(on_service: Command, docs: Path, code: Path) -> None:
    ran = on_service("upload", docs, code, "--json", "--name", "pair")
    assert [json.loads(line)["name"] for line in ran.out.splitlines()] == ["pair", "pair"]


def test_the_rejected_one_of_several_files_is_named(on_service: Command, docs: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.npy").write_bytes(docs.read_bytes()[:500])
    for words in (("upload", docs, tmp_path / "broken.npy"), ("score", docs, tmp_path / "broken.npy")):
        ran = on_service(*words)
        assert (ran.status, f"error: File {tmp_path / 'broken.npy'}: " in ran.err) == (2, True)


def test_check_passes_and_fails_by_its_thresholds(on_service: Command, docs: Path, code: Path) -> None:
    assert on_service("check", docs, code, "--min", "mutual_knn=0.2").status == 0
    assert on_service("check", docs, code, "--min", "mutual_knn=0.22").status == 1


def test_a_request_that_the_service_rejects_is_bad_input(on_service: Command, docs: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "short.npy", np.zeros((8, 4), np.float32))
    assert on_service("score", docs, tmp_path / "short.npy").status == 2
    assert on_service("score", docs, "emb_" + "0" * 32).status == 2


def test_a_timeout_has_exit_status_5_and_the_job_can_be_watched(on_service: Command, client: Client) -> None:
    slow = client.upload(np.random.default_rng(1).standard_normal((60_000, 64)).astype(np.float16), name="slow").id
    ran = on_service("score", slow, slow, "--metric", "mutual_knn", "--timeout", 0.3)
    assert ran.status == 5
    (job_id,) = re.findall(r"job_[0-9a-f]{32}", ran.err)[:1]
    assert on_service("jobs", "watch", job_id, "--timeout", 0.1).status == 5
    assert on_service("jobs", "cancel", job_id).status == 0
    watched = on_service("jobs", "watch", job_id, "--json")
    assert watched.status == 4
    assert Job.model_validate_json(watched.out).status == JobStatus.CANCELED


def test_jobs_are_listed_and_shown_with_their_scores(on_service: Command, client: Client, docs: Path) -> None:
    alignment = client.align(docs, docs, metrics=["mutual_knn"])
    alignment.wait(timeout_s=20)
    assert alignment.id in on_service("jobs", "list", "--status", "succeeded").out
    page = JobPage.model_validate_json(on_service("jobs", "list", "--json", "--limit", 1).out)
    assert page.data[0].id == alignment.id
    assert "1.0000" in on_service("jobs", "show", alignment.id).out
    assert on_service("jobs", "watch", alignment.id).status == 0


def test_an_unknown_job_is_bad_input(on_service: Command) -> None:
    assert on_service("jobs", "show", "job_" + "0" * 32).status == 2


def test_upload_and_score_send_ids_and_groups(on_service: Command, client: Client, tmp_path: Path) -> None:
    rows = np.random.default_rng(2).standard_normal((32, 4)).astype(np.float32)
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", rows)
    (tmp_path / "ids.txt").write_text("".join(f"{i}\n" for i in range(32)))
    (tmp_path / "groups.json").write_text(json.dumps([i // 2 for i in range(32)]))
    a, b, ids, groups = (tmp_path / name for name in ("a.npy", "b.npy", "ids.txt", "groups.json"))

    ran = on_service("upload", a, "--ids", ids, "--groups", groups, "--json")
    stored = client.embedding(json.loads(ran.out)["id"])
    assert stored.ids is not None
    assert stored.groups is not None
    assert (stored.ids.unique, stored.groups.unique) == (32, 16)

    words = ("--pairing", "id", "--ids-b", ids, "--metric", "cka", "--json")
    scored = on_service("score", stored.id, b, *words)
    assert scored.status == 0, scored.err
    assert ScoreDocument.model_validate_json(scored.out).scores[0].value == pytest.approx(1.0)
    rejected = on_service("score", stored.id, b, "--ids-a", ids, *words)
    assert (rejected.status, "its ids, groups and model cannot be changed" in " ".join(rejected.err.split())) == (
        2,
        True,
    )
    assert on_service("score", a, b, *words).status == 2
