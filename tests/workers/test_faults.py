"""Killed processes, killed and frozen workers, an emptied Redis, double deliveries: each job ends once, on every database."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from redis import Redis

from consilience.contract.jobs import Job, JobStatus

if TYPE_CHECKING:
    from conftest import Yard

    from service.reconciler import Reconciler


def endings(job: Job) -> list[str | None]:
    return [run.ended for run in job.runs]


def committed_by(job: Job) -> int:
    assert job.result is not None
    return int(job.result.versions["pid"])


def is_alive(pid: int) -> bool:
    import psutil

    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_until_dead(pid: int, within_s: float = 5.0) -> float:
    began = time.monotonic()
    while is_alive(pid):
        assert time.monotonic() - began < within_s, f"{pid} lives on"
        time.sleep(0.005)
    return time.monotonic() - began


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
    running = yard.submit("sleep", seconds=1.5)
    yard.wait_until_begun(running)
    queued = [yard.submit("nothing") for _ in range(3)]
    with Redis.from_url(redis_url) as redis:
        redis.flushall()
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
    job_id = yard.submit("sleep", once=True, seconds=2.5)
    late = yard.wait_until_begun(job_id)
    frozen.send_signal(signal.SIGSTOP)
    yard.start_worker()
    job = yard.wait_until(job_id, JobStatus.SUCCEEDED)
    wait_until_dead(late)
    frozen.send_signal(signal.SIGCONT)
    yard.wait_for(lambda: "result_fenced" in yard.log())
    job = yard.records.get(job_id)
    assert endings(job) == ["lost", "succeeded"]
    assert committed_by(job) == yard.pids(job_id)[1] != late


@pytest.mark.usefixtures("reconciler")
def test_a_worker_that_wakes_up_after_its_lease_kills_its_process(yard: Yard) -> None:
    frozen = yard.start_worker()
    job_id = yard.submit("sleep", once=True, seconds=60)
    late = yard.wait_until_begun(job_id)
    frozen.send_signal(signal.SIGSTOP)
    yard.start_worker()
    yard.wait_until(job_id, JobStatus.SUCCEEDED)
    frozen.send_signal(signal.SIGCONT)
    wait_until_dead(late)
    assert endings(yard.records.get(job_id)) == ["lost", "succeeded"]


def test_a_canceled_running_job_is_stopped_inside_native_code(yard: Yard) -> None:
    yard.start_worker()
    job_id = yard.submit("sleep_in_native_code", seconds=60)
    process = yard.wait_until_begun(job_id)
    asked = yard.records.request_cancel(job_id)
    assert (asked.status, asked.cancel_requested) == (JobStatus.RUNNING, True)
    job = yard.wait_until(job_id, JobStatus.CANCELED)
    assert not is_alive(process)
    assert (endings(job), job.cancel_requested, job.result, job.error) == (["canceled"], False, None, None)


def test_a_stale_message_is_dropped(yard: Yard) -> None:
    job_id = yard.submit("nothing", push=False)
    assert yard.leases.redeliver(job_id, 1) == 2
    yard.queue.push(job_id, 1, 60)
    yard.start_worker()
    yard.wait_until(yard.submit("nothing"), JobStatus.SUCCEEDED)
    assert yard.records.get(job_id).status is JobStatus.QUEUED
    assert yard.pids(job_id) == []


@pytest.mark.usefixtures("reconciler")
def test_a_thousandfold_delivery_is_one_run(yard: Yard, reconciler: Reconciler) -> None:
    """Two workers and a second reconciler compete for the same jobs."""
    yard.start_worker()
    yard.start_worker()
    jobs = [yard.submit("nothing", push=index % 2 == 0) for index in range(20)]
    for _ in range(10):
        reconciler.cycle()
    finished = [yard.wait_until(job_id, JobStatus.SUCCEEDED) for job_id in jobs]
    assert all(endings(job) == ["succeeded"] for job in finished)
    assert all(len(yard.pids(job.id)) == 1 for job in finished)
