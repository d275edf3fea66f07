import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import psutil

from consilience import __version__
from tests.service.servers import Server, assert_problem, environment_of, running_service

#: The project's own goals; the machine that runs the tests may be busy, so time has some room.
READY_S = 1.5
RESIDENT_BYTES = 150e6


def test_the_service_starts_fast_and_uses_little_memory(redis_server: str, tmp_path: Path) -> None:
    cpu = psutil.Process
    with running_service(tmp_path, f"{redis_server}?db=8") as server:
        assert httpx2.get(server.url + "/readyz").json()["status"] == "ready"
        used = cpu(server.process.pid).cpu_times()
        assert used.user + used.system < READY_S
        assert server.memory_bytes("VmRSS") < RESIDENT_BYTES


def test_liveness_and_readiness_are_reported(client: httpx2.Client) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    checks = {"database": "ok", "blobs": "ok", "redis": "ok"}
    assert client.get("/readyz").json() == client.get("/healthz").json() == {"status": "ready", "checks": checks}


def test_the_service_is_not_ready_without_its_data_folder(redis_server: str, tmp_path: Path) -> None:
    with running_service(tmp_path, f"{redis_server}?db=8") as server:
        (tmp_path / "incoming").rmdir()

        answer = httpx2.get(server.url + "/readyz")

        assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[-1]) == (503, "unavailable")
        assert "blobs" in answer.json()["value"]


def test_the_service_is_not_ready_without_its_database(redis_server: str, tmp_path: Path) -> None:
    with running_service(tmp_path, f"{redis_server}?db=8") as server:
        for file in tmp_path.glob("consilience.db*"):
            file.write_bytes(b"no database any more" * 1000)

        answer = httpx2.get(server.url + "/readyz")
        alive = httpx2.get(server.url + "/livez")

    value = assert_problem(answer, 503, "unavailable", retryable=True)["value"]
    assert [each.partition(":")[0] for each in value.split("; ")] == ["database"]
    assert alive.status_code == 200


def test_the_limits_are_published(redis_server: str, tmp_path: Path) -> None:
    with running_service(tmp_path, f"{redis_server}?db=8", upload_limit_bytes=12345, job_timeout_s=7) as server:
        info = httpx2.get(server.url + "/v1/info").json()

    assert (info["version"], info["api"]) == (__version__, "v1")
    assert (info["limits"]["upload_limit_bytes"], info["limits"]["job_timeout_s"]) == (12345, 7)
    assert "application/x-safetensors" in info["formats"]


def test_the_catalogue_shows_each_metric_with_its_options(client: httpx2.Client) -> None:
    cards = {card["name"]: card for card in client.get("/v1/metrics").json()["data"]}

    assert list(cards["mutual_knn"]["options"]) == ["k"]
    assert (cards["cka"]["low"], cards["cka"]["high"], cards["cka"]["direction"]) == (-1, 1, "similarity")


def test_the_documentation_is_served(client: httpx2.Client) -> None:
    page = client.get("/docs")

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>Consilience API</title>" in page.text
    assert 'href="/openapi.json"' in page.text


def test_each_request_is_logged_as_one_json_line_without_values(server: Server, client: httpx2.Client) -> None:
    client.get(f"/v1/jobs/job_{'f' * 32}?secret=word", headers={"x-request-id": "trace-7"})

    deadline = time.monotonic() + 5
    while not (lines := [line for line in server.log() if line.get("request_id") == "trace-7"]):
        assert time.monotonic() < deadline
    [line] = lines
    assert (line["method"], line["route"], line["status"]) == ("GET", "/v1/jobs/{job_id}", 404)
    assert line["duration_ms"] >= 0
    assert "word" not in str(line)


def test_an_invalid_request_id_is_replaced(client: httpx2.Client) -> None:
    for strange in ("with space", "x" * 65, '"quoted"'):
        answer = client.get("/livez", headers={"x-request-id": strange})
        assert len(answer.headers["x-request-id"]) == 32


def test_waiting_requests_do_not_delay_the_shutdown(redis_server: str, tmp_path: Path) -> None:
    with running_service(tmp_path, f"{redis_server}?db=8", shutdown_limit_s=1) as server:
        vectors = [[float(i), 1.0] for i in range(12)]
        job = httpx2.post(
            server.url + "/v1/alignments", json={"a": {"vectors": vectors}, "b": {"vectors": vectors}}
        ).json()
        with httpx2.stream("GET", server.url + job["links"]["events"]):
            started = time.monotonic()
            server.process.terminate()
            server.process.wait(timeout=10)

    assert time.monotonic() - started < 4


def start(folder: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    environment = environment_of(folder, "unix:///nothing", **settings)
    return subprocess.run(
        [sys.executable, "-m", "service"], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def test_an_invalid_setting_ends_the_start_with_its_name(tmp_path: Path) -> None:
    finished = start(tmp_path, port="many")

    assert finished.returncode == 2
    assert "CONSILIENCE_PORT='many'" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_busy_port_ends_the_start_with_its_number(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = start(tmp_path, port=port)

    assert finished.returncode != 0
    assert str(port) in finished.stderr


def test_stores_that_cannot_be_opened_end_the_start_without_a_secret(tmp_path: Path) -> None:
    finished = start(tmp_path, database_url="mysql://user:hunter2@host/name")

    assert finished.returncode != 0
    assert "not one of SQLite or PostgreSQL" in finished.stderr
    assert "hunter2" not in finished.stderr


def test_listening_beyond_loopback_without_keys_logs_a_warning(redis_server: str, tmp_path: Path) -> None:
    settings = {"host": "0.0.0.0", "allow_unauthenticated": "true"}  # noqa: S104 - the warning is the point
    with running_service(tmp_path, f"{redis_server}?db=8", **settings) as server:
        assert any(line["event"] == "no_authentication" for line in server.log())
    assert os.environ.get("CONSILIENCE_HOST") is None
