"""Loss of Redis: accepted jobs are kept, and reading works."""

import time
from pathlib import Path

import httpx2

from tests.conftest import start_redis, stop_process
from tests.service.servers import assert_problem, rows, running_service, running_worker, upload

#: The reconciler waits 3 s before it thinks a message missing; the rest is for a busy machine.
DELIVERED_S = 30.0


def test_jobs_accepted_without_redis_run_when_it_is_back(tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    redis = start_redis(socket)
    with (
        running_service(tmp_path / "data", f"unix://{socket}") as server,
        running_worker(server),
        httpx2.Client(base_url=server.url, timeout=30) as client,
    ):
        stored = upload(client, rows(40))
        body = {"a": {"embedding": stored["id"]}, "b": {"embedding": stored["id"]}}
        early = client.post("/v1/alignments", json=body, headers={"prefer": "wait=30"}).json()
        assert early["status"] == "succeeded"
        assert client.get("/readyz").status_code == 200
        stop_process(redis)

        away = client.get("/readyz")
        accepted = [client.post("/v1/alignments", json={**body, "seed": seed}) for seed in range(3)]
        canceled = client.post(accepted[2].json()["links"]["cancel"])

        assert "redis" in assert_problem(away, 503, "unavailable", retryable=True)["value"]
        assert [answer.status_code for answer in accepted] == [202] * 3
        assert canceled.json()["status"] == "canceled"
        assert client.get("/livez").status_code == 200
        assert client.get(stored["links"]["self"]).json() == stored
        assert client.get(early["links"]["self"]).json() == early
        assert len(client.get("/v1/jobs").json()["data"]) == 4

        redis = start_redis(socket)
        back = time.monotonic()
        try:
            for answer in accepted[:2]:
                job = client.get(answer.headers["location"], headers={"prefer": "wait=20"}).json()
                assert (job["status"], job["result"]["scores"][0]["value"]) == ("succeeded", 1.0)
            assert time.monotonic() - back < DELIVERED_S
            assert client.get(canceled.json()["links"]["self"]).json() == canceled.json()
            assert client.get("/readyz").status_code == 200
        finally:
            stop_process(redis)
