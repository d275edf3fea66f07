"""One line for each thing that happens to a job, and no other line than JSON."""

import json
import signal
from typing import Any

import pytest
from structlog.testing import capture_logs

from consilience.contract.jobs import JobStatus
from service.reconciler import Reconciler
from tests.workers.harness import TIMING, WorkerHarness, wait_for


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """What is logged does not depend on the database."""
    return sqlite_url


def lines(harness: WorkerHarness, job_id: str) -> list[dict[str, Any]]:
    every = [json.loads(line) for line in harness.log().splitlines()]
    return [line for line in every if line.get("job") == job_id]


def events(harness: WorkerHarness, job_id: str) -> list[tuple[str, int]]:
    return [(line["event"], line["delivery"]) for line in lines(harness, job_id)]


def wait_for_event(harness: WorkerHarness, job_id: str, event: str) -> dict[str, Any]:
    """The line, which may come after the change that it is about."""
    wait_for(lambda: f'"event": "{event}"' in harness.log())
    return next(line for line in lines(harness, job_id) if line["event"] == event)


def test_a_job_that_succeeds_or_fails_is_started_and_ended_with_its_seconds(harness: WorkerHarness) -> None:
    harness.start_worker()
    good, refused = harness.submit("sleep", seconds=0.2), harness.submit("refuse")
    harness.wait_until(refused, JobStatus.FAILED)

    failed = wait_for_event(harness, refused, "job_failed")
    assert events(harness, good) == [("job_started", 1), ("job_succeeded", 1)]
    assert events(harness, refused) == [("job_started", 1), ("job_failed", 1)]
    assert failed["error"] == "unknown-layer"
    started, done = lines(harness, good)
    assert started["waited_s"] >= 0
    assert 0.2 <= done["seconds"] < 10


def test_a_job_that_always_crashes_is_requeued_and_then_failed(harness: WorkerHarness) -> None:
    harness.start_worker(CONSILIENCE_MAX_CRASHES="2")
    job_id = harness.submit("die", by="SIGSEGV")
    harness.wait_until(job_id, JobStatus.FAILED)

    wait_for_event(harness, job_id, "job_failed")
    assert events(harness, job_id) == [
        *(("job_started", 1), ("job_crashed", 1), ("job_requeued", 2)),
        *(("job_started", 2), ("job_crashed", 2), ("job_failed", 2)),
    ]
    assert {line["exit"] for line in lines(harness, job_id) if line["event"] == "job_crashed"} == {"SIGSEGV"}


def test_a_canceled_job_is_stopped_and_canceled(harness: WorkerHarness) -> None:
    harness.start_worker()
    job_id = harness.submit("sleep", seconds=60)
    harness.wait_until_begun(job_id)
    harness.records.request_cancel(job_id)

    assert wait_for_event(harness, job_id, "job_canceled")["seconds"] < 60
    assert events(harness, job_id) == [("job_started", 1), ("job_stopped", 1), ("job_canceled", 1)]


def test_a_job_that_takes_too_long_has_failed(harness: WorkerHarness) -> None:
    harness.start_worker()
    job_id = harness.submit("sleep", timeout_s=1, seconds=60)

    assert wait_for_event(harness, job_id, "job_failed")["error"] == "job-timed-out"


def test_a_job_that_is_handed_back_is_requeued(harness: WorkerHarness) -> None:
    worker = harness.start_worker(CONSILIENCE_STOP_GRACE_S="0")
    job_id = harness.submit("sleep", seconds=60)
    harness.wait_until_begun(job_id)
    worker.terminate()

    assert wait_for_event(harness, job_id, "job_requeued")["reason"] == "handed_back"
    assert ("job_requeued", 2) in events(harness, job_id)


def test_a_fault_is_one_line_with_its_trace_and_no_values(harness: WorkerHarness) -> None:
    harness.start_worker()
    job_id = harness.submit("break_down")
    harness.wait_until(job_id, JobStatus.FAILED)

    fault = wait_for_event(harness, job_id, "job_fault")
    assert fault["exception"][0]["exc_type"] == "RuntimeError"
    assert not any(frame.get("locals") for frame in fault["exception"][0]["frames"])


def test_the_reconciler_says_what_becomes_of_a_lost_job(harness: WorkerHarness) -> None:
    worker = harness.start_worker()
    job_id = harness.submit("sleep", seconds=60)
    harness.wait_until_begun(job_id)
    worker.send_signal(signal.SIGKILL)

    with capture_logs() as logged:
        reconciler = Reconciler(harness.leases, harness.queue, TIMING)
        reconciler.start()
        try:
            harness.wait_until(job_id, JobStatus.QUEUED)
            wait_for(lambda: any(line["event"] == "job_requeued" for line in logged))
        finally:
            reconciler.stop()

    said = [(line["event"], line["delivery"]) for line in logged if line.get("job") == job_id]
    assert said == [("job_crashed", 1), ("job_requeued", 2)]
