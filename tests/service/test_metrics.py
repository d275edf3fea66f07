"""Prometheus metrics of a real service, also while a store is unavailable."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from consilience.contract.keys import Scope
from tests.service.api_keys import bearer, client_of, make_key
from tests.service.servers import Server, running_service, upload
from tests.service.servers import rows as random_rows

Labels = tuple[tuple[str, str], ...]
INLINE = {
    "a": {"vectors": [[float(i), 1.0] for i in range(12)]},
    "b": {"vectors": [[float(i), 2.0] for i in range(12)]},
}


class Scrape(NamedTuple):
    samples: dict[tuple[str, Labels], float]

    def get(self, name: str, **labels: str) -> float | None:
        return self.samples.get((f"consilience_{name}", tuple(sorted(labels.items()))))

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.samples}


def scrape(client: httpx2.Client) -> Scrape:
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = text_string_to_metric_families(answer.text)
    samples = (sample for family in families for sample in family.samples)
    return Scrape({(each.name, tuple(sorted(each.labels.items()))): each.value for each in samples})


@contextmanager
def running(folder: Path, redis_url: str) -> Iterator[tuple[Server, httpx2.Client]]:
    with running_service(folder, redis_url) as server, httpx2.Client(base_url=server.url, timeout=30) as client:
        yield server, client


def test_jobs_sets_and_requests_are_counted(redis_server: str, tmp_path: Path) -> None:
    with running(tmp_path, f"{redis_server}?db=12") as (_, client):
        before = scrape(client)
        job = client.post("/v1/alignments", json=INLINE).json()
        client.get(job["links"]["self"])
        client.get(f"/v1/jobs/job_{'0' * 32}")
        upload(client, random_rows(32))
        client.post("/v1/datasets", content=b'{"text": "four"}', headers={"content-type": "application/jsonl"})
        after = scrape(client)

    assert before.get("jobs", state="queued") == 0
    assert after.get("jobs", state="queued") == 1
    assert (after.get("queue_messages") or 0) - (before.get("queue_messages") or 0) == 1
    assert (after.get("embedding_sets"), after.get("workers")) == (3, 0)
    held = 2 * 12 * 2 * 4 + 32 * 8 * 4
    assert (after.get("embedding_bytes"), after.get("layer_bytes")) == (held, held)
    assert before.get("queue_oldest_seconds") == 0 < (after.get("queue_oldest_seconds") or 0)
    assert (after.get("datasets"), after.get("dataset_bytes")) == (1, 4)
    assert (after.get("store_up", store="database"), after.get("store_up", store="redis")) == (1, 1)
    route = {"method": "GET", "route": "/v1/jobs/{job_id}"}
    counted = [after.get("http_request_seconds_count", status=status, **route) for status in ("2xx", "4xx")]
    assert counted == [1, 1]


def test_the_stage_times_of_successful_jobs_are_reported(busy_client: httpx2.Client) -> None:
    job = busy_client.post("/v1/alignments", json={**INLINE, "seed": 77}, headers={"prefer": "wait=50"}).json()
    assert job["status"] == "succeeded"

    found = scrape(busy_client)

    for part in ("cka", "mutual_knn", "whole"):
        mean, longest = (found.get(f"recent_job_{name}_seconds", part=part) for name in ("mean", "max"))
        assert mean is not None
        assert longest is not None
        assert 0 < mean <= longest
    assert found.get("workers") == 1
    assert (found.get("jobs", state="succeeded") or 0) > 0
    assert (found.get("graph_cache_misses_total") or 0) > 0


def test_no_label_contains_text_of_users(redis_server: str, tmp_path: Path) -> None:
    token = make_key(tmp_path, "ana-secret", Scope.READ, Scope.WRITE, Scope.ADMIN)
    with running_service(tmp_path, f"{redis_server}?db=12") as server, client_of(server.url, token) as client:
        upload(client, random_rows(8), name="word-of-mine")
        for path in ("/word-of-mine", "/v1/jobs/word-of-mine?word-of-mine=1", "/v1/embeddings?name=word-of-mine"):
            client.get(path)
        client.request("WORDOFMINE", "/v1/info")
        client.request("GET", "/v1/info", headers={"x-request-id": "word-of-mine", "user-agent": "word-of-mine"})
        text = client.get("/metrics").text

    assert "ana-secret" not in text
    assert "word-of-mine" not in text.lower()
    assert "wordofmine" not in text.lower()
    assert 'method="other",route="/v1/info",status="4xx"' in text
    assert 'method="GET",route="other",status="4xx"' in text


def test_scraping_needs_the_scope_admin(redis_server: str, tmp_path: Path) -> None:
    reader, admin = (make_key(tmp_path, "ana", scope) for scope in (Scope.READ, Scope.ADMIN))
    with running_service(tmp_path, f"{redis_server}?db=12") as server:
        assert httpx2.get(server.url + "/metrics").status_code == 401
        with client_of(server.url, reader) as client:
            assert client.get("/metrics").status_code == 403
        with client_of(server.url, admin) as client:
            assert scrape(client).get("store_up", store="database") == 1


def test_without_redis_its_metrics_are_missing(tmp_path: Path) -> None:
    with running(tmp_path, "unix:///nowhere/socket") as (_, client):
        found = scrape(client)

    assert (found.get("store_up", store="redis"), found.get("store_up", store="database")) == (0, 1)
    assert found.get("jobs", state="queued") == 0
    assert not {"consilience_queue_messages", "consilience_workers"} & found.names


def break_database(folder: Path) -> None:
    for file in folder.glob("consilience.db*"):
        file.write_bytes(b"no database any more" * 1000)


def test_without_the_database_its_metrics_are_missing(redis_server: str, tmp_path: Path) -> None:
    with running(tmp_path, f"{redis_server}?db=12") as (_, client):
        scrape(client)
        break_database(tmp_path)
        found = scrape(client)

    assert (found.get("store_up", store="redis"), found.get("store_up", store="database")) == (1, 0)
    assert "consilience_jobs" not in found.names
    assert found.get("queue_messages") is not None


def test_without_the_database_only_cached_principals_can_scrape(redis_server: str, tmp_path: Path) -> None:
    known, new, reader = (make_key(tmp_path, "ana", scope) for scope in (Scope.ADMIN, Scope.ADMIN, Scope.READ))
    with running_service(tmp_path, f"{redis_server}?db=12") as server:
        with client_of(server.url, known) as client:
            scrape(client)
        with client_of(server.url, reader) as client:
            assert client.get("/metrics").status_code == 403
        break_database(tmp_path)
        answers = {
            name: httpx2.get(server.url + "/metrics", headers=bearer(token) if token else {}).status_code
            for name, token in {"known": known, "new": new, "reader": reader, "nobody": None}.items()
        }
        elsewhere = httpx2.get(server.url + "/v1/info", headers=bearer(known)).status_code

    assert answers == {"known": 200, "new": 503, "reader": 403, "nobody": 503}
    assert elsewhere == 503
