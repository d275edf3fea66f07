"""From an alignment request to its job. Runs in threads."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from consilience.contract.embeddings import DTYPE_BYTES, EmbeddingSet
from consilience.contract.jobs import AlignmentRequest, Job, JobOptions, Plan
from consilience.formats.files import OpenFile, from_vectors, open_file
from consilience.planning import SideShape, plan
from consilience.stores.jobs import Added
from service.dispatch import Dispatch
from service.ingest import NewSets, format_limits, new_sets
from service.reading import placed, read_model
from service.settings import Settings
from service.stores import Stores
from service.uploads import Upload

#: One side: a stored set, or a file whose layers are not yet kept.
Source = EmbeddingSet | OpenFile
#: Opens a side; a file stays open as long as the stack.
Opener = Callable[[ExitStack], Source]


@dataclass(frozen=True)
class Submission:
    """A request, checked as far as it can be without looking at the data."""

    options: JobOptions
    a: Opener
    b: Opener
    key: str | None = None


class Submissions:
    """Turns submissions into jobs."""

    def __init__(self, settings: Settings, stores: Stores) -> None:
        self._settings, self._stores = settings, stores
        self._dispatch = Dispatch(settings, stores)
        self._limits = format_limits(settings)

    def read_json(self, body: object, key: str | None) -> Submission:
        """A submission whose sides are named or spelled out in JSON."""
        inline = take_vectors(body)
        request = read_model(AlignmentRequest, body)
        a, b = (
            self._open_vectors(side, inline[side])
            if side in inline
            else self._find(side, getattr(request, side).embedding)
            for side in ("a", "b")
        )
        self._dispatch.check_webhook(request.webhook)
        return Submission(request, a, b, key)

    def read_form(self, request: object, upload: Upload, key: str | None) -> Submission:
        """A submission whose sides came as files."""
        options = read_model(JobOptions, request)
        self._dispatch.check_webhook(options.webhook)
        return Submission(options, self._open_file("a", upload), self._open_file("b", upload), key)

    def plan(self, submission: Submission) -> Plan:
        """What the job would cost; nothing is stored."""
        with ExitStack() as stack:
            return self._plan(submission, submission.a(stack), submission.b(stack))

    def submit(self, submission: Submission) -> Job:
        """The job; the known one under a known key. Where anything fails, nothing is left behind.

        Redis being away is no failure.
        """
        with ExitStack() as stack:
            sources = submission.a(stack), submission.b(stack)
            cost = self._plan(submission, *sources)
            with new_sets(self._stores, self._settings.data_dir) as sets:
                a, b = (_keep(sets, source, side) for source, side in zip(sources, "ab", strict=True))
                added = self._add(submission, cost, a, b)
        return self._dispatch.deliver(added)

    def _plan(self, submission: Submission, a: Source, b: Source) -> Plan:
        return plan(submission.options, shape_of(a), shape_of(b), self._dispatch.limits)

    def _add(self, submission: Submission, cost: Plan, a: EmbeddingSet, b: EmbeddingSet) -> Added:
        options = submission.options.model_dump(mode="json", include=set(JobOptions.model_fields))
        request = {"a": {"embedding": a.id}, "b": {"embedding": b.id}, **options}
        return self._dispatch.add("alignment", request, cost, (a.id, b.id), submission.key)

    def _find(self, side: str, embedding_id: str) -> Opener:
        def opener(_stack: ExitStack) -> Source:
            with placed(f"/{side}/embedding"):
                return self._stores.embeddings.get(embedding_id)

        return opener

    def _open_vectors(self, side: str, inline: Mapping[str, object]) -> Opener:
        def opener(_stack: ExitStack) -> Source:
            with placed(f"/{side}"):
                return from_vectors(inline["vectors"], self._limits, ids=inline.get("ids"), groups=inline.get("groups"))

        return opener

    def _open_file(self, side: str, upload: Upload) -> Opener:
        path, media_type = upload.files[side]
        names = f"ids_{side}", f"groups_{side}"

        def opener(stack: ExitStack) -> Source:
            with placed(f"/{side}"):
                file = stack.enter_context(open_file(path, media_type, self._limits))
            return file.with_columns(upload.column(names[0]), upload.column(names[1]), names)

        return opener


def take_vectors(body: object) -> dict[str, dict[str, object]]:
    """Take inline sides out of the request, leaving `[]` as vectors: the format's own checks are stricter and leaner."""
    taken = {}
    for side in ("a", "b"):
        value = body.get(side) if isinstance(body, dict) else None
        if isinstance(value, dict) and isinstance(value.get("vectors"), list) and value.get("embedding") is None:
            taken[side] = {name: value.pop(name) for name in ("vectors", "ids", "groups") if name in value}
            value["vectors"] = []
    return taken


def shape_of(source: Source) -> SideShape:
    """What planning needs to know of a side."""
    if isinstance(source, EmbeddingSet):
        return SideShape.of(source)
    widest = max(DTYPE_BYTES[layer.dtype] for layer in source.layers)
    return SideShape(
        n=source.n,
        layers=tuple((layer.name, layer.dim) for layer in source.layers),
        item_bytes=widest,
        unique_ids=None if source.ids is None else len(set(source.ids)),
        has_groups=source.groups is not None,
    )


def _keep(sets: NewSets, source: Source, side: str) -> EmbeddingSet:
    if isinstance(source, EmbeddingSet):
        return source
    with placed(f"/{side}"):
        return sets.store(source, side)
