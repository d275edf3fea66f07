import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.service.servers import Server, assert_problem, npy, rows, running_service, upload

DATA = Path(__file__).parents[3] / "examples" / "data"
A, B = rows(40, seed=1), rows(40, seed=2)


def inline(**members: Any) -> dict[str, Any]:
    return {"a": {"vectors": A.tolist()}, "b": {"vectors": B.tolist()}, **members}


def test_two_files_in_one_post_become_scores(busy_client: httpx2.Client) -> None:
    files = {
        name: (f"{name}.npy", (DATA / f"dev_{stem}.npy").read_bytes()) for name, stem in [("a", "docs"), ("b", "code")]
    }

    answer = busy_client.post("/v1/alignments", files=files, headers={"prefer": "wait=30"})

    job = answer.json()
    assert (answer.status_code, job["status"]) == (200, "succeeded")
    assert answer.headers["preference-applied"] == "wait=30"
    values = {score["metric"]: score["value"] for score in job["result"]["scores"]}
    assert values["mutual_knn"] == pytest.approx(0.20918, abs=5e-4)
    assert values["cka"] == pytest.approx(0.38360, abs=5e-4)


def test_sides_can_be_ids_of_stored_sets(busy_client: httpx2.Client) -> None:
    a, b = upload(busy_client, A, "a side"), upload(busy_client, B, "b side")
    body = {"a": {"embedding": a["id"]}, "b": {"embedding": b["id"]}, "metrics": "cka"}

    job = busy_client.post("/v1/alignments", json=body, headers={"prefer": "wait=30"}).json()

    assert [side["name"] for side in (job["result"]["a"], job["result"]["b"])] == ["a side", "b side"]


def test_an_accepted_job_has_a_location_and_retry_after(client: httpx2.Client) -> None:
    answer = client.post("/v1/alignments", json=inline())

    job = answer.json()
    assert (answer.status_code, job["status"]) == (202, "queued")
    assert answer.headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["retry-after"] == "1"
    assert client.get(answer.headers["location"]).json() == job


def test_the_stored_request_has_ids_and_all_defaults(client: httpx2.Client) -> None:
    request = client.post("/v1/alignments", json=inline(seed=7)).json()["request"]

    assert client.get(f"/v1/embeddings/{request['a']['embedding']}").json()["n"] == 40
    assert (request["seed"], request["preparation"]["profile"], len(request["metrics"])) == (7, "l2", 2)


def test_waiting_ends_with_202_without_a_worker(client: httpx2.Client) -> None:
    started = time.monotonic()

    answer = client.post("/v1/alignments", json=inline(), headers={"prefer": "respond-async, wait=1"})

    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=1")
    assert 0.7 < time.monotonic() - started < 3


def test_a_dry_run_returns_the_plan_and_stores_nothing(server: Server, client: httpx2.Client) -> None:
    before = server.contents()

    planned = client.post("/v1/alignments?dry_run=true", json=inline())
    from_files = client.post("/v1/alignments?dry_run=true", files={"a": npy(A), "b": npy(B)})

    assert planned.json() == from_files.json()
    assert (planned.status_code, planned.json()["n"]) == (200, 40)
    assert server.contents() == before


def test_a_dry_run_refuses_the_same_requests_as_a_run(client: httpx2.Client) -> None:
    assert_problem(
        client.post("/v1/alignments?dry_run=true", json=inline(b={"vectors": A[:9].tolist()})), 422, "unpaired-sides"
    )


def test_a_job_that_would_exceed_the_time_limit_is_refused_at_once(redis_server: str, tmp_path: Path) -> None:
    with running_service(tmp_path, f"{redis_server}?db=8", job_timeout_s=0.2) as server:
        long = {"null": {"method": "permutation", "permutations": 100_000}, "metrics": "cka"}

        fits = httpx2.post(server.url + "/v1/alignments", json=inline())
        refused = httpx2.post(server.url + "/v1/alignments", json=inline(**long))
        jobs = httpx2.get(server.url + "/v1/jobs").json()["data"]

    assert fits.status_code == 202
    assert fits.json()["plan"]["seconds"] <= 0.2
    problem = assert_problem(refused, 422, "too-expensive")
    assert (float(problem["limit"]), float(problem["value"]) > 0.2) == (0.2, True)
    assert [job["id"] for job in jobs] == [fits.json()["id"]]


