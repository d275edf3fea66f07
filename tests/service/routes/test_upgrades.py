"""Upgrade reports over HTTP, as JSON, Markdown and HTML."""

from typing import Any

import httpx2
import numpy as np
import pytest

from consilience.contract.upgrades import UpgradeReport
from consilience.upgrades.api import upgrade_report
from tests.service.servers import assert_problem, upload

N, DIM = 60, 6
OLD = np.random.default_rng(0).normal(size=(N, DIM)).astype(np.float32)
NEW = (OLD @ np.linalg.qr(np.random.default_rng(1).normal(size=(DIM, DIM)))[0]).astype(np.float32)
EVIL = "<script>alert(1)</script>"
IDS = [EVIL, *(f"doc-{row}" for row in range(1, N))]
WAIT = {"prefer": "wait=30"}
UNKNOWN = "emb_" + "0" * 32


@pytest.fixture(scope="module")
def sides(busy_client: httpx2.Client) -> dict[str, Any]:
    found = [upload(busy_client, rows, name) for rows, name in ((OLD, "old model"), (NEW, "new model"))]
    return {name: {"embedding": each["id"]} for name, each in zip(("old", "new"), found, strict=True)}


@pytest.fixture(scope="module")
def finished(busy_client: httpx2.Client) -> dict[str, Any]:
    """Finished job with queries, relevance judgments and hostile names."""
    body = {
        "old": {"vectors": OLD.tolist(), "ids": IDS},
        "new": {"vectors": NEW.tolist(), "ids": IDS},
        "queries": {"old": {"vectors": OLD[:20].tolist()}, "new": {"vectors": NEW[:20].tolist()}},
        "qrels": {str(row): [IDS[row]] for row in range(20)},
        "maps": "procrustes",
        "k": 3,
    }
    answer = busy_client.post("/v1/upgrades", json=body, headers=WAIT)
    assert answer.status_code == 200
    job: dict[str, Any] = answer.json()
    assert (job["kind"], job["status"]) == ("upgrade", "succeeded")
    return job


def test_the_report_of_a_job_equals_that_of_the_library(busy_client: httpx2.Client, sides: dict[str, Any]) -> None:
    job = busy_client.post("/v1/upgrades", json={**sides, "k": 3, "seed": 5}, headers=WAIT).json()
    found = UpgradeReport.model_validate(job["result"])
    here = upgrade_report(OLD, NEW, k=3, seed=5)
    assert (found.strategies, found.agreement, found.verdict) == (here.strategies, here.agreement, here.verdict)
    assert found.worst_documents == here.worst_documents
    assert (found.old.digest, found.new.digest) == (here.old.digest, here.new.digest)
    assert (found.old.id, found.old.name) == (sides["old"]["embedding"], "old model")
    assert job["plan"]["n"] == N


def test_inline_vectors_queries_and_qrels_are_read(finished: dict[str, Any]) -> None:
    result = finished["result"]
    assert (result["queries"]["source"], result["queries"]["used"]) == ("queries", 20)
    assert {way["name"]: way["relevant_recall"]["value"] for way in result["strategies"]}["re_embed"] == 1
    assert finished["request"]["queries"]["old"]["embedding"].startswith("emb_")
    assert result["improvement"]["value"] == 0


def test_the_report_is_available_at_its_link(busy_client: httpx2.Client, finished: dict[str, Any]) -> None:
    answer = busy_client.get(finished["links"]["upgrade"])
    assert answer.json() == finished["result"]
    assert finished["links"]["upgrade"] == f"/v1/upgrades/{finished['id']}"


