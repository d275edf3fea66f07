"""How long a service takes to get over a fault, seen in its stores and processes."""

import time
from dataclasses import dataclass

from benchmarks.faults.house import House, patiently
from consilience.contract.jobs import JobStatus
from consilience.errors import Unavailable
from consilience.stores.leases import Standing

LOOK_S = 0.05
LIMIT_S = 60.0


@dataclass(frozen=True)
class Recovery:
    """Seconds from the fault; None where it did not come about in a minute."""

    jobs_s: float | None
    """Until every job that was unfinished then is in Redis, at a living worker, or over."""
    whole_s: float | None
    """Until every process lives and the service is ready."""
    restart_s: float | None = None
    """Until the child that was killed has a successor; None where none was."""


def standings(house: House) -> list[Standing]:
    """The unfinished jobs."""
    return list(patiently(house.leases.unfinished))


def watch(house: House, victims: list[Standing], began: float, word: str | None, before: set[int]) -> Recovery:
    """Look until all is well again."""
    left = {victim.job_id: victim for victim in victims}
    jobs_s = whole_s = restart_s = None
    while time.monotonic() < began + LIMIT_S and (jobs_s is None or whole_s is None):
        left = _still_left(house, left)
        now = time.monotonic() - began
        if jobs_s is None and not left:
            jobs_s = now
        if word and restart_s is None and _has_successor(house, word, before):
            restart_s = now
        if whole_s is None and house.is_whole():
            whole_s = time.monotonic() - began
        time.sleep(LOOK_S)
    return Recovery(jobs_s, whole_s, restart_s)


def _still_left(house: House, left: dict[str, Standing]) -> dict[str, Standing]:
    try:
        now = {each.job_id: each for each in house.leases.unfinished()}
        waiting = house.queue.waiting()
    except Unavailable:
        return left
    return {job_id: was for job_id, was in left.items() if job_id in now and not _moves(was, now[job_id], waiting)}


def _moves(was: Standing, now: Standing, waiting: set[tuple[str, int]]) -> bool:
    """Whether the job has been seen to: delivered (again), claimed, or heard of."""
    if now.status is JobStatus.QUEUED:
        return (now.job_id, now.delivery) in waiting
    return (now.status, now.delivery, now.beat) != (was.status, was.delivery, was.beat)


def _has_successor(house: House, word: str, before: set[int]) -> bool:
    now = {child.pid for child in house.children(word)}
    return bool(now - before) and len(now) == (house.workers if word == "workers" else 1)
