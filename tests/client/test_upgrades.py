"""Requests of the calls for upgrade reports."""

import json
from pathlib import Path

import pytest

from consilience.errors import InvalidRequest
from tests.client.conftest import Call
from tests.client.documents import JOB_ID, SET_ID, embedding_set, job
from tests.client.scripted import Answer, Script, serving

NEW_ID = "emb_" + "1" * 32


def test_an_upgrade_uploads_files_and_names_stored_sets(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "new.npy"
    file.write_bytes(b"x")
    answers = Script(Answer(201, embedding_set(id=NEW_ID)), Answer(202, job(kind="upgrade")))
    with serving(answers) as script:
        call(
            script.url,
            lambda client: client.upgrade(
                SET_ID, file, queries=(SET_ID, NEW_ID), qrels={"q": ["d", 7]}, maps="procrustes"
            ),
        )
    upload, post = script.seen
    assert upload.path.startswith("/v1/embeddings?name=new")
    assert post.path == "/v1/upgrades"
    assert post.headers["idempotency-key"]
    body = json.loads(post.body)
    assert (body["old"], body["new"]) == ({"embedding": SET_ID}, {"embedding": NEW_ID})
    assert body["queries"] == {"old": {"embedding": SET_ID}, "new": {"embedding": NEW_ID}}
    assert body["qrels"] == {"q": ["d", 7]}
    assert [choice["kind"] for choice in body["maps"]] == ["procrustes"]
    assert "k" not in body  # the service fills in defaults


def test_a_report_is_fetched_as_markdown(call: Call) -> None:
    with serving(Script(Answer(200, "# Upgrade report", {"content-type": "text/markdown"}))) as script:
        call(script.url, lambda client: client.upgrade_page(JOB_ID, "markdown"))
    assert script.seen[0].path == f"/v1/upgrades/{JOB_ID}?format=markdown"


def test_an_unknown_kind_of_map_is_refused_before_any_request(call: Call) -> None:
    with serving(Script()) as script, pytest.raises(InvalidRequest, match="spline"):
        call(script.url, lambda client: client.upgrade(SET_ID, NEW_ID, maps="spline"))
    assert script.seen == []
