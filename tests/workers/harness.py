"""A harness of real worker processes for tests."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from consilience.contract.jobs import Job, JobStatus, Plan
from consilience.stores.database import Database
from consilience.stores.jobs import JobRecords
from consilience.stores.leases import Leases
from consilience.stores.queue import JobQueue
from service.reconciler import ReconcilerTiming

SCRIPTED_WORKER = Path(__file__).parent / "scripted_worker.py"
ROOT = Path(__file__).parents[2]
PLAN = Plan(n=4, dim_a=1, dim_b=1, cells=1, flops=1.0, bytes=1, seconds=0.0)
#: The default settings, three times as fast: a busy machine must not lose a lease by itself.
FAST = {"CONSILIENCE_BEAT_S": "0.2", "CONSILIENCE_LEASE_S": "2", "CONSILIENCE_STOP_GRACE_S": "10"}
TIMING = ReconcilerTiming(interval_s=0.1, lease_s=2.0, missing_s=1.3)


class WorkerHarness:
    """Workers, the queue and the records of one test."""

    def __init__(self, database: Database, database_url: str, redis_url: str, folder: Path) -> None:
        self.records, self.leases = JobRecords(database), Leases(database)
        self.queue = JobQueue(redis_url)
        self._environment = {
            "CONSILIENCE_DATABASE_URL": database_url,
            "CONSILIENCE_REDIS_URL": redis_url,
            "PYTHONPATH": str(ROOT),
        }
        self._folder = folder
        self._workers: list[subprocess.Popen[bytes]] = []

    def start_worker(self, **settings: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **FAST, **self._environment, **settings}
        with (self._folder / "worker.log").open("ab") as log:
            worker = subprocess.Popen([sys.executable, SCRIPTED_WORKER], env=environment, stderr=log, stdout=log)
        self._workers.append(worker)
        return worker

    def submit(self, do: str, *, once: bool = False, timeout_s: float = 60, push: bool = True, **options: Any) -> str:
        log = self._folder / f"pids-{time.monotonic_ns()}"
        request = {"do": do, "once": once, "options": options, "log": str(log)}
        job, delivery, _ = self.records.add("alignment", request, PLAN, ())
        if push:
            self.queue.push(job.id, delivery, timeout_s)
        return job.id

    def pids(self, job_id: str) -> list[int]:
        """Return the ids of the processes that have begun this job."""
        log = Path(self.records.get(job_id).request["log"])
        return [int(line) for line in log.read_text().splitlines()] if log.exists() else []

    def wait_until_begun(self, job_id: str, times: int = 1) -> int:
        """Wait for a run to begin and return the process id of the newest one."""
        wait_for(lambda: len(self.pids(job_id)) >= times)
        return self.pids(job_id)[-1]

    def freeze(self, worker: subprocess.Popen[bytes]) -> None:
        """Stop a worker right after a heartbeat, when it does not hold the write lock of SQLite."""
        before = self.leases.find_active()
        wait_for(lambda: self.leases.find_active() != before)
        worker.send_signal(signal.SIGSTOP)

    def wait_until(self, job_id: str, status: JobStatus) -> Job:
        try:
            wait_for(lambda: self.records.get(job_id).status is status)
        except AssertionError:
            raise AssertionError(f"{self.records.get(job_id)!r}\n{self.log()}") from None
        return self.records.get(job_id)

    def log(self) -> str:
        return (self._folder / "worker.log").read_text()

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait()
        self.queue.close()


def wait_for(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"the condition was not met within {timeout_s} s"
        time.sleep(0.01)


def endings(job: Job) -> list[str | None]:
    return [run.ended for run in job.runs]


def committed_by(job: Job) -> int:
    """Return the id of the process that committed the result."""
    assert job.result is not None
    return int(job.result.versions["pid"])


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_dead(pid: int) -> None:
    wait_for(lambda: not is_alive(pid), timeout_s=5.0)
