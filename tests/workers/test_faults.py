"""Killed processes, killed and frozen workers, an emptied Redis, double deliveries: each job ends once, on every database."""

import signal
import tempfile
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from redis import Redis

from consilience.contract.jobs import JobStatus
from consilience.stores.database import Database
from service.reconciler import Reconciler
from tests.conftest import start_redis, stop_process
from tests.workers.harness import TIMING, WorkerHarness, committed_by, endings, is_alive, wait_for, wait_until_dead

#: What is promised, of native code too.
CANCELED_S = 2.0


def test_a_killed_process_is_reported_at_once_and_its_job_runs_again(harness: WorkerHarness) -> None:
    """No reconciler: the parent itself reports it."""
    harness.start_worker()
    job = harness.wait_until(harness.submit("die", once=True, by="SIGKILL"), JobStatus.SUCCEEDED)
    assert endings(job) == ["crashed", "succeeded"]
    assert [run.delivery for run in job.runs] == [1, 2]
    assert job.runs[0].ended_at is not None
    assert job.finished_at is not None
    assert (job.finished_at - job.runs[0].ended_at).total_seconds() < 1.0
    assert committed_by(job) == harness.pids(job.id)[1]


@pytest.mark.usefixtures("reconciler")
def test_the_job_of_a_killed_worker_runs_again_and_the_orphan_is_gone(harness: WorkerHarness) -> None:
    worker = harness.start_worker()
    job_id = harness.submit("sleep", once=True, seconds=60)
    orphan = harness.wait_until_begun(job_id)
    worker.kill()
    wait_until_dead(orphan)
    harness.start_worker()
    job = harness.wait_until(job_id, JobStatus.SUCCEEDED)
    assert endings(job) == ["lost", "succeeded"]
    assert committed_by(job) == harness.pids(job_id)[1]


@pytest.mark.usefixtures("reconciler")
def test_flushing_redis_loses_no_job_and_disturbs_no_running_one(harness: WorkerHarness, redis_url: str) -> None:
    harness.start_worker()
    running = harness.submit("sleep", seconds=2.5)
    harness.wait_until_begun(running)
    queued = [harness.submit("nothing") for _ in range(3)]
    with Redis.from_url(redis_url) as redis:
        redis.flushdb()
    jobs = [harness.wait_until(job_id, JobStatus.SUCCEEDED) for job_id in [running, *queued]]
    assert [endings(job) for job in jobs] == [["succeeded"]] * 4
    assert jobs[0].runs[0].delivery == 1
    assert all(job.runs[0].delivery > 1 for job in jobs[1:])
    assert [len(harness.pids(job.id)) for job in jobs] == [1, 1, 1, 1]


@pytest.mark.usefixtures("reconciler")
def test_a_job_that_was_never_enqueued_is_delivered(harness: WorkerHarness) -> None:
    harness.start_worker()
    job = harness.wait_until(harness.submit("nothing", push=False), JobStatus.SUCCEEDED)
    assert [run.delivery for run in job.runs] == [2]


@pytest.mark.usefixtures("reconciler")
def test_a_frozen_worker_is_superseded_and_its_late_result_is_fenced(harness: WorkerHarness) -> None:
    """Split brain: the parent is frozen, its process computes on and finishes after the new run was given the job."""
    frozen = harness.start_worker()
    job_id = harness.submit("sleep", once=True, seconds=4)
    late = harness.wait_until_begun(job_id)
    harness.freeze(frozen)
    harness.start_worker()
    job = harness.wait_until(job_id, JobStatus.SUCCEEDED)
    wait_until_dead(late)
    frozen.send_signal(signal.SIGCONT)
    wait_for(lambda: "result_fenced" in harness.log())
    job = harness.records.get(job_id)
    assert endings(job) == ["lost", "succeeded"]
    assert committed_by(job) == harness.pids(job_id)[1] != late


@pytest.mark.usefixtures("reconciler")
def test_a_worker_that_wakes_up_after_its_lease_kills_its_process(harness: WorkerHarness) -> None:
    frozen = harness.start_worker()
    job_id = harness.submit("sleep", once=True, seconds=60)
    late = harness.wait_until_begun(job_id)
    harness.freeze(frozen)
    harness.start_worker()
    harness.wait_until(job_id, JobStatus.SUCCEEDED)
    frozen.send_signal(signal.SIGCONT)
    wait_until_dead(late)
    assert endings(harness.records.get(job_id)) == ["lost", "succeeded"]


def test_a_canceled_running_job_is_stopped_inside_native_code(harness: WorkerHarness) -> None:
    harness.start_worker()
    job_id = harness.submit("sleep_in_native_code", seconds=60)
    process = harness.wait_until_begun(job_id)
    began = time.monotonic()
    asked = harness.records.request_cancel(job_id)
    assert (asked.status, asked.cancel_requested) == (JobStatus.RUNNING, True)
    job = harness.wait_until(job_id, JobStatus.CANCELED)
    assert time.monotonic() - began < CANCELED_S
    assert not is_alive(process)
    assert (endings(job), job.cancel_requested, job.result, job.error) == (["canceled"], False, None, None)


