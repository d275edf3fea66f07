"""Answers that are jobs, the same for every kind of request."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from anyio.to_thread import run_sync
from fastapi import Request, Response

from consilience.contract.jobs import Job, Plan
from consilience.errors import UnsupportedFormat
from service.bodies import Bounds, media_type_of, parse_json, receive_bytes
from service.deps import Service
from service.problems import RETRY_AFTER_S, STALLED
from service.uploads import JSON
from service.waiting import etag_of, parse_wait, wait_until_finished

#: A JSON body up to this size names its sides; it need not wait behind uploads that are being parsed.
LIGHT_BYTES = 65_536

#: Besides 202, what a wish for a job is answered with.
ASKED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The finished job (`Prefer: wait`), or the plan (`dry_run`).", "model": Job | Plan},
    **STALLED,
}

Answer = TypeVar("Answer")


async def act_on_json(
    request: Request, service: Service, act: Callable[[object], Answer], allowed: Sequence[str] = (JSON,)
) -> Answer:
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
    body = await receive_bytes(request, Bounds(settings.inline_limit_bytes, settings.upload_idle_limit_s))
    limiter = service.ingests if len(body) > LIGHT_BYTES else None
    return await run_sync(lambda: act(parse_json(body)), limiter=limiter)


def tell_made(response: Response, links: Mapping[str, str], *, created: bool) -> None:
    """Say where what was asked for is, and whether it is new."""
    response.status_code = 201 if created else 200
    response.headers["Location"] = links["self"]


async def answer_with_job(
    answer: Job | Plan, service: Service, prefer: Sequence[str] | None, response: Response
) -> Job | Response:
    """The job as it stands, or has finished within `Prefer: wait`; a plan as it is."""
    if isinstance(answer, Plan):
        return Response(answer.model_dump_json(), media_type=JSON)
    seconds = parse_wait(prefer, service.settings.wait_limit_s)
    version, job = await wait_until_finished(service.stores.jobs, answer.id, seconds or 0.0)
    response.headers.update({"Location": job.links["self"], "ETag": etag_of(version)})
    if seconds is not None:
        response.headers["Preference-Applied"] = f"wait={seconds:g}"
    if seconds is not None and job.finished:
        response.status_code = 200
    if not job.finished:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return job