@pytest.mark.parametrize(
    ("params", "accept", "media_type", "start"),
    [
        ({"format": "markdown"}, "*/*", "text/markdown", "# Upgrade report"),
        ({"format": "html"}, "*/*", "text/html", "<!doctype html>"),
        ({}, "text/markdown", "text/markdown", "# Upgrade report"),
        ({}, "text/html,application/xhtml+xml;q=0.9", "text/html", "<!doctype html>"),
        ({"format": "json"}, "text/html", "application/json", '{"schema":"consilience.upgrade/1"'),
    ],
)
def test_the_report_is_available_as_markdown_and_html(  # noqa: PLR0917 - what is asked, and what is answered
    busy_client: httpx2.Client,
    finished: dict[str, Any],
    params: dict[str, str],
    accept: str,
    media_type: str,
    start: str,
) -> None:
    answer = busy_client.get(finished["links"]["upgrade"], params=params, headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(media_type)
    assert answer.headers["vary"] == "Accept"
    assert answer.text.startswith(start)
    assert media_type == "application/json" or EVIL not in answer.text


def test_the_html_report_has_a_strict_content_security_policy(
    busy_client: httpx2.Client, finished: dict[str, Any]
) -> None:
    policy = busy_client.get(finished["links"]["upgrade"], params={"format": "html"}).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_a_dry_run_returns_only_the_plan(busy_client: httpx2.Client, sides: dict[str, Any]) -> None:
    plan = busy_client.post("/v1/upgrades?dry_run=true", json={**sides, "k": 3}).json()
    more = busy_client.post("/v1/upgrades?dry_run=true", json={**sides, "k": 3, "maps": ["ridge", "mlp"]}).json()
    assert (plan["n"], plan["dim_a"], plan["dim_b"]) == (N, DIM, DIM)
    assert more["flops"] > plan["flops"] > 0


def test_an_idempotency_key_belongs_to_one_request(busy_client: httpx2.Client, sides: dict[str, Any]) -> None:
    key = {"idempotency-key": "upgrade-1"}
    first, again = (busy_client.post("/v1/upgrades", json={**sides, "k": 3}, headers=key).json()["id"] for _ in "12")
    assert first == again
    refused = busy_client.post("/v1/upgrades", json={**sides, "k": 4}, headers=key)
    assert_problem(refused, 422, "idempotency-key-reused", value="upgrade-1")


def inline(rows: np.ndarray) -> dict[str, Any]:
    return {"vectors": rows.tolist()}


BOTH = {"old": inline(OLD), "new": inline(NEW)}
QUERIES = {"old": inline(OLD[:9]), "new": inline(NEW[:9])}

WITH_IDS = {name: side | {"ids": list(range(N))} for name, side in BOTH.items()}


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        ({"old": inline(OLD)}, 422, "invalid-request", "/new"),
        ({**BOTH, "new": {"embedding": UNKNOWN}}, 404, "not-found", "/new/embedding"),
        ({**BOTH, "new": inline(NEW[:50])}, 422, "unpaired-sides", "/new"),
        ({**BOTH, "k": N}, 422, "invalid-request", "/k"),
        ({**BOTH, "k": 0}, 422, "invalid-request", "/k"),
        ({**BOTH, "maps": "spline"}, 422, "invalid-request", "/maps"),
        ({**BOTH, "maps": ["ridge", {"kind": "low_rank", "rank": 7}]}, 422, "invalid-request", "/maps/1/rank"),
        ({**BOTH, "layers": {"new": "9"}}, 422, "unknown-layer", "/layers/new"),
        ({**BOTH, "pairing": "id"}, 422, "invalid-request", "/pairing"),
        ({**BOTH, "qrels": {"0": ["1"]}}, 422, "invalid-request", None),
        ({**BOTH, "qrels": {str(row): ["1"] for row in range(9000)}}, 422, "invalid-request", None),
        ({**BOTH, "queries": {**QUERIES, "old": inline(OLD[:9, :4])}}, 422, "invalid-shape", "/queries/old"),
        ({**BOTH, "queries": {**QUERIES, "old": inline(OLD[:8])}}, 422, "unpaired-sides", "/queries/new"),
        (WITH_IDS | {"queries": QUERIES, "pairing": "id"}, 422, "invalid-request", "/pairing"),
        ({**BOTH, "queries": {**QUERIES, "new": {"embedding": UNKNOWN}}}, 404, "not-found", "/queries/new/embedding"),
        ({**BOTH, "thresholds": {"keep": 2}}, 422, "invalid-request", "/thresholds/keep"),
        ({"old": inline(OLD[:5]), "new": inline(NEW[:5]), "k": 1}, 422, "too-few-rows", None),
    ],
)
def test_an_invalid_request_is_refused_with_a_pointer(
    busy_client: httpx2.Client, body: dict[str, Any], status: int, code: str, pointer: str | None
) -> None:
    expected = {} if pointer is None else {"pointer": pointer}
    assert_problem(busy_client.post("/v1/upgrades", json=body), status, code, **expected)


def test_unknown_ids_in_qrels_fail_the_job(busy_client: httpx2.Client) -> None:
    body = {**BOTH, "queries": QUERIES, "qrels": {"0": ["700"], "1": ["1"]}, "k": 3}
    job = busy_client.post("/v1/upgrades", json=body, headers=WAIT).json()
    assert job["status"] == "failed"
    assert "A relevance judgment names '700', but no row of the documents has this id" in job["error"]["detail"]
    assert job["error"]["pointer"] == "/qrels/0"
    problem = assert_problem(busy_client.get(job["links"]["upgrade"]), 409, "conflict")
    assert "'700'" in problem["detail"]


def test_jobs_of_other_kinds_have_no_report(busy_client: httpx2.Client, sides: dict[str, Any]) -> None:
    body = {"a": sides["old"], "b": sides["new"], "metrics": "cka"}
    job = busy_client.post("/v1/alignments", json=body, headers=WAIT).json()
    assert_problem(busy_client.get(f"/v1/upgrades/{job['id']}"), 404, "not-found")
    assert_problem(busy_client.get(f"/v1/upgrades/job_{'0' * 32}"), 404, "not-found")


def test_an_unfinished_report_is_a_conflict_and_its_sets_are_in_use(client: httpx2.Client) -> None:
    """The service of `client` has no worker."""
    ids = [upload(client, rows)["id"] for rows in (OLD, NEW)]
    body = {"old": {"embedding": ids[0]}, "new": {"embedding": ids[1]}, "k": 3}
    job = client.post("/v1/upgrades", json=body).json()
    assert_problem(client.get(job["links"]["upgrade"]), 409, "conflict")
    assert_problem(client.delete(f"/v1/embeddings/{ids[0]}"), 409, "in-use")
    client.post(job["links"]["cancel"])
    assert "canceled" in assert_problem(client.get(job["links"]["upgrade"]), 409, "conflict")["detail"]
