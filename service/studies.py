"""From a study request to its job, and from a job to what is there of its study. Runs in threads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import Job, Plan
from consilience.contract.places import placed
from consilience.contract.studies import MEMBERS_MAX, Member, MoreModels, StudyRequest, cell_key
from consilience.contract.study_results import StudyDocument
from consilience.errors import InvalidRequest, NotFound
from consilience.planning.studies import Entries, Entry, assemble, find_label, join_metadata, plan_study
from consilience.stores.jobs import Added
from service.dispatch import Dispatch
from service.ingest import NewSets, format_limits, new_sets
from service.metadata import check_metadata
from service.reading import read_model
from service.settings import Settings
from service.sources import Inline, Source, keep_source, open_inline, shape_of, take_inline
from service.stores import Stores

#: Members' vectors as they came, by their place in the request.
Taken = dict[tuple[str, int], Inline]


@dataclass(frozen=True)
class StudySubmission:
    """A request, checked as far as it can be without looking at the data."""

    request: StudyRequest
    key: str | None = None
    inline: Taken = field(default_factory=dict)
    known: Mapping[str, int] = field(default_factory=dict)
    """How many members of each side were there already, before those of this request."""

    def place(self, side: str, number: int) -> str:
        """Where in the body a member stands; the body as a whole for one that was there already."""
        own = number - self.known.get(side, 0)
        return f"/{side}/{own}" if own >= 0 else ""


class Studies:
    """Turns submissions into jobs, and jobs into documents."""

    def __init__(self, settings: Settings, stores: Stores) -> None:
        self._settings, self._stores = settings, stores
        self._dispatch = Dispatch(settings, stores)
        self._limits = format_limits(settings)

    def read(self, body: object, key: str | None) -> StudySubmission:
        """A submission whose members are named or spelled out in JSON."""
        inline = take_vectors(body)
        request = read_model(StudyRequest, body)
        _check_members(request)
        self._dispatch.check_webhook(request.webhook)
        return StudySubmission(request, key, inline)

    def request(self, study_id: str) -> StudyRequest:
        """What was asked; NotFound, Expired."""
        return _read_request(self._stores.jobs.get(study_id))

    def extend(self, known: StudyRequest, body: object, key: str | None) -> StudySubmission:
        """A known study with more models; InvalidRequest where it has no such side, or no room for them."""
        inline = take_vectors(body)
        more = read_model(MoreModels, body)
        _check_members(more)
        if known.columns is None and more.columns is not None:
            raise InvalidRequest(
                "This study compares its rows with each other: it has no columns.",
                hint="Add `rows`.",
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
        """What the job would cost; nothing is stored."""
        return self._plan(submission, *self._open(submission))

    def submit(self, submission: StudySubmission) -> Job:
        """The job; the known one under a known key. Where anything fails, nothing is left behind."""
        rows, columns = self._open(submission)
        cost = self._plan(submission, rows, columns)
        with new_sets(self._stores, self._settings.data_dir) as sets:
            added = self._add(submission, cost, self._keep(sets, submission, rows, columns))
        return self._dispatch.deliver(added)

    def document(self, study_id: str) -> tuple[Job, StudyDocument]:
        """The job of a study, and its document as far as it is there.

        Raises
        ------
        NotFound
            There is no such study; or it has no result, and one of its sets is gone.
        Expired
        """
        job = self._stores.jobs.get(study_id)
        request = _read_request(job)
        if isinstance(job.result, StudyDocument):
            return job, job.result
        return job, self._assemble(request)

    def _assemble(self, request: StudyRequest) -> StudyDocument:
        """The cells that are there, whoever found them."""
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
        """A member of a study that has no result; while it is unfinished no member can go."""
        try:
            return self._stores.embeddings.get(member.embedding or "")
        except NotFound as error:
            raise NotFound(
                f"The study has no result, and its set {member.label} has been deleted since.",
                value=error.value,
                hint="Make a study of the sets that are there: it finds the cells that are known.",
                pointer=f"/{side}/{place}",
            ) from error

    def _open(self, submission: StudySubmission) -> tuple[list[Source], list[Source] | None]:
        """Every member: a stored set, or vectors not yet kept."""
        request = submission.request

        def open_all(side: str, members: Sequence[Member]) -> list[Source]:
            return [self._open_member(submission, side, number, each) for number, each in enumerate(members)]

        rows = open_all("rows", request.rows)
        return rows, None if request.columns is None else open_all("columns", request.columns)

    def _open_member(self, submission: StudySubmission, side: str, number: int, member: Member) -> Source:
        place = submission.place(side, number)
        if (taken := submission.inline.get((side, number))) is not None:
            return open_inline(taken, self._limits, place)
        with placed(place):
            return self._stores.embeddings.get(member.embedding or "")

    def _plan(self, submission: StudySubmission, rows: Sequence[Source], columns: Sequence[Source] | None) -> Plan:
        entries = _describe(submission.request, rows, columns)
        return plan_study(submission.request, entries, self._dispatch.limits, self._settings.study_cells_limit)

    def _keep(
        self, sets: NewSets, submission: StudySubmission, rows: Sequence[Source], columns: Sequence[Source] | None
    ) -> StudyRequest:
        """The request with every member stored and labelled."""
        request = submission.request

        def keep_all(side: str, members: Sequence[Member], sources: Sequence[Source]) -> tuple[Member, ...]:
            return tuple(
                _named(
                    member,
                    keep_source(sets, source, submission.place(side, number), f"{side.removesuffix('s')} {number}"),
                )
                for number, (member, source) in enumerate(zip(members, sources, strict=True))
            )

        update: dict[str, object] = {"rows": keep_all("rows", request.rows, rows)}
        if request.columns is not None and columns is not None:
            update["columns"] = keep_all("columns", request.columns, columns)
        return request.model_copy(update=update)

    def _add(self, submission: StudySubmission, cost: Plan, request: StudyRequest) -> Added:
        used = tuple(dict.fromkeys(each.embedding or "" for each in (*request.rows, *(request.columns or ()))))
        return self._dispatch.add("study", request.model_dump(mode="json"), cost, used, submission.key)


def _read_request(job: Job) -> StudyRequest:
    if job.kind != "study":
        raise NotFound("There is no such study.", value=job.id, hint=f"It is a job of kind {job.kind}.")
    return StudyRequest.model_validate(job.request)


def _check_members(request: StudyRequest | MoreModels) -> None:
    for side, members in (("rows", request.rows), ("columns", request.columns)):
        for number, member in enumerate(members or ()):
            check_metadata(member.metadata, f"/{side}/{number}/metadata")


def _join(side: str, known: Sequence[Member], more: Sequence[Member] | None) -> tuple[Member, ...]:
    joined = (*known, *(more or ()))
    if len(joined) > MEMBERS_MAX:
        raise InvalidRequest(
            f"With these the study would have {len(joined)} {side}; at most {MEMBERS_MAX} are allowed.",
            value=len(joined),
            limit=MEMBERS_MAX,
            pointer=f"/{side}",
        )
    return joined


def take_vectors(body: object) -> Taken:
    """Take the inline members out of the request."""
    taken: Taken = {}
    for side in ("rows", "columns"):
        members = body.get(side) if isinstance(body, dict) else None
        for number, value in enumerate(members if isinstance(members, list) else ()):
            if (inline := take_inline(value)) is not None:
                taken[side, number] = inline
    return taken


def _describe(request: StudyRequest, rows: Sequence[Source], columns: Sequence[Source] | None) -> Entries:
    return Entries(
        _entries("row", request.rows, rows),
        None if columns is None else _entries("column", request.columns or (), columns),
    )


def _entries(word: str, members: Sequence[Member], sources: Sequence[Source]) -> list[Entry]:
    return [
        Entry(
            label=find_label(member, source.name if isinstance(source, EmbeddingSet) else f"{word} {number}"),
            shape=shape_of(source),
            metadata=join_metadata(member, source.metadata if isinstance(source, EmbeddingSet) else {}),
            id=source.id if isinstance(source, EmbeddingSet) else None,
        )
        for number, (member, source) in enumerate(zip(members, sources, strict=True))
    ]


def _named(member: Member, kept: EmbeddingSet) -> Member:
    """The member by id, under the label that it has now: a later name of the set changes nothing."""
    return Member(embedding=kept.id, label=find_label(member, kept.name), metadata=member.metadata)