def test_the_same_key_is_the_same_job(client: httpx2.Client) -> None:
    headers = {"idempotency-key": "run-17"}
    first, again = (client.post("/v1/alignments", json=inline(), headers=headers) for _ in range(2))
    other = client.post("/v1/alignments", json=inline(seed=1), headers=headers)

    assert again.json()["id"] == first.json()["id"]
    assert_problem(other, 422, "idempotency-key-reused", value="run-17")


def test_the_same_key_with_the_same_files_is_the_same_job(client: httpx2.Client) -> None:
    headers = {"idempotency-key": "files-17"}
    ids = {client.post("/v1/alignments", files={"a": npy(A), "b": npy(B)}, headers=headers).json()["id"] for _ in "12"}

    assert len(ids) == 1


def test_jobs_are_accepted_while_redis_is_down(tmp_path: Path) -> None:
    with (
        running_service(tmp_path, f"unix://{tmp_path}/nothing") as server,
        httpx2.Client(base_url=server.url) as client,
    ):
        started = time.monotonic()
        answer = client.post("/v1/alignments", json=inline())

        assert (answer.status_code, answer.json()["status"]) == (202, "queued")
        assert time.monotonic() - started < 2
        assert "redis" in assert_problem(client.get("/readyz"), 503, "unavailable")["value"]
        assert any(line["event"] == "delivery_postponed" for line in server.log())


def test_a_full_queue_refuses_jobs_with_429(redis_server: str, tmp_path: Path) -> None:
    with running_service(tmp_path, f"{redis_server}?db=7", queue_limit=1) as server:
        first, second = (httpx2.post(server.url + "/v1/alignments", json=inline()) for _ in range(2))

    assert first.status_code == 202
    assert_problem(second, 429, "too-many-requests", limit=1, value="1", retryable=True)
    assert "CONSILIENCE_QUEUE_LIMIT" in second.json()["hint"]
    assert second.headers["retry-after"] == "1"


def test_a_full_queue_refuses_files_before_reading_them(redis_server: str, tmp_path: Path) -> None:
    with (
        running_service(tmp_path, f"{redis_server}?db=7", queue_limit=1) as server,
        httpx2.Client(base_url=server.url) as client,
    ):
        known = {"idempotency-key": "known"}
        first = client.post("/v1/alignments", json=inline(), headers=known)
        before = server.contents()

        refused = client.post("/v1/alignments", files={"a": npy(A), "b": b"not read"})
        also_refused = client.post(
            "/v1/alignments", files={"a": npy(A), "b": npy(B)}, headers={"idempotency-key": "new"}
        )
        again = client.post("/v1/alignments", json=inline(), headers=known)

        for answer in (refused, also_refused):
            assert_problem(answer, 429, "too-many-requests")
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
        assert server.contents() == before


def test_alignments_work_on_postgresql(redis_server: str, tmp_path: Path, postgresql_server: object) -> None:
    url = postgresql_server.render_as_string(hide_password=False)  # type: ignore[attr-defined]  # SQLAlchemy's URL
    with (
        running_service(tmp_path, f"{redis_server}?db=9", database_url=url) as server,
        httpx2.Client(base_url=server.url) as client,
    ):
        stored = upload(client, A, "on PostgreSQL")
        job = client.post(
            "/v1/alignments", json=inline(a={"embedding": stored["id"]}, metadata={"é": [1, None]})
        ).json()

        assert client.get(job["links"]["self"]).json() == job
        assert client.get("/v1/embeddings", params={"name": "on PostgreSQL"}).json()["data"] == [stored]
        assert_problem(client.get("/v1/jobs", params={"cursor": "WyIyMDI2IiwiXHUwMDAwIl0"}), 422, "invalid-request")
        assert client.post(job["links"]["cancel"]).json()["status"] == "canceled"
        assert client.delete(stored["links"]["self"]).status_code == 204


def test_null_members_count_as_absent(client: httpx2.Client) -> None:
    side = {"vectors": rows(12).tolist(), "embedding": None, "ids": None, "groups": None}

    answer = client.post("/v1/alignments", json={"a": side, "b": side})

    assert answer.status_code == 202, answer.text