def test_a_stale_message_is_dropped(harness: WorkerHarness) -> None:
    job_id = harness.submit("nothing", push=False)
    assert harness.leases.redeliver([(job_id, 1)]) == [(job_id, 2)]
    harness.queue.push(job_id, 1, 60)
    harness.start_worker()
    harness.wait_until(harness.submit("nothing"), JobStatus.SUCCEEDED)
    assert harness.records.get(job_id).status is JobStatus.QUEUED
    assert harness.pids(job_id) == []


@pytest.mark.usefixtures("reconciler")
def test_a_message_delivered_a_thousand_times_runs_once(harness: WorkerHarness, reconciler: Reconciler) -> None:
    """Two workers and a second reconciler compete for the same jobs."""
    harness.start_worker()
    harness.start_worker()
    jobs = [harness.submit("nothing", push=index % 2 == 0) for index in range(20)]
    for _ in range(10):
        reconciler.cycle()
    finished = [harness.wait_until(job_id, JobStatus.SUCCEEDED) for job_id in jobs]
    assert all(endings(job) == ["succeeded"] for job in finished)
    assert all(len(harness.pids(job.id)) == 1 for job in finished)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_outage_of_redis_disturbs_no_running_job_and_loses_no_queued_one(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        socket = Path(folder) / "socket"
        redis = start_redis(socket)
        harness = WorkerHarness(database, database_url, f"unix://{socket}", tmp_path)
        reconciler = Reconciler(harness.leases, harness.queue, TIMING)
        reconciler.start()
        worker = harness.start_worker()
        running = harness.submit("sleep", seconds=1.0)
        harness.wait_until_begun(running)
        queued = harness.submit("nothing")
        stop_process(redis)
        harness.wait_until(running, JobStatus.SUCCEEDED)
        submitted_meanwhile = harness.submit("nothing", push=False)
        time.sleep(1.0)
        redis = start_redis(socket)
        jobs = [harness.wait_until(job_id, JobStatus.SUCCEEDED) for job_id in (running, queued, submitted_meanwhile)]
        assert [endings(job) for job in jobs] == [["succeeded"]] * 3
        assert worker.poll() is None
        reconciler.stop()
        harness.close()
        stop_process(redis)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_worker_stops_at_once_while_redis_is_away(database: Database, database_url: str, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        redis = start_redis(Path(folder) / "socket")
        harness = WorkerHarness(database, database_url, f"unix://{folder}/socket", tmp_path)
        worker = harness.start_worker()
        harness.wait_until(harness.submit("nothing"), JobStatus.SUCCEEDED)
        stop_process(redis)
        time.sleep(0.3)
        worker.terminate()
        assert worker.wait(2.0) == 0
        harness.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_stopping_worker_finishes_its_job_and_stops_while_redis_is_unavailable(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        redis = start_redis(Path(folder) / "socket")
        harness = WorkerHarness(database, database_url, f"unix://{folder}/socket", tmp_path)
        worker = harness.start_worker()
        job_id = harness.submit("sleep", seconds=1)
        harness.wait_until_begun(job_id)
        stop_process(redis)
        worker.terminate()
        harness.wait_until(job_id, JobStatus.SUCCEEDED)
        assert worker.wait(3.0) == 0
        harness.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_worker_without_its_database_abandons_the_job(harness: WorkerHarness, database_url: str) -> None:
    """By the time the database is back, another may have the job."""
    harness.start_worker()
    job_id = harness.submit("sleep", seconds=60)
    process = harness.wait_until_begun(job_id)
    url = sa.make_url(database_url)
    engine = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS false")
        connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
            {"name": url.database},
        )
        wait_until_dead(process)
        connection.exec_driver_sql(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS true")
    engine.dispose()
    assert harness.records.get(job_id).status is JobStatus.RUNNING
    assert "DATABASE_LOST" in harness.log()


@pytest.mark.usefixtures("reconciler")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_full_disk_of_the_database_is_waited_for_and_the_worker_lives_on(
    harness: WorkerHarness, database: Database
) -> None:
    """A trigger says what SQLite says then."""
    worker = harness.start_worker()
    job_id = harness.submit("sleep", seconds=0.5)
    harness.wait_until_begun(job_id)
    full = "SELECT RAISE(FAIL, 'database or disk is full')"
    with database.write() as connection:
        connection.exec_driver_sql(f"CREATE TRIGGER full BEFORE UPDATE ON jobs BEGIN {full}; END")
    time.sleep(1.0)
    with database.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER full")
    job = harness.wait_until(job_id, JobStatus.SUCCEEDED)
    assert endings(job) == ["succeeded"]
    assert worker.poll() is None
