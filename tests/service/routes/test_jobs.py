import itertools
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from service.responses import matches, parse_wait
from tests.service.servers import rows

Document = dict[str, Any]


def ask(client: httpx2.Client, seed: int = 0) -> Document:
    body = {"a": {"vectors": rows(30, seed=1).tolist()}, "b": {"vectors": rows(30, seed=2).tolist()}, "seed": seed}
    document: Document = client.post("/v1/alignments", json=body).json()
    return document


def events(client: httpx2.Client, job: Document, **headers: str) -> Iterator[tuple[int, Document]]:
    with client.stream("GET", job["links"]["events"], headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        data: Document = {}
        for line in answer.iter_lines():
            if line.startswith("data: "):
                data = json.loads(line.removeprefix("data: "))
            if line.startswith("id: "):
                yield int(line.removeprefix("id: ")), data


def test_an_unchanged_job_is_not_sent_again(client: httpx2.Client) -> None:
    job = ask(client)
    first = client.get(job["links"]["self"])
    etag = first.headers["etag"]

    same = client.get(job["links"]["self"], headers={"if-none-match": etag})
    client.post(job["links"]["cancel"])
    changed = client.get(job["links"]["self"], headers={"if-none-match": etag})

    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    assert (changed.status_code, changed.json()["status"]) == (200, "canceled")
    assert not etag.startswith("W/")


def test_the_response_of_a_post_has_an_etag(client: httpx2.Client) -> None:
    body = {"a": {"vectors": rows(30).tolist()}, "b": {"vectors": rows(30).tolist()}}
    answer = client.post("/v1/alignments", json=body)

    again = client.get(answer.headers["location"], headers={"if-none-match": answer.headers["etag"]})

    assert again.status_code == 304


def test_waiting_with_an_etag_ends_at_the_next_change(client: httpx2.Client) -> None:
    job = ask(client)
    etag = client.get(job["links"]["self"]).headers["etag"]
    threading.Timer(0.2, client.post, [job["links"]["cancel"]]).start()

    started = time.monotonic()
    answer = client.get(job["links"]["self"], headers={"if-none-match": etag, "prefer": "wait=20"})

    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    assert time.monotonic() - started < 5


def test_waiting_without_a_change_ends_with_304(client: httpx2.Client) -> None:
    job = ask(client)
    etag = client.get(job["links"]["self"]).headers["etag"]

    answer = client.get(job["links"]["self"], headers={"if-none-match": etag, "prefer": "wait=1"})

    assert (answer.status_code, answer.headers["preference-applied"]) == (304, "wait=1")


def test_waiting_on_a_job_ends_when_it_has_finished(busy_client: httpx2.Client) -> None:
    job = ask(busy_client)

    answer = busy_client.get(job["links"]["self"], headers={"prefer": "wait=30"})

    assert answer.json()["status"] == "succeeded"
    assert "retry-after" not in answer.headers


def test_a_queued_job_is_canceled_at_once_and_canceling_again_changes_nothing(client: httpx2.Client) -> None:
    job = ask(client)

    first, again = (client.post(job["links"]["cancel"]) for _ in range(2))

    assert (first.status_code, first.json()["status"]) == (200, "canceled")
    assert again.json() == first.json()


def test_jobs_are_listed_newest_first_by_status(client: httpx2.Client) -> None:
    ids = [ask(client, seed)["id"] for seed in range(3)]
    for job_id in ids:
        client.post(f"/v1/jobs/{job_id}/cancel")

    page = client.get("/v1/jobs", params={"status": "canceled", "limit": 3}).json()

    assert [job["id"] for job in page["data"]] == ids[::-1]
    assert page["has_more"] in {True, False}


def test_the_event_stream_has_every_change_and_ends_with_the_job(busy_client: httpx2.Client) -> None:
    told = list(events(busy_client, ask(busy_client)))

    versions = [version for version, _ in told]
    assert versions == sorted(set(versions))
    assert told[-1][1]["status"] == "succeeded"
    assert told[-1][1]["result"]["scores"]


def test_the_event_stream_omits_events_that_were_received(client: httpx2.Client) -> None:
    job = ask(client)
    client.post(job["links"]["cancel"])
    [(version, _)] = list(events(client, job))

    assert list(events(client, job, **{"last-event-id": str(version)})) == []
    assert [seen for seen, _ in events(client, job, **{"last-event-id": str(version - 1)})] == [version]
    # An id that never was, say of a database since restored, must not hold the stream for ever.
    assert [seen for seen, _ in events(client, job, **{"last-event-id": "999999"})] == [version]


def test_a_reconnected_event_stream_loses_and_repeats_no_event(busy_client: httpx2.Client) -> None:
    """Each connection takes one event and is cut; the next one resumes with `Last-Event-ID`."""
    job, told, last = ask(busy_client, seed=99), list[tuple[int, Document]](), dict[str, str]()
    while not told or told[-1][1]["status"] not in {"succeeded", "failed"}:
        told.append(next(events(busy_client, job, **last)))
        last = {"last-event-id": str(told[-1][0])}
    versions = [version for version, _ in told]
    assert versions == sorted(set(versions))
    assert list(events(busy_client, job, **last)) == [], "the end was told, and is not told again"
    statuses = [status for status, _ in itertools.groupby(document["status"] for _, document in told)]
    assert statuses in (
        ["queued", "running", "succeeded"],
        ["running", "succeeded"],
        ["queued", "succeeded"],
        ["succeeded"],
    )
    assert told[-1][1] == busy_client.get(job["links"]["self"]).json()


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, None),
        (["wait=20"], 20),
        (["respond-async, wait=5"], 5),
        (["respond-async", 'Wait="7"'], 7),
        (["wait=999999999"], 60),
        (["wait=-1"], None),
        (["wait=soon"], None),
        (["handling=lenient; awaits"], None),
    ],
)
def test_the_preference_is_read_and_capped(prefer: list[str] | None, seconds: float | None) -> None:
    assert parse_wait(prefer, 60.0) == seconds


@pytest.mark.parametrize(
    ("header", "same"),
    [
        (None, False),
        ('"3"', True),
        ('W/"3"', True),
        ('"1", "3"', True),
        ("*", True),
        ('"4"', False),
        ("3", False),
        ("", False),
    ],
)
def test_etags_are_compared_as_http_says(header: str | None, same: bool) -> None:
    assert matches(header, 3) is same
