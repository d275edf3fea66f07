"""Routes of jobs."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent

from consilience.contract.jobs import Job, JobKind, JobPage, JobStatus
from consilience.contract.webhooks import Webhook
from consilience.errors import Expired, InvalidRequest, NotFound, Unavailable
from service.deps import Cursor, IfNoneMatch, JobPath, PageLimit, Prefer, SettingsDep, StoresDep
from service.problems import RETRY_AFTER_S, error_responses
from service.responses import follow, format_etag, matches, next_version, parse_wait, wait_until_finished

router = APIRouter(tags=["jobs"])

UNCHANGED: dict[int | str, dict[str, Any]] = {
    304: {"description": "The job has not changed since the ETag in `If-None-Match`."}
}


@router.get(
    "/v1/jobs/{job_id}",
    operation_id="get_job",
    summary="Get a job",
    response_description="The job.",
    response_model=Job,
    responses={**UNCHANGED, **error_responses(NotFound, Expired)},
)
async def get_job(
    job_id: JobPath,
    stores: StoresDep,
    settings: SettingsDep,
    response: Response,
    *,
    prefer: Prefer = None,
    if_none_match: IfNoneMatch = None,
) -> Job | Response:
    """Return a job with its status, its progress, and its result or error.

    With `Prefer: wait=N`, the response is sent when the job finishes or after N seconds. If the request has an ETag in
    `If-None-Match`, the response is also sent when the job has changed since that ETag.
    """
    jobs, seconds = stores.jobs, parse_wait(prefer, settings.wait_limit_s)
    job, version = await run_in_threadpool(jobs.versioned, job_id)
    if seconds is not None and not job.finished:
        if if_none_match is None:
            version, job = await wait_until_finished(jobs, job_id, seconds)
        elif matches(if_none_match, version):
            await next_version(jobs, job_id, version, time.monotonic() + seconds)
            job, version = await run_in_threadpool(jobs.versioned, job_id)
    headers = {"ETag": format_etag(version), "Cache-Control": "private, no-cache"}
    if seconds is not None:
        headers["Preference-Applied"] = f"wait={seconds:g}"
    if not job.finished:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if matches(if_none_match, version):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return job


@router.get(
    "/v1/jobs",
    operation_id="list_jobs",
    summary="List jobs, newest first",
    response_description="One page of jobs.",
    responses=error_responses(InvalidRequest),
)
def list_jobs(
    stores: StoresDep,
    cursor: Cursor = None,
    limit: PageLimit = 20,
    status: Annotated[JobStatus | None, Query(description="Return only jobs with this status.")] = None,
    kind: Annotated[JobKind | None, Query(description="Return only jobs of this kind.")] = None,
) -> JobPage:
    """Return one page of jobs, newest first."""
    return stores.jobs.page(cursor, limit, status, kind)


@router.post(
    "/v1/jobs/{job_id}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    response_description="The job.",
    responses=error_responses(NotFound, Expired),
)
def cancel_job(job_id: JobPath, stores: StoresDep) -> Job:
    """Cancel a job.

    A queued job is canceled at once. A running job has `cancel_requested` set until its process has stopped.
    """
    before, job = stores.jobs.get(job_id), stores.jobs.request_cancel(job_id)
    if job.status is JobStatus.CANCELED and not before.finished:
        waited_s = round((datetime.now(UTC) - job.created_at).total_seconds(), 3)
        structlog.get_logger().info("job_canceled", job=job.id, waited_s=waited_s)
    elif job.cancel_requested and not before.cancel_requested:
        structlog.get_logger().info("job_cancel_requested", job=job.id)
    return job


@router.get(
    "/v1/jobs/{job_id}/webhook",
    operation_id="get_webhook",
    summary="Get the delivery state of a job's webhook",
    response_description="The webhook.",
    responses=error_responses(NotFound, Expired),
)
def get_webhook(job_id: JobPath, stores: StoresDep) -> Webhook:
    """Return the delivery state of a job's webhook. The response is 404 if the job has no webhook."""
    return stores.jobs.webhook(job_id)


def known_job(job_id: JobPath, stores: StoresDep) -> str:
    """Check that the job exists, before the stream starts and its status can no longer change."""
    stores.jobs.version(job_id)
    return job_id


@router.get(
    "/v1/jobs/{job_id}/events",
    operation_id="watch_job",
    summary="Follow a job as server-sent events",
    response_description="A stream of events.",
    response_class=EventSourceResponse,
    responses=error_responses(NotFound, Expired, Unavailable),
)
async def watch_job(
    job_id: Annotated[str, Depends(known_job)],
    stores: StoresDep,
    last_event_id: Annotated[
        int | None,
        Header(ge=0, le=2**63 - 1, description="Id of the last event that was received. Events up to it are omitted."),
    ] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Stream the versions of a job as server-sent events.

    The events are named `job`, and their data is the job. The stream ends when the job finishes.
    """
    async for version, job in follow(stores.jobs, job_id, last_event_id):
        # FastAPI would write the fields by their Python names: `schema_` where GET says `schema`.
        yield ServerSentEvent(raw_data=job.model_dump_json(by_alias=True), event="job", id=str(version))
