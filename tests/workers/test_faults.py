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
from tests.workers.yard import PACE, Yard, committed_by, endings, is_alive, wait_for, wait_until_dead

#: What is promised, of native code too.
CANCELED_S = 2.0


def test_a_killed_process_is_reported_at_once_and_its_job_runs_again(yard: Yard) -> None:
    """No reconciler: the parent itself reports it."""
    yard.start_worker()
    job = yard.wait_until(yard.submit("die", once=True, by="SIGKILL"), JobStatus.SUCCEEDED)
    assert endings(job) == ["crashed", "succeeded"]
    assert [run.delivery for run in job.runs] == [1, 2]
    assert job.runs[0].ended_at is not None
    assert job.finished_at is not None
    assert (job.finished_at - job.runs[0].ended_at).total_seconds() < 1.0
    assert committed_by(job) == yard.pids(job.id)[1]


@pytest.mark.usefixtures("reconciler")
def test_the_job_of_a_killed_worker_runs_again_and_the_orphan_is_gone(yard: Yard) -> None:
    worker = yard.start_worker()
    job_id = yard.submit("sleep", once=True, seconds=60)
    orphan = yard.wait_until_begun(job_id)
    worker.kill()
    wait_until_dead(orphan)
    yard.start_worker()
    job = yard.wait_until(job_id, JobStatus.SUCCEEDED)
    assert endings(job) == ["lost", "succeeded"]
    assert committed_by(job) == yard.pids(job_id)[1]


@pytest.mark.usefixtures("reconciler")
def test_flushing_redis_loses_no_job_and_disturbs_no_running_one(yard: Yard, redis_url: str) -> None:
    yard.start_worker()
    running = yard.submit("sleep", seconds=2.5)
    yard.wait_until_begun(running)
    queued = [yard.submit("nothing") for _ in range(3)]
    with Redis.from_url(redis_url) as redis:
        redis.flushdb()
    jobs = [yard.wait_until(job_id, JobStatus.SUCCEEDED) for job_id in [running, *queued]]
    assert [endings(job) for job in jobs] == [["succeeded"]] * 4
    assert jobs[0].runs[0].delivery == 1
    assert all(job.runs[0].delivery > 1 for job in jobs[1:])
    assert [len(yard.pids(job.id)) for job in jobs] == [1, 1, 1, 1]


@pytest.mark.usefixtures("reconciler")
def test_a_job_that_was_never_enqueued_is_delivered(yard: Yard) -> None:
    yard.start_worker()
    job = yard.wait_until(yard.submit("nothing", push=False), JobStatus.SUCCEEDED)
    assert [run.delivery for run in job.runs] == [2]


@pytest.mark.usefixtures("reconciler")
def test_a_frozen_worker_is_superseded_and_its_late_result_is_fenced(yard: Yard) -> None:
    """Split brain: the parent is frozen, its process computes on and finishes after the new run was given the job."""
    frozen = yard.start_worker()
    job_id = yard.submit("sleep", once=True, seconds=4)
    late = yard.wait_until_begun(job_id)
    yard.freeze(frozen)
    yard.start_worker()
    job = yard.wait_until(job_id, JobStatus.SUCCEEDED)
    wait_until_dead(late)
    frozen.send_signal(signal.SIGCONT)
    wait_for(lambda: "result_fenced" in yard.log())
    job = yard.records.get(job_id)
    assert endings(job) == ["lost", "succeeded"]
    assert committed_by(job) == yard.pids(job_id)[1] != late


@pytest.mark.usefixtures("reconciler")
def test_a_worker_that_wakes_up_after_its_lease_kills_its_process(yard: Yard) -> None:
    frozen = yard.start_worker()
    job_id = yard.submit("sleep", once=True, seconds=60)
    late = yard.wait_until_begun(job_id)
    yard.freeze(frozen)
    yard.start_worker()
    yard.wait_until(job_id, JobStatus.SUCCEEDED)
    frozen.send_signal(signal.SIGCONT)
    wait_until_dead(late)
    assert endings(yard.records.get(job_id)) == ["lost", "succeeded"]


def test_a_canceled_running_job_is_stopped_inside_native_code(yard: Yard) -> None:
    yard.start_worker()
    job_id = yard.submit("sleep_in_native_code", seconds=60)
    process = yard.wait_until_begun(job_id)
    began = time.monotonic()
    asked = yard.records.request_cancel(job_id)
    assert (asked.status, asked.cancel_requested) == (JobStatus.RUNNING, True)
    job = yard.wait_until(job_id, JobStatus.CANCELED)
    assert time.monotonic() - began < CANCELED_S
    assert not is_alive(process)
    assert (endings(job), job.cancel_requested, job.result, job.error) == (["canceled"], False, None, None)


