"""Routes of studies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Request, Response

from consilience import errors
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import Job, Plan
from consilience.contract.pointers import at_pointer
from consilience.contract.studies import STUDY_MEMBERS_MAX, Member, StudyAdditions, StudyRequest, cell_key
from consilience.contract.study_results import TABLE, StudyDocument
from consilience.errors import InvalidRequest, NotFound
from consilience.formats.records import CSV, PARQUET, write_csv, write_parquet
from consilience.planning.studies import (
    ModelDescription,
    StudyDescription,
    assemble,
    find_label,
    join_metadata,
    plan_study,
)
from consilience.stores.jobs import AddedJob
from service.deps import DryRunQuery, IdempotencyKey, JobPath, Prefer, ServiceContext, ServiceDep
from service.dispatch import Dispatch
from service.ingest import (
    InlineVectors,
    NewSets,
    SetSource,
    format_limits,
    new_sets,
    open_inline,
    shape_of,
    store_source,
    take_inline,
)
from service.multipart import JSON
from service.openapi.examples import MORE_MODELS_BODY, STUDY_BODY
from service.problems import RETRY_AFTER_S, error_responses
from service.request_body import check_metadata, read_model
from service.responses import FORMAT, JOB_RESPONSES, NEGOTIATED_HEADERS, act_on_json, negotiate, respond_with_job
from service.routes.alignments import ERRORS
from service.settings import ServiceSettings
from service.stores import Stores

#: Inline vectors of members, by side and number.
InlineMembers = dict[tuple[str, int], InlineVectors]


@dataclass(frozen=True)
class StudySubmission:
    """Validated request whose data have not been read yet."""

    request: StudyRequest
    key: str | None = None
    inline: InlineMembers = field(default_factory=dict)
    known: Mapping[str, int] = field(default_factory=dict)
    """Number of members of each side that existed before this request."""

    def place(self, side: str, number: int) -> str:
        """Return the JSON pointer of a member; empty for a member that existed before."""
        own = number - self.known.get(side, 0)
        return f"/{side}/{own}" if own >= 0 else ""


class StudyHandler:
    """Reads study requests, creates their jobs and assembles their documents."""

    def __init__(self, settings: ServiceSettings, stores: Stores) -> None:
        self._settings, self._stores = settings, stores
        self._dispatch = Dispatch(settings, stores)
        self._limits = format_limits(settings)

    def read(self, body: object, key: str | None) -> StudySubmission:
        """Read a request, whose members are ids or inline vectors."""
        inline = take_inline_members(body)
        request = read_model(StudyRequest, body)
        _check_members(request)
        self._dispatch.check_webhook(request.webhook)
        return StudySubmission(request, key, inline)

    def request(self, study_id: str) -> StudyRequest:
        """Return the request of a study. Raises NotFound or Expired."""
        return _read_request(self._stores.jobs.get(study_id))

    def extend(self, known: StudyRequest, body: object, key: str | None) -> StudySubmission:
        """Add models to the request of a study. Raises InvalidRequest if it lacks the side or would be too large."""
        inline = take_inline_members(body)
        more = read_model(StudyAdditions, body)
        _check_members(more)
        if known.columns is None and more.columns is not None:
            raise InvalidRequest(
                "The study compares its rows with each other and has no columns.",
                hint="Add the models to `rows`.",
                pointer="/columns",
            )
        first = {"rows": len(known.rows), "columns": len(known.columns or ())}
        sides = {"rows": _join("rows", known.rows, more.rows)}
        if known.columns is not None:
            sides["columns"] = _join("columns", known.columns, more.columns)
        request = StudyRequest.model_validate({**dict(known), **sides})
        moved = {(side, number + first[side]): taken for (side, number), taken in inline.items()}
        return StudySubmission(request, key, moved, first)

    def plan(self, submission: StudySubmission) -> Plan:
        """Return the cost estimate of the job. Nothing is stored."""
        return self._plan(submission, *self._open(submission))

    def submit(self, submission: StudySubmission) -> Job:
        """Create the job, or return the existing job of a known idempotency key. After an error, nothing is stored."""
        rows, columns = self._open(submission)
        cost = self._plan(submission, rows, columns)
        with new_sets(self._stores, self._settings.data_dir) as sets:
            added = self._add(submission, cost, self._keep(sets, submission, rows, columns))
        return self._dispatch.deliver(added)

    def document(self, study_id: str) -> tuple[Job, StudyDocument]:
        """Return the job of a study and its document with the finished cells.

        Raises
        ------
        NotFound
            The study does not exist, or it has no result and one of its sets was deleted.
        Expired
        """
        job = self._stores.jobs.get(study_id)
        request = _read_request(job)
        if isinstance(job.result, StudyDocument):
            return job, job.result
        return job, self._assemble(request)

    def _assemble(self, request: StudyRequest) -> StudyDocument:
        """Assemble the document from all stored cells."""
        sides = [
            None if members is None else [self._find(side, place, member) for place, member in enumerate(members)]
            for side, members in (("rows", request.rows), ("columns", request.columns))
        ]
        rows, across = sides[0] or [], (sides[0] if sides[1] is None else sides[1]) or []
        scoring = request.scoring()
        keys = {cell: cell_key(scoring, rows[cell[0]].digest, across[cell[1]].digest) for cell in request.cells()}
        held = self._stores.cells.read(list(keys.values()))
        found = {cell: held[key] for cell, key in keys.items() if key in held}
        return assemble(request, _describe(request, rows, sides[1]), found)

    def _find(self, side: str, place: int, member: Member) -> EmbeddingSet:
        """Return the set of a member. While the study is unfinished, no member can be deleted."""
        try:
            return self._stores.embeddings.get(member.embedding or "")
        except NotFound as error:
            raise NotFound(
                f"The study has no result, and its set {member.label!r} was deleted.",
                value=error.value,
                hint="Request a new study of the remaining sets; it reuses the cells that are stored.",
                pointer=f"/{side}/{place}",
            ) from error

    def _open(self, submission: StudySubmission) -> tuple[list[SetSource], list[SetSource] | None]:
        """Open every member: a stored set, or inline vectors."""
        request = submission.request

        def open_all(side: str, members: Sequence[Member]) -> list[SetSource]:
            return [self._open_member(submission, side, number, each) for number, each in enumerate(members)]

        rows = open_all("rows", request.rows)
        return rows, None if request.columns is None else open_all("columns", request.columns)

    def _open_member(self, submission: StudySubmission, side: str, number: int, member: Member) -> SetSource:
        place = submission.place(side, number)
        if (taken := submission.inline.get((side, number))) is not None:
            return open_inline(taken, self._limits, place)
        with at_pointer(place):
            return self._stores.embeddings.get(member.embedding or "")

    def _plan(
        self, submission: StudySubmission, rows: Sequence[SetSource], columns: Sequence[SetSource] | None
    ) -> Plan:
        entries = _describe(submission.request, rows, columns)
        return plan_study(submission.request, entries, self._dispatch.limits, self._settings.study_cells_limit)

    def _keep(
        self, sets: NewSets, submission: StudySubmission, rows: Sequence[SetSource], columns: Sequence[SetSource] | None
    ) -> StudyRequest:
        """Store all members and return the request with their ids and labels."""
        request = submission.request

        def keep_all(side: str, members: Sequence[Member], sources: Sequence[SetSource]) -> tuple[Member, ...]:
            return tuple(
                _named(
                    member,
                    store_source(sets, source, submission.place(side, number), f"{side.removesuffix('s')} {number}"),
                )
                for number, (member, source) in enumerate(zip(members, sources, strict=True))
            )

        update: dict[str, object] = {"rows": keep_all("rows", request.rows, rows)}
        if request.columns is not None and columns is not None:
            update["columns"] = keep_all("columns", request.columns, columns)
        return request.model_copy(update=update)

    def _add(self, submission: StudySubmission, cost: Plan, request: StudyRequest) -> AddedJob:
        used = tuple(dict.fromkeys(each.embedding or "" for each in (*request.rows, *(request.columns or ()))))
        return self._dispatch.add("study", request.model_dump(mode="json"), cost, used, submission.key)


def _read_request(job: Job) -> StudyRequest:
    if job.kind != "study":
        raise NotFound(f"The job {job.id} is not a study.", value=job.id, hint=f"It is a job of kind {job.kind}.")
    return StudyRequest.model_validate(job.request)


def _check_members(request: StudyRequest | StudyAdditions) -> None:
    for side, members in (("rows", request.rows), ("columns", request.columns)):
        for number, member in enumerate(members or ()):
            check_metadata(member.metadata, f"/{side}/{number}/metadata")


def _join(side: str, known: Sequence[Member], more: Sequence[Member] | None) -> tuple[Member, ...]:
    joined = (*known, *(more or ()))
    if len(joined) > STUDY_MEMBERS_MAX:
        raise InvalidRequest(
            f"The study would have {len(joined)} {side}; at most {STUDY_MEMBERS_MAX} are allowed.",
            value=len(joined),
            limit=STUDY_MEMBERS_MAX,
            pointer=f"/{side}",
        )
    return joined


def take_inline_members(body: object) -> InlineMembers:
    """Remove the inline vectors of members from the request and return them."""
    taken: InlineMembers = {}
    for side in ("rows", "columns"):
        members = body.get(side) if isinstance(body, dict) else None
        for number, value in enumerate(members if isinstance(members, list) else ()):
            if (inline := take_inline(value)) is not None:
                taken[side, number] = inline
    return taken


def _describe(
    request: StudyRequest, rows: Sequence[SetSource], columns: Sequence[SetSource] | None
) -> StudyDescription:
    return StudyDescription(
        _entries("row", request.rows, rows),
        None if columns is None else _entries("column", request.columns or (), columns),
    )


def _entries(word: str, members: Sequence[Member], sources: Sequence[SetSource]) -> list[ModelDescription]:
    return [
        ModelDescription(
            label=find_label(member, source.name if isinstance(source, EmbeddingSet) else f"{word} {number}"),
            shape=shape_of(source),
            metadata=join_metadata(member, source.metadata if isinstance(source, EmbeddingSet) else {}),
            id=source.id if isinstance(source, EmbeddingSet) else None,
        )
        for number, (member, source) in enumerate(zip(members, sources, strict=True))
    ]


def _named(member: Member, kept: EmbeddingSet) -> Member:
    """Return the member with its id and its current label, which later names of the set do not change."""
    return Member(embedding=kept.id, label=find_label(member, kept.name), metadata=member.metadata)


router = APIRouter(tags=["studies"])

StudyFormat = Literal["json", "csv", "parquet"]
MEDIA_TYPES: dict[str, StudyFormat] = {JSON: "json", CSV: "csv", PARQUET: "parquet"}
#: Errors of studies besides those of alignments.
MISSING = (errors.Expired, errors.MissingExtra)


@router.post(
    "/v1/studies",
    status_code=202,
    operation_id="create_study",
    summary="Score many embedding sets",
    response_description="The job, which has not finished yet.",
    response_model=Job,
    responses={**JOB_RESPONSES, **error_responses(*ERRORS)},
    openapi_extra={"requestBody": STUDY_BODY},
)
async def create_study(
    request: Request,
    response: Response,
    service: ServiceDep,
    *,
    prefer: Prefer = None,
    idempotency_key: IdempotencyKey = None,
    dry_run: DryRunQuery = False,
) -> Job | Response:
    """Start a job that scores many embedding sets: rows with columns, or all rows with each other.

    The response is 202 with the job. Finished cells are available at `links.study` while the job runs. Cells that an earlier
    study computed are reused.
    """
    studies = StudyHandler(service.settings, service.stores)
    return await _create(
        request, response, service, prefer, lambda body: studies.read(body, idempotency_key), dry_run=dry_run
    )


@router.post(
    "/v1/studies/{job_id}/models",
    status_code=202,
    operation_id="extend_study",
    summary="Add models to a study",
    response_description="The job, which has not finished yet.",
    response_model=Job,
    responses={**JOB_RESPONSES, **error_responses(*ERRORS, *MISSING)},
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
    dry_run: DryRunQuery = False,
) -> Job | Response:
    """Start a new study with the models of this study and additional ones. Only the new cells are computed."""
    studies = StudyHandler(service.settings, service.stores)
    known = await run_sync(studies.request, job_id)
    return await _create(
        request, response, service, prefer, lambda body: studies.extend(known, body, idempotency_key), dry_run=dry_run
    )


async def _create(
    request: Request,
    response: Response,
    service: ServiceContext,
    prefer: Prefer,
    read: Callable[[object], StudySubmission],
    *,
    dry_run: bool,
) -> Job | Response:
    studies = StudyHandler(service.settings, service.stores)

    def act(body: object) -> Job | Plan:
        submission = read(body)
        return studies.plan(submission) if dry_run else studies.submit(submission)

    return await respond_with_job(await act_on_json(request, service, act), service, prefer, response)


@router.get(
    "/v1/studies/{job_id}",
    operation_id="get_study",
    summary="Get the results of a study",
    response_description="The study with the cells that are finished.",
    response_model=StudyDocument,
    responses={
        200: {
            "description": "The study with the cells that are finished.",
            "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in (CSV, PARQUET)},
        },
        **error_responses(errors.NotFound, *MISSING),
    },
)
async def get_study(
    job_id: JobPath,
    service: ServiceDep,
    *,
    chosen: Annotated[StudyFormat | None, FORMAT] = None,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Return all finished cells of a study, also while it runs.

    Corrected p-values, coordinates and trends are added when all cells are finished. `done` and `total` count the cells. As
    CSV or Parquet, the study is a table with one line for each cell and metric.
    """
    studies = StudyHandler(service.settings, service.stores)
    form = chosen or negotiate(accept, MEDIA_TYPES)

    def render() -> tuple[bool, bytes, str]:
        job, document = studies.document(job_id)
        if form == "json":
            return job.finished, document.model_dump_json(by_alias=True).encode(), JSON
        write, media = (write_csv, f"{CSV}; charset=utf-8") if form == "csv" else (write_parquet, PARQUET)
        return job.finished, write(TABLE, document.table()), media

    finished, body, media = await run_sync(render)
    headers = dict(NEGOTIATED_HEADERS)
    if not finished:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if form != "json":
        headers["Content-Disposition"] = f'attachment; filename="{job_id}.{form}"'
    return Response(body, headers=headers, media_type=media)
