"""Process `python -m service.deliveries` beside a real service."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.service.deliveries.receivers import SECRET, Receiver
from tests.service.servers import Server, assert_problem, rows, running_beside, running_service, running_worker, upload


@pytest.fixture(scope="module")
def hooking(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a service with a worker that sends webhooks to loopback addresses, without a delivery process."""
    with running_service(
        tmp_path_factory.mktemp("hooking"),
        f"{redis_server}?db=5",
        webhook_secret=SECRET,
        webhook_allow="127.0.0.0/8, ::1/128",
        webhook_timeout_s=1,
        collect_interval_s=0.2,
        job_retention_days=0.00002,  # under two seconds
    ) as server:
        yield server


@pytest.fixture(scope="module")
def hooking_client(hooking: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=hooking.url, timeout=30) as client:
        yield client


def ask(client: httpx2.Client, url: str | None) -> dict[str, Any]:
    sides = {side: {"vectors": rows(20, seed=seed).tolist()} for seed, side in enumerate("ab")}
    answer = client.post("/v1/alignments", json={**sides, "webhook": url and {"url": url}, "metadata": {"run": 7}})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def test_a_webhook_of_a_finished_job_is_delivered(
    hooking: Server, hooking_client: httpx2.Client, receiver: Receiver
) -> None:
    job = ask(hooking_client, receiver.url)
    assert hooking_client.get(job["links"]["webhook"]).json()["status"] == "waiting"
    with running_worker(hooking), running_beside(hooking, "service.deliveries"):
        (received,) = receiver.until(1)
    assert received.is_signed()
    assert received.event["type"] == "job.succeeded"
    assert received.event["data"]["metadata"] == {"run": 7}
    assert received.event["data"]["links"] == {"self": f"/v1/jobs/{job['id']}"}


def test_a_kill_after_sending_causes_a_redelivery_with_the_same_id(
    hooking: Server, hooking_client: httpx2.Client, receiver: Receiver
) -> None:
    killed = threading.Event()

    def hold() -> int:
        killed.wait(10)  # the message is here, and the sender cannot know it yet
        return 200

    receiver.answer = hold
    job = ask(hooking_client, receiver.url)
    hooking_client.post(job["links"]["cancel"])
    with running_beside(hooking, "service.deliveries") as process:
        receiver.until(1)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    killed.set()
    assert hooking_client.get(job["links"]["webhook"]).json()["status"] == "pending"
    with running_beside(hooking, "service.deliveries"):
        first, second = receiver.until(2)[:2]
    assert (first.message_id, first.body) == (second.message_id, second.body)


def test_a_webhook_is_delivered_after_the_process_was_down(
    hooking: Server, hooking_client: httpx2.Client, receiver: Receiver
) -> None:
    jobs = [ask(hooking_client, receiver.url) for _ in range(3)]
    for job in jobs:
        hooking_client.post(job["links"]["cancel"])
    with running_beside(hooking, "service.deliveries"):
        received = receiver.until(3)
    assert {each.event["data"]["id"] for each in received} == {job["id"] for job in jobs}


def test_an_expired_job_is_deleted_and_its_sets_are_kept(hooking: Server, hooking_client: httpx2.Client) -> None:
    stored = upload(hooking_client, rows(20))
    job = ask(hooking_client, None)
    hooking_client.post(job["links"]["cancel"])
    with running_beside(hooking, "service.deliveries"):
        deadline = time.monotonic() + 60
        while hooking_client.get(job["links"]["self"]).status_code != 410:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    for link in (job["links"]["self"], job["links"]["events"], job["links"]["self"] + "/webhook"):
        assert_problem(hooking_client.get(link), 410, "expired", value=job["id"], retryable=False)
    assert_problem(hooking_client.post(job["links"]["cancel"]), 410, "expired")
    assert hooking_client.get(stored["links"]["self"]).json() == stored
    assert hooking_client.get("/v1/info").json()["limits"]["job_retention_days"] == 0.00002


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_process_at_once(hooking: Server, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "service.deliveries"], env=dict(hooking.environment), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "deliveries_ready" in process.stderr.readline()
        process.send_signal(number)
        assert process.wait(10) == 0


def start(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CONSILIENCE_")}
    own = {f"CONSILIENCE_{name.upper()}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "service.deliveries"],
        env={**environment, "CONSILIENCE_DATA_DIR": str(folder), **own},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("variable", "value", "shown"),
    [
        ("webhook_secret", "whsec_dG9vIHNob3J0", "CONSILIENCE_WEBHOOK_SECRET=(secret): "),
        ("webhook_allow", "10.0.0.0/99", "CONSILIENCE_WEBHOOK_ALLOW='10.0.0.0/99': "),
        ("job_retention_days", "-1", "CONSILIENCE_JOB_RETENTION_DAYS='-1': "),
    ],
)
def test_an_invalid_setting_ends_the_start_with_status_2(tmp_path: Path, variable: str, value: str, shown: str) -> None:
    ended = start(tmp_path, **{variable: value})
    assert ended.returncode == 2
    assert shown in ended.stderr
    assert "dG9vIHNob3J0" not in ended.stderr


def test_an_unusable_database_ends_the_start_with_status_3(tmp_path: Path) -> None:
    assert start(tmp_path, database_url="mysql://root@host/db").returncode == 3
