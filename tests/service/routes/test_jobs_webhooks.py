"""Webhooks of jobs in requests."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.service.deliveries.receivers import SECRET
from tests.service.servers import assert_problem, npy, rows, running_service


@pytest.fixture(scope="module")
def hooked(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """Client of a service that sends webhooks only to public hosts."""
    folder = tmp_path_factory.mktemp("hooked")
    with (
        running_service(folder, f"{redis_server}?db=6", webhook_secret=SECRET) as server,
        httpx2.Client(base_url=server.url, timeout=30) as client,
    ):
        yield client


def body(webhook: object) -> dict[str, Any]:
    sides = {side: {"vectors": rows(20, seed=seed).tolist()} for seed, side in enumerate("ab")}
    return {**sides, "webhook": webhook}


def test_a_service_without_a_secret_refuses_webhooks(client: httpx2.Client) -> None:
    answer = client.post("/v1/alignments", json=body({"url": "https://example.com/hook"}))
    problem = assert_problem(answer, 422, "invalid-request", pointer="/webhook", value="https://example.com/hook")
    assert "CONSILIENCE_WEBHOOK_SECRET" in problem["hint"]


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/", "http://localhost:8000/", "http://127.1/", "http://2130706433/", "http://0x7f.0.0.1/"),
        *(
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://169.254.169.254/latest/meta-data/",
            "https://10.0.0.1/",
        ),
        *("http://0/", "http://[fd00::1]/", "http://017700000001/"),
    ],
)
def test_a_url_that_is_not_public_is_refused_at_once(hooked: httpx2.Client, url: str) -> None:
    answer = hooked.post("/v1/alignments", json=body({"url": url}))
    problem = assert_problem(answer, 422, "invalid-request", pointer="/webhook/url")
    assert "is not public, and the service does not send requests to it" in problem["detail"]


@pytest.mark.parametrize(
    "webhook",
    [
        {"url": "ftp://example.com/"},
        {"url": "file:///etc/passwd"},
        {"url": "gopher://example.com/"},
        {"url": "example.com/hook"},
        {"url": "https://user:secret@example.com/"},
        {"url": "https://example.com/" + "x" * 3000},
        {"url": "https://exa mple.com/"},
        {"url": 7},
        {"url": "https://example.com/", "secret": "whsec_"},
        {},
        [],
        "https://example.com/",
    ],
)
def test_an_invalid_url_is_refused(hooked: httpx2.Client, webhook: object) -> None:
    answer = hooked.post("/v1/alignments", json=body(webhook))
    document = assert_problem(answer, 422, "invalid-request")
    assert "/webhook" in str(document)


def test_a_job_links_to_the_state_of_its_webhook(hooked: httpx2.Client) -> None:
    job = hooked.post("/v1/alignments", json=body({"url": "https://example.com/hook?x=1"})).json()
    assert job["request"]["webhook"] == {"url": "https://example.com/hook?x=1"}
    hook = hooked.get(job["links"]["webhook"]).json()
    assert hook["id"].startswith("msg_")
    assert (hook["url"], hook["status"], hook["attempts"]) == ("https://example.com/hook?x=1", "waiting", 0)


def test_a_form_can_have_a_webhook(hooked: httpx2.Client) -> None:
    files = {side: (side, npy(rows(20, seed=seed)), "application/x-npy") for seed, side in enumerate("ab")}
    parts = {**files, "request": (None, '{"webhook": {"url": "https://example.com/"}}', "application/json")}
    job = hooked.post("/v1/alignments", files=parts).json()
    assert hooked.get(job["links"]["webhook"]).json()["url"] == "https://example.com/"


def test_a_job_without_a_webhook_has_no_link(hooked: httpx2.Client) -> None:
    job = hooked.post("/v1/alignments", json=body(None)).json()
    assert "webhook" not in job["links"]
    assert_problem(hooked.get(job["links"]["self"] + "/webhook"), 404, "not-found")


def test_the_webhook_is_part_of_the_idempotent_request(hooked: httpx2.Client) -> None:
    headers = {"idempotency-key": "one"}
    first = hooked.post("/v1/alignments", json=body({"url": "https://example.com/1"}), headers=headers)
    same = hooked.post("/v1/alignments", json=body({"url": "https://example.com/1"}), headers=headers)
    other = hooked.post("/v1/alignments", json=body({"url": "https://example.com/2"}), headers=headers)
    assert first.json()["id"] == same.json()["id"]
    assert_problem(other, 422, "idempotency-key-reused")
