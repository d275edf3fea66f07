"""Recovery time of a service after a fault, observed in its stores and processes."""

import time
from dataclasses import dataclass

from benchmarks.faults.live_service import LiveService, retry_read
from consilience.contract.jobs import JobStatus
from consilience.errors import Unavailable
from consilience.stores.leases import ActiveJob

LOOK_S = 0.05
LIMIT_S = 60.0


@dataclass(frozen=True)
class Recovery:
    """Seconds from the fault; None if there was no recovery within a minute."""

    jobs_s: float | None
    """Seconds until every job that was unfinished is in Redis, at a living worker, or finished."""
    whole_s: float | None
    """Seconds until every process runs and the service is ready."""
    restart_s: float | None = None
    """Seconds until the killed child has a successor; None if no child was killed."""


def find_unfinished_jobs(live: LiveService) -> list[ActiveJob]:
    """Read the unfinished jobs."""
    return list(retry_read(live.leases.find_active))


def watch(live: LiveService, victims: list[ActiveJob], began: float, word: str | None, before: set[int]) -> Recovery:
    """Wait until the service has recovered."""
    left = {victim.job_id: victim for victim in victims}
    jobs_s = whole_s = restart_s = None
    while time.monotonic() < began + LIMIT_S and (jobs_s is None or whole_s is None):
        left = _still_left(live, left)
        now = time.monotonic() - began
        if jobs_s is None and not left:
            jobs_s = now
        if word and restart_s is None and _has_successor(live, word, before):
            restart_s = now
        if whole_s is None and live.is_whole():
            whole_s = time.monotonic() - began
        time.sleep(LOOK_S)
    return Recovery(jobs_s, whole_s, restart_s)


def _still_left(live: LiveService, left: dict[str, ActiveJob]) -> dict[str, ActiveJob]:
    try:
        now = {each.job_id: each for each in live.leases.find_active()}
        waiting = live.queue.waiting()
    except Unavailable:
        return left
    return {job_id: was for job_id, was in left.items() if job_id in now and not _moves(was, now[job_id], waiting)}


def _moves(was: ActiveJob, now: ActiveJob, waiting: set[tuple[str, int]]) -> bool:
    """Return whether the job makes progress: it was delivered, claimed or updated."""
    if now.status is JobStatus.QUEUED:
        return (now.job_id, now.delivery) in waiting
    return (now.status, now.delivery, now.beat) != (was.status, was.delivery, was.beat)


def _has_successor(live: LiveService, word: str, before: set[int]) -> bool:
    now = {child.pid for child in live.children(word)}
    return bool(now - before) and len(now) == (live.workers if word == "workers" else 1)
