"""Cycles of the reconciler, with intervals of milliseconds."""

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from redis import Redis

from consilience.contract.jobs import JobStatus, Plan
from consilience.errors import Unavailable
from consilience.stores import tables
from consilience.stores.database import Database
from consilience.stores.jobs import JobRecords, _initial_values
from consilience.stores.leases import ActiveJob, Leases
from consilience.stores.queue import JobQueue
from service.reconciler import Reconciler, ReconcilerTiming

PLAN = Plan(n=4, dim_a=1, dim_b=1, cells=1, flops=1.0, bytes=1, seconds=0.0)
PACE = ReconcilerTiming(interval_s=0.05, lease_s=0.2, missing_s=0.2, max_crashes=3, job_timeout_s=60)


@pytest.fixture
def jobs(database: Database) -> JobRecords:
    return JobRecords(database)


@pytest.fixture
def leases(database: Database) -> Leases:
    return Leases(database)


@pytest.fixture
def queue(redis_url: str) -> Iterator[JobQueue]:
    queue = JobQueue(redis_url)
    yield queue
    queue.close()


@pytest.fixture
def reconciler(leases: Leases, queue: JobQueue) -> Reconciler:
    return Reconciler(leases, queue, PACE)


def add(jobs: JobRecords) -> str:
    return jobs.add("alignment", {}, PLAN, ()).job.id


def look_for(reconciler: Reconciler, seconds: float, between: Callable[[], object] = lambda: None) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        reconciler.cycle()
        between()
        time.sleep(0.02)


def test_a_job_with_a_lost_message_is_queued_as_a_new_delivery(
    jobs: JobRecords, queue: JobQueue, reconciler: Reconciler
) -> None:
    job_id = add(jobs)
    look_for(reconciler, 0.3)
    assert queue.waiting() == {(job_id, 2)}
    look_for(reconciler, 0.3)
    assert queue.waiting() == {(job_id, 2)}


def test_a_message_that_was_just_fetched_is_not_sent_again(
    jobs: JobRecords, queue: JobQueue, reconciler: Reconciler
) -> None:
    add(jobs)
    look_for(reconciler, 0.1)
    assert queue.waiting() == set()


def test_a_job_is_queued_again_in_its_own_queue(jobs: JobRecords, reconciler: Reconciler, redis_url: str) -> None:
    job_id = jobs.add("alignment", {}, PLAN, (), queue="extract").job.id
    look_for(reconciler, 0.3)
    with Redis.from_url(redis_url) as redis:
        assert redis.lrange("rq:queue:extract", 0, -1) == [f"{job_id}-2".encode()]
        assert redis.llen("rq:queue:align") == 0


def test_a_queued_job_is_not_sent_again(jobs: JobRecords, queue: JobQueue, reconciler: Reconciler) -> None:
    job_id = add(jobs)
    queue.push(job_id, 1, 60)
    look_for(reconciler, 0.4)
    assert queue.waiting() == {(job_id, 1)}


def test_an_emptied_redis_is_filled_again(
    jobs: JobRecords, queue: JobQueue, reconciler: Reconciler, redis_url: str
) -> None:
    ids = [add(jobs) for _ in range(5)]
    for job_id in ids:
        queue.push(job_id, 1, 60)
    with Redis.from_url(redis_url) as redis:
        redis.flushdb()
    look_for(reconciler, 0.3)
    assert queue.waiting() == {(job_id, 2) for job_id in ids}


def test_thousands_of_lost_messages_are_sent_again_within_seconds(
    database: Database, queue: JobQueue, reconciler: Reconciler
) -> None:
    ids = [f"job_{number:032x}" for number in range(1200)]
    shared = {"kind": "alignment", "request": {}, "plan": PLAN.model_dump(mode="json"), **_initial_values()}
    with database.write() as connection:
        connection.execute(sa.insert(tables.jobs), [{"id": each, "owner": "default", **shared} for each in ids])
    began = time.monotonic()
    look_for(reconciler, 0.4)

    assert queue.waiting() == {(each, 2) for each in ids}
    assert time.monotonic() - began < 5, "one by one it took a hundredth of a second for each"


