"""What a whole service writes while it is used, and while it is sent what would break a log: JSON, line by line."""

import json
import re
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.serving import Serve, serve, until

VECTORS = [[float(i % 7), float(i), 1.0] for i in range(40)]
INLINE = {"a": {"vectors": VECTORS}, "b": {"vectors": VECTORS[::-1]}, "metrics": ["mutual_knn"]}
REDIS = re.compile(r"\d+:M \d\d \w{3} \d{4} [0-9:.]+ [*#] ")
#: It would start a line of its own in a careless log.
HOSTILE = '"}\n{"event":"forged"}'


class Logged(NamedTuple):
    """A service that has been used, and its log."""

    service: Serve
    jobs: dict[str, str]

    @property
    def text(self) -> str:
        return (self.service.data_dir.parent / "serve.log").read_text()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Every line but those of the embedded Redis, which has a form of its own; the last may be under way."""
        whole = self.text.rpartition("\n")[0].split("\n")
        return [json.loads(line) for line in whole if not REDIS.match(line)]

    def events(self, job: str) -> list[str]:
        return [line["event"] for line in self.lines if line.get("job") == self.jobs[job]]


@pytest.fixture(scope="module")
def logged() -> Iterator[Logged]:
    with serve() as service, httpx2.Client(base_url=service.url, timeout=60) as client:
        logged = Logged(service, {})
        logged.jobs["good"] = submit(client, INLINE, wait=50)
        send_hostile(service.url)
        yield logged


def submit(client: httpx2.Client, body: dict[str, Any], wait: int = 0) -> str:
    answer = client.post("/v1/alignments", json=body, headers={"prefer": f"wait={wait}"} if wait else {})
    assert answer.status_code in {200, 202}, answer.text
    return str(answer.json()["id"])


def send_hostile(url: str) -> None:
    """What no client library would send goes over the bare socket."""
    host, port = urlsplit(url).netloc.split(":")
    raw = [
        b"GET /v1/jobs/x%0A%7B%22event%22:%22forged%22%7D?n=word-of-mine%0A HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b'GET /v1/info HTTP/1.1\r\nHost: x\r\nX-Request-ID: {"event":"forged"}\r\nConnection: close\r\n\r\n',
        b"GET /v1/info HTTP/1.1\r\nHost: x\r\nX-Request-ID: a\n{}\r\nConnection: close\r\n\r\n",
        b"GET /v1/\xff\xfe\x1b[31m HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /v1/info HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer csl_word-of-mine\r\nConnection: close\r\n\r\n",
        b"FORGED\x0b{} / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"F" * 4000 + b" /v1/info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b'\n{"event":"forged"}\n\n',
    ]
    for request in raw:
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(request)
            while connection.recv(65536):
                pass
    names = {"name": f"word-of-mine\n{HOSTILE}", "metadata": json.dumps({"word-of-mine": HOSTILE})}
    httpx2.post(url + "/v1/embeddings", params=names, content=b"\x93NUMPY" + HOSTILE.encode())
    httpx2.post(url + "/v1/alignments", content=json.dumps({"a": {"vectors": [[HOSTILE]]}, HOSTILE: HOSTILE}))


def test_every_line_is_json_and_none_is_forged(logged: Logged) -> None:
    assert len(logged.lines) > 10
    assert all(isinstance(line, dict) and "event" in line for line in logged.lines)
    assert "forged" not in {line["event"] for line in logged.lines}


def test_no_value_of_a_request_is_in_it(logged: Logged) -> None:
    assert "word-of-mine" not in logged.text
    assert "FFFF" not in logged.text
    assert "FORGED" not in logged.text


def test_a_request_is_one_line_that_says_how_it_went(logged: Logged) -> None:
    answer = httpx2.post(
        logged.service.url + "/v1/alignments?dry_run=true", json=INLINE, headers={"x-request-id": "r-1"}
    )

    until(lambda: any(line.get("request_id") == "r-1" for line in logged.lines))
    [line] = [line for line in logged.lines if line.get("request_id") == "r-1"]
    assert line.items() >= {"event": "request", "method": "POST", "route": "/v1/alignments", "status": 200}.items()
    assert (line["bytes_in"], line["bytes_out"]) == (len(answer.request.content), len(answer.content))
    assert 0 < line["duration_ms"] < 60_000


def test_a_request_id_comes_back_and_is_replaced_where_it_is_none(logged: Logged) -> None:
    ids = {
        given: httpx2.get(logged.service.url + "/v1/info", headers={"x-request-id": given}).headers["x-request-id"]
        for given in ("trace-7", "with space", "a%0ab", "x" * 65, HOSTILE.replace("\n", " "))
    }
    assert ids.pop("trace-7") == "trace-7"
    assert all(len(made) == 32 and made.isalnum() for made in ids.values())


def test_a_job_that_succeeds_is_queued_started_and_done(logged: Logged) -> None:
    until(lambda: "job_succeeded" in logged.events("good"))
    assert sorted(logged.events("good")) == ["job_queued", "job_started", "job_succeeded"]
    [done] = [line for line in logged.lines if line["event"] == "job_succeeded" and line["job"] == logged.jobs["good"]]
    assert done["delivery"] == 1
    assert done["seconds"] > 0
