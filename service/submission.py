"""Creation of alignment jobs from requests. Runs in threads."""

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
class ReferenceWithSets:
    """Reference set and its members."""

    reference: ReferenceSet
    sets: tuple[EmbeddingSet, ...]


#: Side that is stored: an embedding set or, for b, a reference set.
StoredSide = EmbeddingSet | ReferenceWithSets
#: Side that needs no upload: stored, or to be computed by a model.
StoredOrExtraction = StoredSide | Extraction
#: Any side: one of the above, or a file whose layers are not stored yet.
AlignmentSource = StoredOrExtraction | OpenFile
#: Function that opens a side; a file stays open as long as the stack.
SideOpener = Callable[[ExitStack], AlignmentSource]


@dataclass(frozen=True)
class AlignmentSubmission:
    """Validated request whose data have not been read yet."""

    options: JobOptions
    a: SideOpener
    b: SideOpener
    key: str | None = None


class AlignmentHandler:
    """Reads alignment requests, plans them and creates their jobs."""

    def __init__(self, settings: ServiceSettings, stores: Stores) -> None:
        self._settings, self._stores = settings, stores
        self._dispatch = Dispatch(settings, stores)
        self._extractions = ExtractionHandler(settings, stores)
        self._limits = format_limits(settings)

    def read_json(self, body: object, key: str | None) -> AlignmentSubmission:
        """Read a JSON request, whose sides are ids or inline vectors."""
        inline = take_inline_sides(body)
        request = read_model(AlignmentRequest, body)
        a, b = (
            self._open_vectors(side, inline[side]) if side in inline else self._open_side(side, getattr(request, side))
            for side in ("a", "b")
        )
        self._dispatch.check_webhook(request.webhook)
        return AlignmentSubmission(request, a, b, key)

    def read_form(self, request: object, upload: Upload, key: str | None) -> AlignmentSubmission:
        """Read a form whose sides are files; b can be an id instead."""
        options = read_model(FormOptions, request)
        self._dispatch.check_webhook(options.webhook)
        return AlignmentSubmission(options, self._open_file("a", upload), self._find_other(options.b, upload), key)

    def plan(self, submission: AlignmentSubmission) -> Plan:
        """Return the cost estimate of the job. Nothing is stored."""
        with ExitStack() as stack:
            return self._plan(submission, submission.a(stack), submission.b(stack))

    def submit(self, submission: AlignmentSubmission) -> Job:
        """Create the job, or return the existing job of a known idempotency key. After an error, nothing is stored.

        If Redis is unavailable, the job is still created.
        """
        with ExitStack() as stack:
            sources = submission.a(stack), submission.b(stack)
            cost = self._plan(submission, *sources)
            with new_sets(self._stores, self._settings.data_dir) as sets:
                a, b = (_store_file(sets, source, side) for source, side in zip(sources, "ab", strict=True))
                queue: QueueName = "extract" if isinstance(a, Extraction) or isinstance(b, Extraction) else "align"
                added = self._add(submission, cost, a, b, queue)
        return self._dispatch.deliver(added, queue)

    def _plan(self, submission: AlignmentSubmission, a: AlignmentSource, b: AlignmentSource) -> Plan:
        limits = self._dispatch.limits
        assert not isinstance(a, ReferenceWithSets)  # noqa: S101 - side a of a request cannot be a reference set
        if isinstance(a, Extraction) or isinstance(b, Extraction):
            return plan_with_extraction(submission.options, self._foresee(a), self._foresee(b), limits)
        if isinstance(b, ReferenceWithSets):
            return plan_reference(submission.options, shape_of(a), [SideShape.of(each) for each in b.sets], limits)
        return plan(submission.options, shape_of(a), shape_of(b), limits)

    def _foresee(self, side: AlignmentSource) -> SideShape | PlannedSide:
        if isinstance(side, Extraction):
            return self._extractions.foresee(side)
        return SideShape.of(side.sets[0]) if isinstance(side, ReferenceWithSets) else shape_of(side)

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
            "reference" if isinstance(b, ReferenceWithSets) else "alignment",
            {"a": _name(a), "b": _name(b), **options},
            cost,
            (*_ids(a), *_ids(b)),
            submission.key,
            queue=queue,
            references=(b.reference.id,) if isinstance(b, ReferenceWithSets) else (),
            datasets=[held for wish in wishes for held in self._extractions.check(wish).held],
        )

    def _open_side(self, name: str, side: Side | Extraction) -> SideOpener:
        if isinstance(side, Extraction):
            with at_pointer(f"/{name}"):
                self._extractions.check(side)
            return lambda _stack: side
        return self._find(name, side)

    def _find(self, side: str, named: Side) -> SideOpener:
        def opener(_stack: ExitStack) -> AlignmentSource:
            if isinstance(named, ReferenceOrSide) and named.reference is not None:
                with at_pointer(f"/{side}/reference"):
                    return self._find_members(named.reference)
            with at_pointer(f"/{side}/embedding"):
                return self._stores.embeddings.get(named.embedding or "")

        return opener

    def _find_members(self, reference_id: str) -> ReferenceWithSets:
        reference, sets = self._stores.references.open(reference_id)
        return ReferenceWithSets(reference, sets)

    def _find_other(self, named: ReferenceOrSide | None, upload: Upload) -> SideOpener:
        """Open side b of a form: a file, or the stored set or reference set in its part `request`."""
        if named is None and "b" not in upload.files:
            raise InvalidRequest(
                "The form has no part `b`, and its part `request` has no `b` either.",
                hint="Send `b` as a file, or set `b` in the part `request` to a stored set or a reference set.",
                pointer="/b",
            )
        if named is None:
            return self._open_file("b", upload)
        if "b" in upload.files or named.vectors is not None:
            raise InvalidRequest(
                "The form has `b` twice: as a file and in the part `request`."
                if "b" in upload.files
                else "The part `request` has inline vectors as `b`; in a form, vectors must be a file.",
                hint="Send `b` as a file, or set `b` in the part `request` to a stored set or a reference set.",
                pointer="/b",
            )
        return self._find("b", named)

    def _open_vectors(self, side: str, inline: InlineVectors) -> SideOpener:
        return lambda _stack: open_inline(inline, self._limits, f"/{side}")

    def _open_file(self, side: str, upload: Upload) -> SideOpener:
        path, media_type = upload.files[side]
        names = f"ids_{side}", f"groups_{side}"

        def opener(stack: ExitStack) -> AlignmentSource:
            with at_pointer(f"/{side}"):
                file = stack.enter_context(open_file(path, media_type, self._limits))
            return file.with_columns(upload.column(names[0]), upload.column(names[1]), names)

        return opener


def take_inline_sides(body: object) -> dict[str, InlineVectors]:
    """Remove the inline vectors from the request and return them by side."""
    sides = {side: take_inline(body.get(side)) for side in ("a", "b")} if isinstance(body, dict) else {}
    return {side: taken for side, taken in sides.items() if taken is not None}


def _name(side: StoredOrExtraction) -> dict[str, Any]:
    """Return the form of a side in the stored request."""
    if isinstance(side, Extraction):
        return side.model_dump(mode="json")
    return {"embedding": side.id} if isinstance(side, EmbeddingSet) else {"reference": side.reference.id}


def _ids(side: StoredOrExtraction) -> tuple[str, ...]:
    """Return the ids of the stored sets of a side."""
    if isinstance(side, Extraction):
        return ()
    return (side.id,) if isinstance(side, EmbeddingSet) else tuple(each.id for each in side.sets)


def _store_file(sets: NewSets, source: AlignmentSource, side: str) -> StoredOrExtraction:
    return store_source(sets, source, f"/{side}", side) if isinstance(source, OpenFile) else source