def test_a_silent_worker_loses_its_job(
    jobs: JobRecords, leases: Leases, queue: JobQueue, reconciler: Reconciler
) -> None:
    job_id = add(jobs)
    leases.claim(job_id, 1, "w")
    look_for(reconciler, 0.3)
    job = jobs.get(job_id)
    assert (job.status, [run.ended for run in job.runs]) == (JobStatus.QUEUED, ["lost"])
    assert queue.waiting() == {(job_id, 2)}


def test_a_worker_with_heartbeats_keeps_its_job(jobs: JobRecords, leases: Leases, reconciler: Reconciler) -> None:
    job_id = add(jobs)
    leases.claim(job_id, 1, "w")
    look_for(reconciler, 0.5, between=lambda: leases.heartbeat(job_id, 1))
    assert jobs.get(job_id).status is JobStatus.RUNNING


def test_a_job_that_loses_its_worker_too_often_fails(jobs: JobRecords, leases: Leases, reconciler: Reconciler) -> None:
    job_id = add(jobs)
    for delivery in (1, 2, 3):
        leases.claim(job_id, delivery, "w")
        look_for(reconciler, 0.3)
    job = jobs.get(job_id)
    assert job.error is not None
    assert (job.status, job.error.code, job.error.value) == (JobStatus.FAILED, "job-crashed", "delivery 3")


def test_a_job_to_cancel_without_a_worker_is_canceled(
    jobs: JobRecords, leases: Leases, queue: JobQueue, reconciler: Reconciler
) -> None:
    job_id = add(jobs)
    leases.claim(job_id, 1, "w")
    jobs.request_cancel(job_id)
    look_for(reconciler, 0.3)
    assert jobs.get(job_id).status is JobStatus.CANCELED
    assert queue.waiting() == set()


def test_concurrent_reconcilers_act_once(jobs: JobRecords, leases: Leases, queue: JobQueue) -> None:
    waiting, running = add(jobs), add(jobs)
    leases.claim(running, 1, "w")
    reconcilers = [Reconciler(leases, queue, PACE) for _ in range(3)]
    for each in reconcilers:
        each.start()
    time.sleep(0.7)
    for each in reconcilers:
        each.stop()
    assert queue.waiting() == {(waiting, 2), (running, 2)}
    assert sorted(leases.find_active()) == sorted(
        [ActiveJob(waiting, JobStatus.QUEUED, 2, 0), ActiveJob(running, JobStatus.QUEUED, 2, 0)]
    )


def test_a_pause_of_the_whole_machine_loses_no_job(jobs: JobRecords, leases: Leases, reconciler: Reconciler) -> None:
    job_id = add(jobs)
    leases.claim(job_id, 1, "w")
    reconciler.cycle()
    time.sleep(0.4)
    reconciler.cycle()
    assert jobs.get(job_id).status is JobStatus.RUNNING


def test_an_unavailable_redis_changes_no_row_and_stops_no_thread(
    jobs: JobRecords, leases: Leases, queue: JobQueue, reconciler: Reconciler, redis_url: str
) -> None:
    job_id = add(jobs)
    with Redis.from_url(redis_url) as redis:
        server = redis.info("server")["process_id"]
    os.kill(server, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable):
            reconciler.cycle()
        reconciler.start()
        time.sleep(0.7)
    finally:
        os.kill(server, signal.SIGCONT)
    assert leases.find_active() == [ActiveJob(job_id, JobStatus.QUEUED, 1, 0)]
    ends = time.monotonic() + 5
    while queue.waiting() != {(job_id, 2)}:
        assert time.monotonic() < ends
        time.sleep(0.02)
    reconciler.stop()
