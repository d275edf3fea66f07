"""Waiting for a job inside a request: `Prefer: wait`, ETags and the event stream."""

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Sequence

from fastapi.concurrency import run_in_threadpool

from consilience.contract.jobs import Job
from consilience.stores.jobs import JobRecords

#: Seconds between two looks at a job: about a tenth of the time waited so far, so that looking adds a twentieth.
POLL_FIRST_S = 0.01
POLL_LONGEST_S = 0.25
POLL_GROWTH = 1.1

WAIT = re.compile(r"""\bwait\s*=\s*"?(\d{1,9})""", re.IGNORECASE)


def parse_wait(prefer: Sequence[str] | None, limit_s: float) -> float | None:
    """Seconds to wait; None where the client does not ask for it. RFC 7240: what is not understood is ignored."""
    found = WAIT.search(",".join(prefer or ()))
    return min(float(found[1]), limit_s) if found else None


def etag_of(version: int) -> str:
    """The strong ETag of a job's version."""
    return f'"{version}"'


def matches(if_none_match: str | None, version: int) -> bool:
    """Whether the client already has this version (RFC 9110, 13.1.2: weak comparison)."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag_of(version) in tags


async def next_version(jobs: JobRecords, job_id: str, seen: int, deadline: float) -> int:
    """The job's version as soon as it is not `seen`; at the deadline (monotonic seconds), `seen` itself."""
    pause = POLL_FIRST_S
    while (version := await run_in_threadpool(jobs.version, job_id)) == seen:
        if time.monotonic() + pause > deadline:
            break
        await asyncio.sleep(pause)
        pause = min(pause * POLL_GROWTH, POLL_LONGEST_S)
    return version


async def wait_until_finished(jobs: JobRecords, job_id: str, seconds: float) -> tuple[int, Job]:
    """The job and its version when it has finished, or as they stand after the seconds."""
    deadline = time.monotonic() + seconds
    job, version = await run_in_threadpool(jobs.versioned, job_id)
    while not job.finished and time.monotonic() < deadline:
        if await next_version(jobs, job_id, version, deadline) == version:
            break
        job, version = await run_in_threadpool(jobs.versioned, job_id)
    return version, job


async def follow(jobs: JobRecords, job_id: str, seen: int | None) -> AsyncIterator[tuple[int, Job]]:
    """Each version of a job, the present one first unless it is `seen`; ends when the job has finished."""
    job, version = await run_in_threadpool(jobs.versioned, job_id)
    if version != seen:
        yield version, job
    while not job.finished:
        await next_version(jobs, job_id, version, math.inf)
        job, version = await run_in_threadpool(jobs.versioned, job_id)
        yield version, job