def test_a_stale_message_is_dropped(yard: Yard) -> None:
    job_id = yard.submit("nothing", push=False)
    assert yard.leases.redeliver([(job_id, 1)]) == [(job_id, 2)]
    yard.queue.push(job_id, 1, 60)
    yard.start_worker()
    yard.wait_until(yard.submit("nothing"), JobStatus.SUCCEEDED)
    assert yard.records.get(job_id).status is JobStatus.QUEUED
    assert yard.pids(job_id) == []


@pytest.mark.usefixtures("reconciler")
def test_a_message_delivered_a_thousand_times_runs_once(yard: Yard, reconciler: Reconciler) -> None:
    """Two workers and a second reconciler compete for the same jobs."""
    yard.start_worker()
    yard.start_worker()
    jobs = [yard.submit("nothing", push=index % 2 == 0) for index in range(20)]
    for _ in range(10):
        reconciler.cycle()
    finished = [yard.wait_until(job_id, JobStatus.SUCCEEDED) for job_id in jobs]
    assert all(endings(job) == ["succeeded"] for job in finished)
    assert all(len(yard.pids(job.id)) == 1 for job in finished)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_outage_of_redis_disturbs_no_running_job_and_loses_no_queued_one(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        socket = Path(folder) / "socket"
        redis = start_redis(socket)
        yard = Yard(database, database_url, f"unix://{socket}", tmp_path)
        reconciler = Reconciler(yard.leases, yard.queue, PACE)
        reconciler.start()
        worker = yard.start_worker()
        running = yard.submit("sleep", seconds=1.0)
        yard.wait_until_begun(running)
        queued = yard.submit("nothing")
        stop_process(redis)
        yard.wait_until(running, JobStatus.SUCCEEDED)
        submitted_meanwhile = yard.submit("nothing", push=False)
        time.sleep(1.0)
        redis = start_redis(socket)
        jobs = [yard.wait_until(job_id, JobStatus.SUCCEEDED) for job_id in (running, queued, submitted_meanwhile)]
        assert [endings(job) for job in jobs] == [["succeeded"]] * 3
        assert worker.poll() is None
        reconciler.stop()
        yard.close()
        stop_process(redis)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_worker_stops_at_once_while_redis_is_away(database: Database, database_url: str, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        redis = start_redis(Path(folder) / "socket")
        yard = Yard(database, database_url, f"unix://{folder}/socket", tmp_path)
        worker = yard.start_worker()
        yard.wait_until(yard.submit("nothing"), JobStatus.SUCCEEDED)
        stop_process(redis)
        time.sleep(0.3)
        worker.terminate()
        assert worker.wait(2.0) == 0
        yard.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_stopping_worker_finishes_its_job_and_stops_while_redis_is_unavailable(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        redis = start_redis(Path(folder) / "socket")
        yard = Yard(database, database_url, f"unix://{folder}/socket", tmp_path)
        worker = yard.start_worker()
        job_id = yard.submit("sleep", seconds=1)
        yard.wait_until_begun(job_id)
        stop_process(redis)
        worker.terminate()
        yard.wait_until(job_id, JobStatus.SUCCEEDED)
        assert worker.wait(3.0) == 0
        yard.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_worker_without_its_database_abandons_the_job(yard: Yard, database_url: str) -> None:
    """By the time the database is back, another may have the job."""
    yard.start_worker()
    job_id = yard.submit("sleep", seconds=60)
    process = yard.wait_until_begun(job_id)
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
    assert yard.records.get(job_id).status is JobStatus.RUNNING
    assert "DATABASE_LOST" in yard.log()


@pytest.mark.usefixtures("reconciler")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_full_disk_of_the_database_is_waited_for_and_the_worker_lives_on(yard: Yard, database: Database) -> None:
    """A trigger says what SQLite says then."""
    worker = yard.start_worker()
    job_id = yard.submit("sleep", seconds=0.5)
    yard.wait_until_begun(job_id)
    full = "SELECT RAISE(FAIL, 'database or disk is full')"
    with database.write() as connection:
        connection.exec_driver_sql(f"CREATE TRIGGER full BEFORE UPDATE ON jobs BEGIN {full}; END")
    time.sleep(1.0)
    with database.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER full")
    job = yard.wait_until(job_id, JobStatus.SUCCEEDED)
    assert endings(job) == ["succeeded"]
    assert worker.poll() is None
