"""Routes of upgrade reports."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Request, Response

from consilience import errors
from consilience.contract.alignments import Side
from consilience.contract.jobs import Job, Plan
from consilience.contract.pointers import at_pointer
from consilience.contract.upgrades import UpgradeReport, UpgradeRequest
from consilience.errors import NotFound, StateError
from consilience.planning.maps import plan_upgrade
from consilience.upgrades.rendering import POLICY, to_html, to_markdown
from service.deps import DryRunQuery, IdempotencyKey, JobPath, Prefer, ServiceDep
from service.dispatch import Dispatch
from service.ingest import (
    InlineVectors,
    SetSource,
    format_limits,
    new_sets,
    open_inline,
    shape_of,
    store_source,
    take_inline,
)
from service.multipart import JSON
from service.openapi.examples import UPGRADE_BODY
from service.problems import error_responses
from service.request_body import read_model
from service.responses import FORMAT, JOB_RESPONSES, NEGOTIATED_HEADERS, act_on_json, negotiate, respond_with_job
from service.routes.alignments import ERRORS
from service.settings import ServiceSettings
from service.stores import Stores

#: JSON pointer of each side, and the name of its set if its vectors are stored.
SIDES = {"/old": "old", "/new": "new", "/queries/old": "queries old", "/queries/new": "queries new"}


@dataclass(frozen=True)
class UpgradeSubmission:
    """Validated request whose data have not been read yet.

    Attributes
    ----------
    inline : inline vectors, by the JSON pointer of their side
    """

    request: UpgradeRequest
    key: str | None = None
    inline: Mapping[str, InlineVectors] = field(default_factory=dict)


class UpgradeHandler:
    """Reads upgrade requests, creates their jobs and returns their reports."""

    def __init__(self, settings: ServiceSettings, stores: Stores) -> None:
        self._settings, self._stores = settings, stores
        self._dispatch = Dispatch(settings, stores)
        self._limits = format_limits(settings)

    def read(self, body: object, key: str | None) -> UpgradeSubmission:
        """Read a request, whose sides are ids or inline vectors."""
        inline = take_inline_sides(body)
        request = read_model(UpgradeRequest, body)
        self._dispatch.check_webhook(request.webhook)
        return UpgradeSubmission(request, key, inline)

    def plan(self, submission: UpgradeSubmission) -> Plan:
        """Return the cost estimate of the job. Nothing is stored."""
        return self._plan(submission, self._open(submission))

    def submit(self, submission: UpgradeSubmission) -> Job:
        """Create the job, or return the existing job of a known idempotency key. After an error, nothing is stored."""
        sources = self._open(submission)
        cost = self._plan(submission, sources)
        with new_sets(self._stores, self._settings.data_dir) as sets:
            ids = {place: store_source(sets, source, place, SIDES[place]).id for place, source in sources.items()}
            request = _with_ids(submission.request.model_dump(mode="json"), ids)
            used = list(dict.fromkeys(ids.values()))
            added = self._dispatch.add("upgrade", request, cost, used, submission.key)
        return self._dispatch.deliver(added)

    def report(self, job_id: str) -> UpgradeReport:
        """Return the report of a job.

        Raises
        ------
        NotFound
            There is no such job, or it is not an upgrade.
        Expired
        StateError
            The job has not finished, or has failed.
        """
        job = self._stores.jobs.get(job_id)
        if job.kind != "upgrade":
            raise NotFound(
                f"The job {job.id} is not an upgrade.", value=job.id, hint=f"It is a job of kind {job.kind}."
            )
        if isinstance(job.result, UpgradeReport):
            return job.result
        if job.finished:
            why = job.error.detail if job.error else "The job was canceled."
            raise StateError(f"The job has no report: {why}", value=job.status, hint="Request a new report.")
        raise StateError(
            f"The job is {job.status} and has no report yet.",
            value=job.status,
            hint="Poll the job, or wait for it with `Prefer: wait`.",
        )

    def _open(self, submission: UpgradeSubmission) -> dict[str, SetSource]:
        """Open every side, by its JSON pointer: a stored set, or inline vectors."""
        request = submission.request
        sides = {"/old": request.old, "/new": request.new}
        if request.queries is not None:
            sides |= {"/queries/old": request.queries.old, "/queries/new": request.queries.new}
        return {place: self._open_side(submission, place, side) for place, side in sides.items()}

    def _open_side(self, submission: UpgradeSubmission, place: str, side: Side) -> SetSource:
        if (taken := submission.inline.get(place)) is not None:
            return open_inline(taken, self._limits, place)
        with at_pointer(f"{place}/embedding"):
            return self._stores.embeddings.get(side.embedding or "")

    def _plan(self, submission: UpgradeSubmission, sources: Mapping[str, SetSource]) -> Plan:
        shapes = [shape_of(source) for source in sources.values()]
        queries = (shapes[2], shapes[3]) if len(shapes) > 2 else None
        return plan_upgrade(submission.request, (shapes[0], shapes[1]), queries, self._dispatch.limits)


def take_inline_sides(body: object) -> dict[str, InlineVectors]:
    """Remove the inline vectors from the request and return them by the JSON pointer of their side."""
    taken: dict[str, InlineVectors] = {}
    for place in SIDES:
        value = body
        for step in place.strip("/").split("/"):
            value = value.get(step) if isinstance(value, dict) else None
        if (inline := take_inline(value)) is not None:
            taken[place] = inline
    return taken


def _with_ids(request: dict[str, Any], ids: Mapping[str, str]) -> dict[str, Any]:
    """Return the request with the id of the stored set as every side."""
    request |= {"old": {"embedding": ids["/old"]}, "new": {"embedding": ids["/new"]}}
    if request["queries"] is not None:
        request["queries"] = {name: {"embedding": ids[f"/queries/{name}"]} for name in ("old", "new")}
    return request


router = APIRouter(tags=["upgrades"])

ReportFormat = Literal["json", "markdown", "html"]
MARKDOWN, HTML = "text/markdown", "text/html"
MEDIA_TYPES: dict[str, ReportFormat] = {JSON: "json", MARKDOWN: "markdown", HTML: "html"}


@router.post(
    "/v1/upgrades",
    status_code=202,
    operation_id="create_upgrade",
    summary="Evaluate a change of embedding model",
    response_description="The job, which has not finished yet.",
    response_model=Job,
    responses={**JOB_RESPONSES, **error_responses(*ERRORS)},
    openapi_extra={"requestBody": UPGRADE_BODY},
)
async def create_upgrade(
    request: Request,
    response: Response,
    service: ServiceDep,
    *,
    prefer: Prefer = None,
    idempotency_key: IdempotencyKey = None,
    dry_run: DryRunQuery = False,
) -> Job | Response:
    """Start a job that recommends what to do with an index if its embedding model changes: keep, adapt or re-embed.

    `old` and `new` are the same documents embedded with both models, and `queries` are the same queries embedded with both.
    `qrels` list the relevant documents of each query. The response is 202 with the job. Its report is available at
    `links.upgrade` as JSON, Markdown or HTML.
    """
    upgrades = UpgradeHandler(service.settings, service.stores)

    def act(body: object) -> Job | Plan:
        submission = upgrades.read(body, idempotency_key)
        return upgrades.plan(submission) if dry_run else upgrades.submit(submission)

    return await respond_with_job(await act_on_json(request, service, act), service, prefer, response)


@router.get(
    "/v1/upgrades/{job_id}",
    operation_id="get_upgrade",
    summary="Get the report of an upgrade",
    response_model=UpgradeReport,
    responses={
        200: {
            "description": "The report of the upgrade.",
            "content": {media: {"schema": {"type": "string"}} for media in (MARKDOWN, HTML)},
        },
        **error_responses(errors.NotFound, errors.Expired, errors.StateError),
    },
)
async def get_upgrade(
    job_id: JobPath,
    service: ServiceDep,
    *,
    chosen: Annotated[ReportFormat | None, FORMAT] = None,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Return the report of a finished job as JSON, Markdown or a self-contained HTML page."""
    upgrades = UpgradeHandler(service.settings, service.stores)
    form = chosen or negotiate(accept, MEDIA_TYPES)
    headers = NEGOTIATED_HEADERS

    def render() -> Response:
        report = upgrades.report(job_id)
        if form == "html":
            policy = {"Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'"}
            return Response(to_html(report), headers=headers | policy, media_type=f"{HTML}; charset=utf-8")
        if form == "markdown":
            return Response(to_markdown(report), headers=headers, media_type=f"{MARKDOWN}; charset=utf-8")
        return Response(report.model_dump_json(by_alias=True), headers=headers, media_type=JSON)

    return await run_sync(render)
