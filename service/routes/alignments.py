"""Alignments: how far two spaces agree."""

from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response

from consilience import errors
from consilience.contract.jobs import Job, Plan
from service.bodies import Bounds, media_type_of, parse_json, receive_bytes
from service.deps import IdempotencyKey, Prefer, Service, ServiceDep
from service.examples import ALIGNMENT_BODY
from service.problems import RETRY_AFTER_S, STALLED, describe
from service.routes.embeddings import UPLOAD_ERRORS
from service.submission import Submission, Submissions
from service.uploads import JSON, MULTIPART, receive_files
from service.waiting import etag_of, parse_wait, wait_until_finished

router = APIRouter(tags=["alignments"])

ERRORS = (
    *UPLOAD_ERRORS,
    errors.NotFound,
    errors.UnpairedSides,
    errors.UnknownLayer,
    errors.TooExpensive,
    errors.KeyReused,
    errors.TooManyRequests,
)
#: A JSON body up to this size names its sides; it need not wait behind uploads that are being parsed.
LIGHT_BYTES = 65_536
FILES, FIELDS = frozenset("ab"), frozenset({"request"})
COLUMNS = frozenset({"ids_a", "ids_b", "groups_a", "groups_b"})
DRY_RUN = Query(description="Answer the plan alone: nothing is stored, nothing runs.")


@router.post(
    "/v1/alignments",
    status_code=202,
    operation_id="create_alignment",
    response_model=Job,
    responses={
        200: {"description": "The finished job (`Prefer: wait`), or the plan (`dry_run`).", "model": Job | Plan},
        **STALLED,
        **describe(*ERRORS),
    },
    openapi_extra={"requestBody": ALIGNMENT_BODY},
)
async def create_alignment(
    request: Request,
    response: Response,
    service: ServiceDep,
    *,
    prefer: Prefer = None,
    idempotency_key: IdempotencyKey = None,
    dry_run: Annotated[bool, DRY_RUN] = False,
) -> Job | Response:
    """Score two sets: named by id or spelled out as vectors in JSON, or sent as the files `a` and `b` of a form.

    With `pairing: id` the sides are joined by ids: of the stored sets, beside the vectors, or the form's `ids_a` and `ids_b`.
    202 with the job, which is then polled at `Location`; with `Prefer: wait=N` 200 with the finished job, if in time.
    """
    answer = await _receive(request, service, idempotency_key, dry_run)
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


async def _receive(request: Request, service: Service, key: str | None, dry_run: bool) -> Job | Plan:
    """Read the body in the form in which it comes, and act on it while its files are there."""
    settings, media_type = service.settings, media_type_of(request)
    submissions = Submissions(settings, service.stores)
    if media_type == MULTIPART:
        if key is None:  # a known key may stand for a job that is there already
            await run_sync(service.stores.jobs.check_room)
        async with receive_files(request, service, FILES, COLUMNS, FIELDS) as upload:
            options = parse_json(upload.fields.get("request", b"{}"), "/request")
            submission = submissions.read_form(options, upload, key)
            return await run_sync(_act, submissions, submission, dry_run, limiter=service.ingests)
    if media_type not in (None, JSON):
        raise errors.UnsupportedFormat(
            f"A body of type {media_type} is not read here; allowed: {JSON}, {MULTIPART}.",
            value=media_type,
            limit=[JSON, MULTIPART],
        )
    body = await receive_bytes(request, Bounds(settings.inline_limit_bytes, settings.upload_idle_limit_s))

    def act() -> Job | Plan:
        return _act(submissions, submissions.read_json(parse_json(body), key), dry_run)

    return await run_sync(act, limiter=service.ingests if len(body) > LIGHT_BYTES else None)


def _act(submissions: Submissions, submission: Submission, dry_run: bool) -> Job | Plan:
    return submissions.plan(submission) if dry_run else submissions.submit(submission)
