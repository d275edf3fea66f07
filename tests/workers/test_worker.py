"""A real worker: what it does with jobs, signals, time limits and forged messages."""

import signal
import subprocess
import time
from pathlib import Path

import pytest
from redis import Redis
from rq import Callback, Queue
from rq.serializers import JSONSerializer

from consilience.contract.jobs import JobStatus
from tests.workers.harness import WorkerHarness, committed_by, endings, is_alive, wait_for

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_a_job_is_claimed_done_and_committed(harness: WorkerHarness) -> None:
    harness.start_worker()
    job = harness.wait_until(harness.submit("nothing"), JobStatus.SUCCEEDED)
    assert endings(job) == ["succeeded"]
    assert committed_by(job) == harness.pids(job.id)[0]
    assert job.progress is not None
    assert (job.progress.stage, job.progress.done, job.progress.total) == ("scoring", 1, 1)


def test_a_trivial_job_takes_well_under_100_ms(harness: WorkerHarness) -> None:
    """20 ms on an idle machine; the best of many, because this one may be busy."""
    harness.start_worker()

    def is_quick() -> bool:
        job = harness.wait_until(harness.submit("nothing"), JobStatus.SUCCEEDED)
        assert job.finished_at is not None
        return (job.finished_at - job.created_at).total_seconds() < 0.1

    wait_for(is_quick)


def test_nothing_of_a_finished_job_stays_in_redis(harness: WorkerHarness, redis_url: str) -> None:
    harness.start_worker()
    harness.wait_until(harness.submit("nothing"), JobStatus.SUCCEEDED)
    with Redis.from_url(redis_url) as redis:
        assert not [key for key in redis.scan_iter() if b"job_" in key or key.endswith(b"intermediate")]


def test_a_long_job_shows_its_progress_not_too_often(harness: WorkerHarness) -> None:
    harness.start_worker()
    job_id = harness.submit("sleep", seconds=1.4)
    wait_for(lambda: harness.records.get(job_id).progress is not None)
    progress = harness.records.get(job_id).progress
    assert progress is not None
    assert 0 < progress.done < 100
    assert progress.eta_s is not None
    assert progress.eta_s > 0
    job = harness.wait_until(job_id, JobStatus.SUCCEEDED)
    assert job.started_at is not None
    assert job.finished_at is not None
    looks = (job.finished_at - job.started_at).total_seconds() / 0.5
    # queued, running, a look each half second, succeeded
    assert 4 <= harness.records.version(job_id) <= 3 + looks


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV"])
def test_a_job_whose_process_always_dies_fails_after_three_times(harness: WorkerHarness, how: str) -> None:
    harness.start_worker()
    job = harness.wait_until(harness.submit("die", by=how), JobStatus.FAILED)
    assert endings(job) == ["crashed", "crashed", "crashed"]
    assert job.error is not None
    assert (job.error.code, job.error.value) == ("job-crashed", how)


def test_the_worker_outlives_the_crash_of_a_job(harness: WorkerHarness) -> None:
    worker = harness.start_worker()
    harness.wait_until(harness.submit("die", by="SIGSEGV"), JobStatus.FAILED)
    harness.wait_until(harness.submit("nothing"), JobStatus.SUCCEEDED)
    assert worker.poll() is None


def test_a_canceled_queued_job_is_never_begun(harness: WorkerHarness) -> None:
    job_id = harness.submit("nothing")
    assert harness.records.request_cancel(job_id).status is JobStatus.CANCELED
    harness.start_worker()
    harness.wait_until(harness.submit("nothing"), JobStatus.SUCCEEDED)
    assert harness.pids(job_id) == []
    assert harness.records.get(job_id).status is JobStatus.CANCELED
    assert harness.queue.length() == 0


@pytest.mark.parametrize("where", ["worker", "message"])
def test_a_job_is_stopped_at_its_time_limit_inside_native_code(harness: WorkerHarness, where: str) -> None:
    harness.start_worker(**({"CONSILIENCE_JOB_TIMEOUT_S": "0.5"} if where == "worker" else {}))
    job_id = harness.submit("sleep_in_native_code", timeout_s=60 if where == "worker" else 1, seconds=60)
    process = harness.wait_until_begun(job_id)
    job = harness.wait_until(job_id, JobStatus.FAILED)
    assert not is_alive(process)
    assert job.error is not None
    assert (job.error.code, job.error.limit) == ("job-timed-out", "0.5 s" if where == "worker" else "1 s")
    assert endings(job) == ["failed"]
    assert job.started_at is not None
    assert job.finished_at is not None
    assert (job.finished_at - job.started_at).total_seconds() < 2.0


