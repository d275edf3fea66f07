"""From an alignment request to a job row and a message to the workers. Runs in threads."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
import structlog
from pydantic import BaseModel, ValidationError

from consilience.contract.embeddings import DTYPE_BYTES, EmbeddingSet
from consilience.contract.jobs import AlignmentRequest, Job, JobOptions, Plan
from consilience.errors import ConsilienceError, InvalidRequest, ServiceError
from consilience.formats.files import OpenFile, from_vectors, open_file
from consilience.planning import CostLimits, SideShape, plan
from service.faults import explain
from service.ingest import NewSets, format_limits, new_sets
from service.metadata import DEPTH_LIMIT, check_metadata, walk
from service.settings import Settings
from service.stores import Stores
from service.uploads import Upload

#: Values in a request besides its vectors; far more than the largest sensible one has.
VALUES_LIMIT = 10_000

Model = TypeVar("Model", bound=BaseModel)

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
        self._check_webhook(request)
        return Submission(request, a, b, key)

    def read_form(self, request: object, upload: Upload, key: str | None) -> Submission:
        """A submission whose sides came as files."""
        options = read_model(JobOptions, request)
        self._check_webhook(options)
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
                job, delivery, created = self._add(submission, cost, a, b)
        if created:
            structlog.get_logger().info("job_queued", job=job.id, delivery=delivery)
            self._deliver(job.id, delivery)
        return job

    def _plan(self, submission: Submission, a: Source, b: Source) -> Plan:
        settings = self._settings
        limits = CostLimits(settings.job_flops_limit, settings.job_memory_bytes, settings.job_timeout_s)
        return plan(submission.options, shape_of(a), shape_of(b), limits)

    def _add(self, submission: Submission, cost: Plan, a: EmbeddingSet, b: EmbeddingSet) -> tuple[Job, int, bool]:
        options = submission.options.model_dump(mode="json", include=set(JobOptions.model_fields))
        request = {"a": {"embedding": a.id}, "b": {"embedding": b.id}, **options}
        idempotency = (submission.key, _fingerprint(request)) if submission.key else None
        return self._stores.jobs.add("alignment", request, cost, (a.id, b.id), idempotency)

    def _deliver(self, job_id: str, delivery: int) -> None:
        try:
            self._stores.queue.push(job_id, delivery, self._settings.job_timeout_s)
        except ServiceError as error:
            # The job's row is what counts: the reconciler finds that it was not delivered, and delivers it.
            structlog.get_logger().warning("delivery_postponed", job=job_id, detail=error.detail)

    def _check_webhook(self, options: JobOptions) -> None:
        if options.webhook is None:
            return
        if self._settings.webhook_secret is None:
            raise InvalidRequest(
                "This service sends no webhooks: it has no secret to sign them with.",
                value=options.webhook.url,
                hint="The operator turns them on with CONSILIENCE_WEBHOOK_SECRET; jobs can be polled and watched.",
                pointer="/webhook",
            )
        with placed("/webhook/url"):
            self._settings.destinations.check_host(options.webhook.url.host or "")

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


def read_model(model: type[Model], body: object) -> Model:
    """A request's model from its parsed JSON.

    Raises
    ------
    InvalidFields
        With each fault's JSON pointer.
    InvalidRequest
        Nested too deeply, or too many values: pydantic would report each of a million faults.
    """
    for count, (depth, _) in enumerate(walk(body)):
        if depth > DEPTH_LIMIT or count > VALUES_LIMIT:
            raise InvalidRequest(
                f"A request has at most {VALUES_LIMIT} values besides its vectors, {DEPTH_LIMIT} levels deep.",
                limit=VALUES_LIMIT if count > VALUES_LIMIT else DEPTH_LIMIT,
            )
    try:
        request = model.model_validate(body)
    except ValidationError as error:
        raise explain(error, body, model) from None
    check_metadata(getattr(request, "metadata", {}), "/metadata")
    return request


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


@contextmanager
def placed(pointer: str) -> Iterator[None]:
    """Errors of the block are about this place in the request."""
    try:
        yield
    except ConsilienceError as error:
        error.pointer = pointer + (error.pointer or "")
        raise


def _keep(sets: NewSets, source: Source, side: str) -> EmbeddingSet:
    if isinstance(source, EmbeddingSet):
        return source
    with placed(f"/{side}"):
        return sets.store(source, side)


def _fingerprint(request: dict[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).hexdigest()
