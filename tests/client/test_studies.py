"""Requests of the calls for studies."""

import json
from pathlib import Path

import pytest

from consilience.errors import InvalidRequest
from tests.client.conftest import Call
from tests.client.documents import JOB_ID, SET_ID, embedding_set, job
from tests.client.scripted import Answer, Script, serving


def test_a_study_uploads_files_under_their_labels(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "b.npy"
    file.write_bytes(b"x")
    answers = Script(Answer(201, embedding_set(id="emb_" + "1" * 32)), Answer(202, job(kind="study")))
    with serving(answers) as script:
        call(
            script.url,
            lambda client: client.study(
                {"old": SET_ID, "new": file}, metadata={"new": {"params": 7}}, metrics="cka", trends=[{"by": "params"}]
            ),
        )
    upload, post = script.seen
    assert upload.path.startswith("/v1/embeddings?name=new")
    body = json.loads(post.body)
    assert post.path == "/v1/studies"
    assert post.headers["idempotency-key"]
    assert body["rows"] == [
        {"embedding": SET_ID, "label": "old", "metadata": {}},
        {"embedding": "emb_" + "1" * 32, "label": "new", "metadata": {"params": 7}},
    ]
    assert "columns" not in body
    assert (body["metrics"][0]["metric"], body["trends"][0]["by"]) == ("cka", "params")
    assert "layers" not in body  # the service fills in defaults


def test_models_are_added_to_their_study(call: Call) -> None:
    with serving(Script(Answer(202, job(kind="study")))) as script:
        call(script.url, lambda client: client.extend_study(JOB_ID, {"third": SET_ID}))
    (post,) = script.seen
    assert post.path == f"/v1/studies/{JOB_ID}/models"
    assert json.loads(post.body) == {"rows": [{"embedding": SET_ID, "label": "third", "metadata": {}}]}


def test_an_option_of_alignments_only_is_refused_for_a_study(call: Call) -> None:
    with serving(Script()) as script, pytest.raises(InvalidRequest, match="gallery"):
        call(script.url, lambda client: client.study({"a": SET_ID, "b": SET_ID}, gallery_sizes="auto"))
    assert script.seen == []
