"""Upgrades: what a swap of the embedding model asks of an index."""

from typing import Annotated, Literal

from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Request, Response

from consilience import errors
from consilience.contract.jobs import Job, Plan
from consilience.contract.upgrade_reports import UpgradeReport
from consilience.reports.upgrade_html import POLICY, to_html
from consilience.reports.upgrade_markdown import to_markdown
from service.answers import ASKED, act_on_json, answer_with_job
from service.deps import DryRun, IdempotencyKey, JobPath, Prefer, ServiceDep
from service.examples import UPGRADE_BODY
from service.negotiation import FORMAT, HEADERS, negotiate
from service.problems import describe
from service.routes.alignments import ERRORS
from service.upgrades import Upgrades
from service.uploads import JSON

router = APIRouter(tags=["upgrades"])

Format = Literal["json", "markdown", "html"]
MARKDOWN, HTML = "text/markdown", "text/html"
MEDIA_TYPES: dict[str, Format] = {JSON: "json", MARKDOWN: "markdown", HTML: "html"}


@router.post(
    "/v1/upgrades",
    status_code=202,
    operation_id="create_upgrade",
    response_model=Job,
    responses={**ASKED, **describe(*ERRORS)},
    openapi_extra={"requestBody": UPGRADE_BODY},
)
async def create_upgrade(
    request: Request,
    response: Response,
    service: ServiceDep,
    *,
    prefer: Prefer = None,
    idempotency_key: IdempotencyKey = None,
    dry_run: DryRun = False,
) -> Job | Response:
    """Say whether an index survives a swap of its embedding model: keep, adapt or re-embed.

    `old` and `new` are the same documents by both models, `queries` the same queries by both, `judgements` the documents that
    answer them. 202 with the job; its report is read at `links.upgrade` too, as JSON, Markdown or a page.
    """
    upgrades = Upgrades(service.settings, service.stores)

    def act(body: object) -> Job | Plan:
        submission = upgrades.read(body, idempotency_key)
        return upgrades.plan(submission) if dry_run else upgrades.submit(submission)

    return await answer_with_job(await act_on_json(request, service, act), service, prefer, response)


@router.get(
    "/v1/upgrades/{job_id}",
    operation_id="get_upgrade",
    response_model=UpgradeReport,
    responses={
        200: {
            "description": "The report.",
            "content": {media: {"schema": {"type": "string"}} for media in (MARKDOWN, HTML)},
        },
        **describe(errors.NotFound, errors.Expired, errors.StateError),
    },
)
async def get_upgrade(
    job_id: JobPath,
    service: ServiceDep,
    *,
    chosen: Annotated[Format | None, FORMAT] = None,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """The report of a finished job: JSON, Markdown, or a page of HTML that needs nothing else."""
    upgrades = Upgrades(service.settings, service.stores)
    form = chosen or negotiate(accept, MEDIA_TYPES)
    headers = HEADERS

    def render() -> Response:
        report = upgrades.report(job_id)
        if form == "html":
            policy = {"Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'"}
            return Response(to_html(report), headers=headers | policy, media_type=f"{HTML}; charset=utf-8")
        if form == "markdown":
            return Response(to_markdown(report), headers=headers, media_type=f"{MARKDOWN}; charset=utf-8")
        return Response(report.model_dump_json(by_alias=True), headers=headers, media_type=JSON)

    return await run_sync(render)