def stop(worker: subprocess.Popen[bytes], within_s: float = 5.0) -> None:
    worker.terminate()
    assert worker.wait(within_s) == 0


def test_an_idle_worker_stops_at_once(harness: WorkerHarness) -> None:
    worker = harness.start_worker()
    harness.wait_until(harness.submit("nothing"), JobStatus.SUCCEEDED)
    stop(worker, within_s=1.0)


def test_a_stopping_worker_finishes_its_job(harness: WorkerHarness) -> None:
    worker = harness.start_worker()
    job_id = harness.submit("sleep", seconds=0.5)
    waiting = harness.submit("nothing")
    harness.wait_until_begun(job_id)
    stop(worker)
    assert endings(harness.records.get(job_id)) == ["succeeded"]
    assert harness.records.get(waiting).status is JobStatus.QUEUED


def test_a_stopping_worker_hands_a_long_job_back(harness: WorkerHarness) -> None:
    worker = harness.start_worker(CONSILIENCE_STOP_GRACE_S="0.2")
    job_id = harness.submit("sleep", once=True, seconds=60)
    process = harness.wait_until_begun(job_id)
    stop(worker)
    assert not is_alive(process)
    harness.start_worker()
    job = harness.wait_until(job_id, JobStatus.SUCCEEDED)
    assert endings(job) == ["handed-back", "succeeded"]


def test_handing_back_is_no_crash(harness: WorkerHarness) -> None:
    job_id = harness.submit("sleep", seconds=60)
    for times in range(1, 5):
        worker = harness.start_worker(CONSILIENCE_STOP_GRACE_S="0", CONSILIENCE_MAX_CRASHES="1")
        harness.wait_until_begun(job_id, times)
        stop(worker)
    assert harness.records.get(job_id).status is JobStatus.QUEUED


def test_the_second_signal_ends_the_grace(harness: WorkerHarness) -> None:
    worker = harness.start_worker()
    harness.wait_until_begun(harness.submit("sleep", seconds=60))
    worker.send_signal(signal.SIGINT)
    time.sleep(0.05)
    stop(worker, within_s=2.0)


@pytest.mark.parametrize(
    ("do", "code", "value"),
    [
        ("refuse", "unknown-layer", "7"),
        ("run_out_of_memory", "job-out-of-memory", "1 bytes planned"),
        ("break_down", "job-broken", "RuntimeError"),
    ],
)
def test_an_error_inside_a_job_is_its_end(harness: WorkerHarness, do: str, code: str, value: str) -> None:
    harness.start_worker()
    job = harness.wait_until(harness.submit(do), JobStatus.FAILED)
    assert job.error is not None
    assert (job.error.code, job.error.value) == (code, value)
    assert "secret" not in job.model_dump_json()
    assert endings(job) == ["failed"]


def test_a_job_that_leaves_a_thread_behind_does_not_hold_the_worker(harness: WorkerHarness) -> None:
    harness.start_worker()
    for _ in range(2):
        harness.wait_until(harness.submit("leave_a_thread"), JobStatus.SUCCEEDED)


def test_a_message_in_redis_cannot_run_other_code(harness: WorkerHarness, redis_url: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    call = Callback("os.system")
    job_id = harness.submit("nothing", push=False)
    with Redis.from_url(redis_url) as redis:
        queue = Queue("align", connection=redis, serializer=JSONSerializer)
        forged = {"job_id": f"{job_id}-1", "on_success": call, "on_failure": call, "on_stopped": call}
        queue.enqueue_call("os.system", args=(f"touch {trace}",), **forged)
        queue.enqueue_call("os.system", args=(f"touch {trace}",))
        queue.enqueue_call("workers.tasks.run", args=("job_x", 1), on_failure=call)
        redis.rpush("rq:queue:align", "no such: job", "job_7-1")
        redis.hset("rq:job:broken", mapping={"data": b"\x80\x04pickle", "timeout": "x"})
        redis.rpush("rq:queue:align", "broken")
        worker = harness.start_worker()
        harness.wait_until(harness.submit("nothing"), JobStatus.SUCCEEDED)
    assert worker.poll() is None
    assert not trace.exists()
    assert harness.pids(job_id) == []
