"""From an alignment request to its job. Runs in threads."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from consilience.contract.alignments import AlignmentRequest, FormOptions, JobOptions, ReferenceOrSide, Side
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.extraction import Extraction
from consilience.contract.jobs import Job, Plan, QueueName
from consilience.contract.pointers import at_pointer
from consilience.contract.references import ReferenceSet
from consilience.errors import InvalidRequest
from consilience.formats.files import OpenFile, open_file
from consilience.planning.alignments import SideShape, plan
from consilience.planning.studies import plan_reference
from consilience.stores.jobs import AddedJob
from service.dispatch import Dispatch
from service.extractions import ExtractionHandler, PlannedSide, plan_with_extraction
from service.ingest import (
    InlineVectors,
    NewSets,
    format_limits,
    new_sets,
    open_inline,
    shape_of,
    store_source,
    take_inline,
)
from service.multipart import Upload
from service.request_body import read_model
from service.settings import ServiceSettings
from service.stores import Stores


@dataclass(frozen=True)
class ReferenceMembers:
    """A reference set and its members."""

    reference: ReferenceSet
    sets: tuple[EmbeddingSet, ...]


#: One side that is there: a stored set or, as b, a reference set.
StoredSide = EmbeddingSet | ReferenceMembers
#: One side whose bytes are all stored: the same, or what a model is to make.
StoredOrExtraction = StoredSide | Extraction
#: One side: the same, or a file whose layers are not yet kept.
SideSource = StoredOrExtraction | OpenFile
#: Opens a side; a file stays open as long as the stack.
SideOpener = Callable[[ExitStack], SideSource]


@dataclass(frozen=True)
class AlignmentSubmission:
    """A request, checked as far as it can be without looking at the data."""

    options: JobOptions
    a: SideOpener
    b: SideOpener
    key: str | None = None


class AlignmentHandler:
    """Turns submissions into jobs."""

    def __init__(self, settings: ServiceSettings, stores: Stores) -> None:
        self._settings, self._stores = settings, stores
        self._dispatch = Dispatch(settings, stores)
        self._extractions = ExtractionHandler(settings, stores)
        self._limits = format_limits(settings)

    def read_json(self, body: object, key: str | None) -> AlignmentSubmission:
        """A submission whose sides are named or spelled out in JSON."""
        inline = take_inline_sides(body)
        request = read_model(AlignmentRequest, body)
        a, b = (
            self._open_vectors(side, inline[side]) if side in inline else self._open_side(side, getattr(request, side))
            for side in ("a", "b")
        )
        self._dispatch.check_webhook(request.webhook)
        return AlignmentSubmission(request, a, b, key)

    def read_form(self, request: object, upload: Upload, key: str | None) -> AlignmentSubmission:
        """A submission whose sides came as files; b may be named instead."""
        options = read_model(FormOptions, request)
        self._dispatch.check_webhook(options.webhook)
        return AlignmentSubmission(options, self._open_file("a", upload), self._find_other(options.b, upload), key)

    def plan(self, submission: AlignmentSubmission) -> Plan:
        """What the job would cost; nothing is stored."""
        with ExitStack() as stack:
            return self._plan(submission, submission.a(stack), submission.b(stack))

    def submit(self, submission: AlignmentSubmission) -> Job:
        """The job; the known one under a known key. Where anything fails, nothing is left behind.

        Redis being away is no failure.
        """
        with ExitStack() as stack:
            sources = submission.a(stack), submission.b(stack)
            cost = self._plan(submission, *sources)
            with new_sets(self._stores, self._settings.data_dir) as sets:
                a, b = (_store_file(sets, source, side) for source, side in zip(sources, "ab", strict=True))
                queue: QueueName = "extract" if isinstance(a, Extraction) or isinstance(b, Extraction) else "align"
                added = self._add(submission, cost, a, b, queue)
        return self._dispatch.deliver(added, queue)

    def _plan(self, submission: AlignmentSubmission, a: SideSource, b: SideSource) -> Plan:
        limits = self._dispatch.limits
        assert not isinstance(a, ReferenceMembers)  # noqa: S101 - no request can name one as a
        if isinstance(a, Extraction) or isinstance(b, Extraction):
            return plan_with_extraction(submission.options, self._foresee(a), self._foresee(b), limits)
        if isinstance(b, ReferenceMembers):
            return plan_reference(submission.options, shape_of(a), [SideShape.of(each) for each in b.sets], limits)
        return plan(submission.options, shape_of(a), shape_of(b), limits)

    def _foresee(self, side: SideSource) -> SideShape | PlannedSide:
        if isinstance(side, Extraction):
            return self._extractions.foresee(side)
        return SideShape.of(side.sets[0]) if isinstance(side, ReferenceMembers) else shape_of(side)

    def _add(
        self,
        submission: AlignmentSubmission,
        cost: Plan,
        a: StoredOrExtraction,
        b: StoredOrExtraction,
        queue: QueueName,
    ) -> AddedJob:
        options = submission.options.model_dump(mode="json", include=set(JobOptions.model_fields))
        wishes = [side for side in (a, b) if isinstance(side, Extraction)]
        return self._dispatch.add(
            "reference" if isinstance(b, ReferenceMembers) else "alignment",
            {"a": _name(a), "b": _name(b), **options},
            cost,
            (*_ids(a), *_ids(b)),
            submission.key,
            queue=queue,
            references=(b.reference.id,) if isinstance(b, ReferenceMembers) else (),
            datasets=[held for wish in wishes for held in self._extractions.check(wish).held],
        )

    def _open_side(self, name: str, side: Side | Extraction) -> SideOpener:
        if isinstance(side, Extraction):
            with at_pointer(f"/{name}"):
                self._extractions.check(side)
            return lambda _stack: side
        return self._find(name, side)

    def _find(self, side: str, named: Side) -> SideOpener:
        def opener(_stack: ExitStack) -> SideSource:
            if isinstance(named, ReferenceOrSide) and named.reference is not None:
                with at_pointer(f"/{side}/reference"):
                    return self._find_members(named.reference)
            with at_pointer(f"/{side}/embedding"):
                return self._stores.embeddings.get(named.embedding or "")

        return opener

    def _find_members(self, reference_id: str) -> ReferenceMembers:
        reference, sets = self._stores.references.open(reference_id)
        return ReferenceMembers(reference, sets)

    def _find_other(self, named: ReferenceOrSide | None, upload: Upload) -> SideOpener:
        """The b of a form: a file, or what its part `request` names."""
        if named is None and "b" not in upload.files:
            raise InvalidRequest(
                "The form has no part `b`.",
                hint="Send it as a file, or name a stored set or a reference set as `b` in the part `request`.",
                pointer="/b",
            )
        if named is None:
            return self._open_file("b", upload)
        if "b" in upload.files or named.vectors is not None:
            raise InvalidRequest(
                "The form has two forms of `b`." if "b" in upload.files else "The vectors of `b` come as a file.",
                hint="Send `b` as a file, or name a stored set or a reference set in the part `request`.",
                pointer="/b",
            )
        return self._find("b", named)

    def _open_vectors(self, side: str, inline: InlineVectors) -> SideOpener:
        return lambda _stack: open_inline(inline, self._limits, f"/{side}")

    def _open_file(self, side: str, upload: Upload) -> SideOpener:
        path, media_type = upload.files[side]
        names = f"ids_{side}", f"groups_{side}"

        def opener(stack: ExitStack) -> SideSource:
            with at_pointer(f"/{side}"):
                file = stack.enter_context(open_file(path, media_type, self._limits))
            return file.with_columns(upload.column(names[0]), upload.column(names[1]), names)

        return opener


def take_inline_sides(body: object) -> dict[str, InlineVectors]:
    """Take the inline sides out of the request."""
    sides = {side: take_inline(body.get(side)) for side in ("a", "b")} if isinstance(body, dict) else {}
    return {side: taken for side, taken in sides.items() if taken is not None}


def _name(side: StoredOrExtraction) -> dict[str, Any]:
    """A side as the stored request has it."""
    if isinstance(side, Extraction):
        return side.model_dump(mode="json")
    return {"embedding": side.id} if isinstance(side, EmbeddingSet) else {"reference": side.reference.id}


def _ids(side: StoredOrExtraction) -> tuple[str, ...]:
    """The stored sets that a side is made of."""
    if isinstance(side, Extraction):
        return ()
    return (side.id,) if isinstance(side, EmbeddingSet) else tuple(each.id for each in side.sets)


def _store_file(sets: NewSets, source: SideSource, side: str) -> StoredOrExtraction:
    return store_source(sets, source, f"/{side}", side) if isinstance(source, OpenFile) else source
