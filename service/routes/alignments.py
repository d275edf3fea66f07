"""Routes of alignments."""

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response

from consilience import errors
from consilience.contract.jobs import Job, Plan
from service.deps import DryRunQuery, IdempotencyKey, Prefer, ServiceContext, ServiceDep
from service.multipart import JSON, MULTIPART, receive_files
from service.openapi.examples import ALIGNMENT_BODY
from service.problems import error_responses
from service.request_body import media_type_of, parse_json
from service.responses import JOB_RESPONSES, act_on_json, respond_with_job
from service.routes.embeddings import EXTRACTION_ERRORS, UPLOAD_ERRORS
from service.submission import AlignmentHandler, AlignmentSubmission

router = APIRouter(tags=["alignments"])

ERRORS = (
    *UPLOAD_ERRORS,
    *EXTRACTION_ERRORS,
    errors.UnpairedSides,
    errors.UnknownLayer,
    errors.TooExpensive,
    errors.KeyReused,
)
FILES, FIELDS = frozenset("ab"), frozenset({"request"})
#: File that the part `request` can replace.
NAMED = frozenset("b")
COLUMNS = frozenset({"ids_a", "ids_b", "groups_a", "groups_b"})


@router.post(
    "/v1/alignments",
    status_code=202,
    operation_id="create_alignment",
    summary="Score two embedding sets",
    response_description="The job, which has not finished yet.",
    response_model=Job,
    responses={**JOB_RESPONSES, **error_responses(*ERRORS)},
    openapi_extra={"requestBody": ALIGNMENT_BODY},
)
async def create_alignment(
    request: Request,
    response: Response,
    service: ServiceDep,
    *,
    prefer: Prefer = None,
    idempotency_key: IdempotencyKey = None,
    dry_run: DryRunQuery = False,
) -> Job | Response:
    """Start a job that scores how far two embedding sets agree.

    Each side is a stored set, inline vectors, or a model and a dataset. Instead, send a form with the files `a` and `b`; in
    the part `request`, `b` can be a stored set or a reference set that replaces the file `b`. If b is a reference set, as in
    `{"reference": "ref_..."}`, a is scored against each member and ranked among them.

    With `pairing: id`, rows are matched by item id: the ids of the stored sets, the `ids` beside the vectors, or the parts
    `ids_a` and `ids_b` of the form.

    The response is 202 with the job, and `Location` is the address at which to poll it. With `Prefer: wait=N`, the response
    is 200 with the finished job if it finishes within N seconds.
    """
    answer = await _receive(request, service, idempotency_key, dry_run)
    return await respond_with_job(answer, service, prefer, response)


async def _receive(request: Request, service: ServiceContext, key: str | None, dry_run: bool) -> Job | Plan:
    """Read the body, JSON or a form, and plan or submit it while its files exist."""
    submissions = AlignmentHandler(service.settings, service.stores)
    if media_type_of(request) == MULTIPART:
        if key is None:  # a known key may belong to an existing job
            await run_sync(service.stores.jobs.check_room)
        async with receive_files(request, service, FILES, COLUMNS, FIELDS, optional=NAMED) as upload:
            options = parse_json(upload.fields.get("request", b"{}"), "/request")
            submission = submissions.read_form(options, upload, key)
            return await run_sync(_act, submissions, submission, dry_run, limiter=service.ingest_limiter)

    def act(body: object) -> Job | Plan:
        return _act(submissions, submissions.read_json(body, key), dry_run)

    return await act_on_json(request, service, act, allowed=(JSON, MULTIPART))


def _act(submissions: AlignmentHandler, submission: AlignmentSubmission, dry_run: bool) -> Job | Plan:
    return submissions.plan(submission) if dry_run else submissions.submit(submission)
