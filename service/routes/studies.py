"""Studies: many models at once, one matrix of scores for each metric."""

from collections.abc import Callable
from typing import Annotated, Literal

from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Request, Response

from consilience import errors
from consilience.contract.jobs import Job, Plan
from consilience.contract.study_results import TABLE, StudyDocument
from consilience.formats.records import CSV, PARQUET, write_csv, write_parquet
from service.answers import ASKED, act_on_json, answer_with_job
from service.deps import DryRun, IdempotencyKey, JobPath, Prefer, Service, ServiceDep
from service.examples import MORE_MODELS_BODY, STUDY_BODY
from service.negotiation import FORMAT, HEADERS, negotiate
from service.problems import RETRY_AFTER_S, describe
from service.routes.alignments import ERRORS
from service.studies import Studies, StudySubmission
from service.uploads import JSON

router = APIRouter(tags=["studies"])

Format = Literal["json", "csv", "parquet"]
MEDIA_TYPES: dict[str, Format] = {JSON: "json", CSV: "csv", PARQUET: "parquet"}
#: What a study can be refused for besides what an alignment is.
MISSING = (errors.Expired, errors.MissingExtra)


@router.post(
    "/v1/studies",
    status_code=202,
    operation_id="create_study",
    response_model=Job,
    responses={**ASKED, **describe(*ERRORS)},
    openapi_extra={"requestBody": STUDY_BODY},
)
async def create_study(
    request: Request,
    response: Response,
    service: ServiceDep,
    *,
    prefer: Prefer = None,
    idempotency_key: IdempotencyKey = None,
    dry_run: DryRun = False,
) -> Job | Response:
    """Compare many sets: rows with columns, or all rows with each other.

    202 with the job; what is done can be read at once at `links.study`. Cells that an earlier study found are not scored again.
    """
    studies = Studies(service.settings, service.stores)
    return await _create(
        request, response, service, prefer, lambda body: studies.read(body, idempotency_key), dry_run=dry_run
    )


@router.post(
    "/v1/studies/{job_id}/models",
    status_code=202,
    operation_id="extend_study",
    response_model=Job,
    responses={**ASKED, **describe(*ERRORS, *MISSING)},
    openapi_extra={"requestBody": MORE_MODELS_BODY},
)
async def extend_study(
    job_id: JobPath,
    request: Request,
    response: Response,
    service: ServiceDep,
    *,
    prefer: Prefer = None,
    idempotency_key: IdempotencyKey = None,
    dry_run: DryRun = False,
) -> Job | Response:
    """Make a study of the same models and some more: a job of its own, which scores the new cells alone."""
    studies = Studies(service.settings, service.stores)
    known = await run_sync(studies.request, job_id)
    return await _create(
        request, response, service, prefer, lambda body: studies.extend(known, body, idempotency_key), dry_run=dry_run
    )


async def _create(
    request: Request,
    response: Response,
    service: Service,
    prefer: Prefer,
    read: Callable[[object], StudySubmission],
    *,
    dry_run: bool,
) -> Job | Response:
    studies = Studies(service.settings, service.stores)

    def act(body: object) -> Job | Plan:
        submission = read(body)
        return studies.plan(submission) if dry_run else studies.submit(submission)

    return await answer_with_job(await act_on_json(request, service, act), service, prefer, response)


@router.get(
    "/v1/studies/{job_id}",
    operation_id="get_study",
    response_model=StudyDocument,
    responses={
        200: {
            "description": "The study as far as it is there.",
            "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in (CSV, PARQUET)},
        },
        **describe(errors.NotFound, *MISSING),
    },
)
async def get_study(
    job_id: JobPath,
    service: ServiceDep,
    *,
    chosen: Annotated[Format | None, FORMAT] = None,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """A study: every cell that is there, also while it runs; corrections, pictures and trends when all of them are.

    As CSV or Parquet it is a table with one line for each cell and metric. `done` and `total` say how far it is.
    """
    studies = Studies(service.settings, service.stores)
    form = chosen or negotiate(accept, MEDIA_TYPES)

    def render() -> tuple[bool, bytes, str]:
        job, document = studies.document(job_id)
        if form == "json":
            return job.finished, document.model_dump_json(by_alias=True).encode(), JSON
        write, media = (write_csv, f"{CSV}; charset=utf-8") if form == "csv" else (write_parquet, PARQUET)
        return job.finished, write(TABLE, document.table()), media

    finished, body, media = await run_sync(render)
    headers = dict(HEADERS)
    if not finished:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if form != "json":
        headers["Content-Disposition"] = f'attachment; filename="{job_id}.{form}"'
    return Response(body, headers=headers, media_type=media)
