"""Responses that several routes share: jobs, waiting, ETags and content negotiation."""

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
#: The response depends on the API key and on the header `Accept`.
NEGOTIATED_HEADERS = {"Cache-Control": "private, no-cache", "Vary": "Accept"}

_Format = TypeVar("_Format", bound=str)


def negotiate(accept: str | None, forms: Mapping[str, _Format]) -> _Format:
    """Return the first supported format that the client accepts, or the first of all if it accepts none of them."""
    for word in (accept or "").split(","):
        if (form := forms.get(word.partition(";")[0].strip().lower())) is not None:
            return form
    return next(iter(forms.values()))


#: Seconds between two polls of a job: about a tenth of the time waited so far, so that polling adds about 5 %.
POLL_MIN_S = 0.01
POLL_MAX_S = 0.25
POLL_GROWTH = 1.1

WAIT = re.compile(r"""\bwait\s*=\s*"?(\d{1,9})""", re.IGNORECASE)


def parse_wait(prefer: Sequence[str] | None, limit_s: float) -> float | None:
    """Return the seconds to wait, or None if the header does not request it. Unknown preferences are ignored (RFC 7240)."""
    found = WAIT.search(",".join(prefer or ()))
    return min(float(found[1]), limit_s) if found else None


def format_etag(version: int) -> str:
    """Return the strong ETag of a job's version."""
    return f'"{version}"'


def matches(if_none_match: str | None, version: int) -> bool:
    """Return whether the client already has this version, by weak comparison (RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or format_etag(version) in tags


async def next_version(jobs: JobRecords, job_id: str, seen: int, deadline: float) -> int:
    """Wait until the version of a job is not `seen`, and return it; at the deadline (monotonic seconds), return `seen`."""
    pause = POLL_MIN_S
    while (version := await run_in_threadpool(jobs.version, job_id)) == seen:
        if time.monotonic() + pause > deadline:
            break
        await asyncio.sleep(pause)
        pause = min(pause * POLL_GROWTH, POLL_MAX_S)
    return version


async def wait_until_finished(jobs: JobRecords, job_id: str, seconds: float) -> tuple[int, Job]:
    """Wait until the job has finished or the seconds have passed, and return its version and the job."""
    deadline = time.monotonic() + seconds
    job, version = await run_in_threadpool(jobs.versioned, job_id)
    while not job.finished and time.monotonic() < deadline:
        if await next_version(jobs, job_id, version, deadline) == version:
            break
        job, version = await run_in_threadpool(jobs.versioned, job_id)
    return version, job


async def follow(jobs: JobRecords, job_id: str, seen: int | None) -> AsyncIterator[tuple[int, Job]]:
    """Yield each version of a job, starting with the current one unless it is `seen`, until the job has finished."""
    job, version = await run_in_threadpool(jobs.versioned, job_id)
    if version != seen:
        yield version, job
    while not job.finished:
        await next_version(jobs, job_id, version, math.inf)
        job, version = await run_in_threadpool(jobs.versioned, job_id)
        yield version, job


#: Size in bytes up to which a JSON body does not wait for uploads that are being parsed: it contains ids, not vectors.
SMALL_BODY_BYTES = 65_536

#: Responses of routes that create jobs, besides 202.
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
    """Parse a JSON body, call `act` with it in a thread and return the result.

    Raises
    ------
    UnsupportedFormat
        The body has another media type; `allowed` are the types that the route accepts.
    """
    media_type = media_type_of(request)
    if media_type not in (None, JSON):
        raise UnsupportedFormat(
            f"This operation does not accept a body of type {media_type}; allowed: {', '.join(allowed)}.",
            value=media_type,
            limit=list(allowed),
        )
    settings = service.settings
    body = await receive_bytes(request, BodyLimits(settings.inline_limit_bytes, settings.upload_idle_limit_s))
    limiter = service.ingest_limiter if len(body) > SMALL_BODY_BYTES else None
    return await run_sync(lambda: act(parse_json(body)), limiter=limiter)


def set_created(response: Response, links: Mapping[str, str], *, created: bool) -> None:
    """Set the status and the header `Location` for a resource that was created or already existed."""
    response.status_code = 201 if created else 200
    response.headers["Location"] = links["self"]


async def respond_with_job(
    answer: Job | Plan, service: ServiceContext, prefer: Sequence[str] | None, response: Response
) -> Job | Response:
    """Return the job after the time of `Prefer: wait`, with its headers; a plan is returned as it is."""
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
