"""Requests and results of the calls."""

import email
import email.policy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from consilience.client.operations import result_of
from consilience.contract.alignments import ScoringOptions
from consilience.contract.jobs import Job, JobStatus
from consilience.contract.metrics import Cka, MutualKnn
from consilience.contract.scores import ScoreDocument
from consilience.errors import InvalidRequest, JobCanceled, JobTimedOut, NotFound, WaitTimedOut
from tests.client.conftest import Call
from tests.client.documents import JOB_ID, SET_ID, embedding_set, job, problem
from tests.client.scripted import Answer, Script, Seen, serving


def test_a_file_is_sent_byte_for_byte_with_its_name(call: Call, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(3_000_000)
    file = tmp_path / "my vectors.npy"
    file.write_bytes(content)
    with serving(Script(Answer(201, embedding_set()))) as script:
        call(script.url, lambda client: client.upload(file, metadata={"run": "é"}))
    (seen,) = script.seen
    assert seen.body == content
    assert seen.headers["content-type"] == "application/x-npy"
    query = parse_qs(urlsplit(seen.path).query)
    assert query["name"] == ["my vectors"]
    assert json.loads(query["metadata"][0]) == {"run": "é"}


@pytest.mark.parametrize("shape", [(5, 3), (5, 2, 3), (600_000, 1)])
def test_an_array_is_sent_as_npy(call: Call, shape: tuple[int, ...]) -> None:
    array = np.asfortranarray(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
    with serving(Script(Answer(201, embedding_set()))) as script:
        call(script.url, lambda client: client.upload(array, name="mine"))
    np.testing.assert_array_equal(np.load(io.BytesIO(script.seen[0].body)), array)


def test_a_broken_upload_starts_again_from_the_first_byte(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    file.write_bytes(b"0123456789" * 200_000)
    with serving(Script(Answer(break_off=True), Answer(201, embedding_set()))) as script:
        call(script.url, lambda client: client.upload(file))
    assert [seen.body for seen in script.seen] == [file.read_bytes()] * 2


def test_align_uploads_files_and_names_stored_sets(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "b.safetensors"
    file.write_bytes(b"x")
    answers = Script(Answer(201, embedding_set(id="emb_" + "1" * 32)), Answer(202, job()))
    with serving(answers) as script:
        call(script.url, lambda client: client.align(SET_ID, file, metrics=["cka"], seed=7))
    upload, post = script.seen
    assert upload.headers["content-type"] == "application/x-safetensors"
    body = json.loads(post.body)
    assert body["a"]["embedding"] == SET_ID
    assert body["b"]["embedding"] == "emb_" + "1" * 32
    assert [metric["metric"] for metric in body["metrics"]] == ["cka"]
    assert body["seed"] == 7
    assert "preparation" not in body, "the service fills in defaults"


def test_a_repeated_post_has_the_same_idempotency_key(call: Call) -> None:
    with serving(Script(Answer(break_off=True), Answer(202, job()))) as script:
        call(script.url, lambda client: client.align(SET_ID, SET_ID))
    first, second = (seen.headers["idempotency-key"] for seen in script.seen)
    assert first == second


def test_the_request_contains_the_webhook(call: Call) -> None:
    with serving(Script(Answer(202, job()))) as script:
        call(script.url, lambda client: client.align(SET_ID, SET_ID, webhook="https://example.com/hook"))
    assert json.loads(script.seen[0].body)["webhook"] == {"url": "https://example.com/hook"}


def test_fields_replace_those_of_the_options(call: Call) -> None:
    options = ScoringOptions(metrics=(MutualKnn(k=(3,)), Cka(debiased=False)), seed=1)
    with serving(Script(Answer(202, job()))) as script:
        call(script.url, lambda client: client.align(SET_ID, SET_ID, options, seed=2))
    body = json.loads(script.seen[0].body)
    assert body["seed"] == 2
    assert body["metrics"][0] == {"metric": "mutual_knn", "k": [3]}
    assert body["metrics"][1]["debiased"] is False


def test_an_unknown_option_is_refused_before_any_request(call: Call) -> None:
    with serving(Script(Answer())) as script, pytest.raises(InvalidRequest, match="/metric"):
        call(script.url, lambda client: client.align(SET_ID, SET_ID, metric="cka"))
    assert script.seen == []


def test_a_plan_is_a_dry_run(call: Call) -> None:
    with serving(Script(Answer(200, job()["plan"]))) as script:
        assert call(script.url, lambda client: client.plan(SET_ID, SET_ID)).cells == 1
    assert script.seen[0].path == "/v1/alignments?dry_run=true"


def test_requests_for_pages_contain_only_given_parameters(call: Call) -> None:
    page = {"data": [], "has_more": False, "next_cursor": None}
    with serving(Script(Answer(200, page))) as script:
        call(script.url, lambda client: client.jobs(status=JobStatus.FAILED, limit=5))
        call(script.url, lambda client: client.embeddings(name="docs", cursor="c"))
    assert [seen.path for seen in script.seen] == [
        "/v1/jobs?status=failed&limit=5",
        "/v1/embeddings?name=docs&cursor=c&limit=50",
    ]


def test_delete_returns_nothing(call: Call) -> None:
    with serving(Script(Answer(204))) as script:
        assert call(script.url, lambda client: client.delete(SET_ID)) is None
    assert script.seen[0].method == "DELETE"


def test_waiting_requests_the_job_only_if_it_changed(call: Call) -> None:
    progress = {"stage": "neighbours", "done": 1, "total": 2}
    answers = Script(
        Answer(body=job("queued"), headers={"etag": '"1"'}),
        Answer(304, "", {"etag": '"1"'}),
        Answer(304, "", {"etag": '"1"'}),
        Answer(body=job("running", progress=progress), headers={"etag": '"2"'}),
        Answer(body=job("canceled"), headers={"etag": '"3"'}),
    )
    told: list[str] = []
    with serving(answers) as script:
        ended = call(script.url, lambda client: client.wait(JOB_ID, watch=lambda seen: told.append(seen.status)))
    assert ended.status == "canceled"
    assert told == ["queued", "running", "canceled"]
    assert [seen.headers.get("if-none-match") for seen in script.seen] == [None, '"1"', '"1"', '"1"', '"2"']


def test_waiting_ends_at_its_timeout_while_the_job_continues(call: Call) -> None:
    with (
        serving(Script(Answer(body=job("running")))) as script,
        pytest.raises(WaitTimedOut, match="The job continues") as raised,
    ):
        call(script.url, lambda client: client.wait(JOB_ID, timeout_s=0.1))
    assert raised.value.value == JOB_ID
    assert 2 <= len(script.seen) <= 6, "polls become less frequent"


def test_a_failed_job_raises_its_error_by_the_code() -> None:
    failed = Job.model_validate(job("failed", error=problem("job-timed-out", 500, limit=3600)))
    with pytest.raises(JobTimedOut) as raised:
        result_of(failed, ScoreDocument)
    assert raised.value.limit == 3600


def test_a_canceled_job_has_no_result() -> None:
    with pytest.raises(JobCanceled, match="canceled"):
        result_of(Job.model_validate(job("canceled")), ScoreDocument)


@pytest.mark.parametrize("labels", [["a", 2, "ü"], ("a", 2, "ü"), np.array(["a", 2, "ü"], dtype=object)])
def test_ids_and_groups_are_sent_in_a_form_with_the_file(call: Call, tmp_path: Path, labels: Any) -> None:
    content = np.random.default_rng(0).bytes(2_500_000)
    file = tmp_path / "a.npy"
    file.write_bytes(content)
    with serving(Script(Answer(break_off=True), Answer(201, embedding_set()))) as script:
        call(script.url, lambda client: client.upload(file, name="x", ids=labels, groups=range(3)))
    first, seen = script.seen
    assert first.body == seen.body
    parts = parse_form(seen)
    assert json.loads(parts["ids"]) == ["a", 2, "ü"]
    assert json.loads(parts["groups"]) == [0, 1, 2]
    assert parts["file"] == content
    assert parse_qs(urlsplit(seen.path).query)["name"] == ["x"]


def parse_form(seen: Seen) -> dict[str, bytes]:
    head = f"Content-Type: {seen.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + seen.body, policy=email.policy.HTTP)
    return {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in message.iter_parts()
    }


@pytest.mark.parametrize("labels", ["abc", [b"x"], 7, [{1}]])
def test_ids_that_json_cannot_hold_are_refused_before_any_request(call: Call, labels: Any) -> None:
    with serving(Script(Answer())) as script, pytest.raises(InvalidRequest) as caught:
        call(script.url, lambda client: client.upload(np.ones((3, 2), np.float32), ids=labels))
    assert (caught.value.pointer, script.seen) == ("/ids", [])


@pytest.mark.parametrize(
    ("action", "path"),
    [
        (lambda client: client.cancel("../../v1/x?y"), "/v1/jobs/..%2F..%2Fv1%2Fx%3Fy/cancel"),
        (lambda client: client.delete_map("../jobs"), "/v1/maps/..%2Fjobs"),
        (lambda client: client.map_file("a/b"), "/v1/maps/a%2Fb/file"),
        (lambda client: client.translate("a/b", [[1.0]]), "/v1/maps/a%2Fb/apply"),
        (lambda client: client.delete_reference("../jobs"), "/v1/references/..%2Fjobs"),
    ],
)
def test_an_id_is_always_one_step_of_the_path(call: Call, action: Callable[[Any], Any], path: str) -> None:
    with serving(Script(Answer(404, problem("not-found", 404)))) as script, pytest.raises(NotFound):
        call(script.url, action)
    assert script.seen[0].path == path
