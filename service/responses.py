"""Answers that are jobs, the same for every kind of request."""

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

from anyio.to_thread import run_sync
from fastapi import Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from consilience.contract.jobs import Job, Plan
from consilience.errors import UnsupportedFormat
from consilience.stores.jobs import JobRecords
from service.deps import ServiceContext
from service.multipart import JSON
from service.problems import RETRY_AFTER_S, TIMEOUT_RESPONSE
from service.request_body import BodyLimits, media_type_of, parse_json, receive_bytes

FORMAT = Query(
    alias="format",
    description="Format of the response. The default is the first supported format in the header `Accept`.",
)
#: Answers differ by who asks and by what it accepts.
NEGOTIATED_HEADERS = {"Cache-Control": "private, no-cache", "Vary": "Accept"}

_Format = TypeVar("_Format", bound=str)


def negotiate(accept: str | None, forms: Mapping[str, _Format]) -> _Format:
    """The first of the media types that a client accepts and that there is; the first of all where it accepts anything."""
    for word in (accept or "").split(","):
        if (form := forms.get(word.partition(";")[0].strip().lower())) is not None:
            return form
    return next(iter(forms.values()))


#: Seconds between two looks at a job: about a tenth of the time waited so far, so that looking adds a twentieth.
POLL_MIN_S = 0.01
POLL_MAX_S = 0.25
POLL_GROWTH = 1.1

WAIT = re.compile(r"""\bwait\s*=\s*"?(\d{1,9})""", re.IGNORECASE)


def parse_wait(prefer: Sequence[str] | None, limit_s: float) -> float | None:
    """Seconds to wait; None where the client does not ask for it. RFC 7240: what is not understood is ignored."""
    found = WAIT.search(",".join(prefer or ()))
    return min(float(found[1]), limit_s) if found else None


def format_etag(version: int) -> str:
    """The strong ETag of a job's version."""
    return f'"{version}"'


def matches(if_none_match: str | None, version: int) -> bool:
    """Whether the client already has this version (RFC 9110, 13.1.2: weak comparison)."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or format_etag(version) in tags


async def next_version(jobs: JobRecords, job_id: str, seen: int, deadline: float) -> int:
    """The job's version as soon as it is not `seen`; at the deadline (monotonic seconds), `seen` itself."""
    pause = POLL_MIN_S
    while (version := await run_in_threadpool(jobs.version, job_id)) == seen:
        if time.monotonic() + pause > deadline:
            break
        await asyncio.sleep(pause)
        pause = min(pause * POLL_GROWTH, POLL_MAX_S)
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


#: A JSON body up to this size names its sides; it need not wait behind uploads that are being parsed.
SMALL_BODY_BYTES = 65_536

#: Besides 202, what a wish for a job is answered with.
JOB_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The finished job if `Prefer: wait` is set, or the cost estimate if `dry_run` is set.",
        "model": Job | Plan,
    },
    **TIMEOUT_RESPONSE,
}

_Result = TypeVar("_Result")


async def act_on_json(
    request: Request, service: ServiceContext, act: Callable[[object], _Result], allowed: Sequence[str] = (JSON,)
) -> _Result:
    """What `act` makes, in a thread, of the parsed JSON body.

    Raises
    ------
    UnsupportedFormat
        The body says that it is something else; `allowed` are the types that the route reads.
    """
    media_type = media_type_of(request)
    if media_type not in (None, JSON):
        raise UnsupportedFormat(
            f"A body of type {media_type} is not read here; allowed: {', '.join(allowed)}.",
            value=media_type,
            limit=list(allowed),
        )
    settings = service.settings
    body = await receive_bytes(request, BodyLimits(settings.inline_limit_bytes, settings.upload_idle_limit_s))
    limiter = service.ingest_limiter if len(body) > SMALL_BODY_BYTES else None
    return await run_sync(lambda: act(parse_json(body)), limiter=limiter)


def set_created(response: Response, links: Mapping[str, str], *, created: bool) -> None:
    """Say where what was asked for is, and whether it is new."""
    response.status_code = 201 if created else 200
    response.headers["Location"] = links["self"]


async def respond_with_job(
    answer: Job | Plan, service: ServiceContext, prefer: Sequence[str] | None, response: Response
) -> Job | Response:
    """The job as it stands, or has finished within `Prefer: wait`; a plan as it is."""
    if isinstance(answer, Plan):
        return Response(answer.model_dump_json(), media_type=JSON)
    seconds = parse_wait(prefer, service.settings.wait_limit_s)
    version, job = await wait_until_finished(service.stores.jobs, answer.id, seconds or 0.0)
    response.headers.update({"Location": job.links["self"], "ETag": format_etag(version)})
    if seconds is not None:
        response.headers["Preference-Applied"] = f"wait={seconds:g}"
    if seconds is not None and job.finished:
        response.status_code = 200
    if not job.finished:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return job
