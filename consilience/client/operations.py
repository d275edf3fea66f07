"""Every call of the service, written once for both clients."""

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, TypeVar

from consilience.client.exchange import (
    Operation,
    Request,
    check,
    error_of,
    fetch,
    query,
    read,
    resource,
    submission,
)
from consilience.client.forms import FormBody, Labels, column_json
from consilience.client.options import options_of
from consilience.client.sources import AnySource, Source, body_of, name_of, stored_id
from consilience.contract.alignments import AlignmentRequest, OtherSide, ScoringOptions, Side
from consilience.contract.base import Document, LayerChoice
from consilience.contract.datasets import Dataset, DatasetPage, ViewKind
from consilience.contract.embeddings import EmbeddingPage, EmbeddingSet
from consilience.contract.extraction import Extraction, ExtractionRequest
from consilience.contract.info import Info
from consilience.contract.jobs import Job, JobKind, JobPage, JobStatus, Plan
from consilience.contract.metrics import Catalogue
from consilience.contract.models import Pooling
from consilience.contract.pointers import prefixed
from consilience.contract.studies import StudyOptions
from consilience.contract.study_results import StudyDocument
from consilience.contract.upgrades import UpgradeOptions
from consilience.errors import JobCanceled, WaitTimedOut

#: Seconds between two looks at a job: the first, the longest, and the growth while nothing changes.
POLL_FIRST_S = 0.02
POLL_LONGEST_S = 1.0
POLL_GROWTH = 1.5
#: Seconds that the service may hold an answer back until there is something new.
LONG_POLL_S = 5
NOT_MODIFIED = 304

#: What comes of a job.
Outcome = TypeVar("Outcome", bound=Document)
#: Told of a job whenever it has changed.
Watcher = Callable[[Job], None]


def upload(
    source: Source,
    name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    ids: Labels | None = None,
    groups: Labels | None = None,
) -> Operation[EmbeddingSet]:
    """Send a file or an array; equal content under an equal name is the same set."""
    params = {"name": name or name_of(source)}
    if metadata:
        params["metadata"] = json.dumps(metadata)
    columns = _given_columns(ids=ids, groups=groups)
    body = FormBody(body_of(source), columns) if columns else body_of(source)
    with prefixed(f"File {source}") if isinstance(source, str | Path) else nullcontext():
        return (yield from fetch(Request("POST", "/v1/embeddings", params, body=body), EmbeddingSet))


def embedding(embedding_id: str) -> Operation[EmbeddingSet]:
    """One stored set."""
    return fetch(Request("GET", resource("embeddings", embedding_id)), EmbeddingSet)


def embeddings(name: str | None, cursor: str | None, limit: int) -> Operation[EmbeddingPage]:
    """A page of stored sets, newest first."""
    return fetch(Request("GET", "/v1/embeddings", query(name=name, cursor=cursor, limit=limit)), EmbeddingPage)


def delete(embedding_id: str) -> Operation[None]:
    """Forget a stored set."""
    check((yield Request("DELETE", resource("embeddings", embedding_id))))


def extract(  # noqa: PLR0917 - what the clients are asked, in their order
    model: str,
    dataset: str,
    view: str,
    layers: LayerChoice,
    pooling: Pooling,
    max_length: int | None,
    name: str | None,
    metadata: Mapping[str, Any] | None,
    webhook: str | None,
) -> Operation[Job]:
    """Ask for the set that a model makes of a dataset."""
    wish = {
        "model": model,
        "dataset": dataset,
        "view": view,
        "layers": layers,
        "pooling": pooling,
        "max_length": max_length,
        "name": name,
        "metadata": metadata or {},
        "webhook": webhook and {"url": webhook},
    }
    request = options_of(ExtractionRequest, None, wish)
    body = request.model_dump(mode="json", exclude_defaults=True)
    return (yield from fetch(submission("/v1/embeddings", body), Job))


def add_dataset(
    path: str | os.PathLike[str],
    name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    views: Mapping[str, ViewKind] | None = None,
) -> Operation[Dataset]:
    """Send a file of items; equal content under an equal name is the same dataset."""
    params = {"name": name or name_of(path)}
    params |= {key: json.dumps(value) for key, value in (("metadata", metadata), ("views", views)) if value}
    return (yield from fetch(Request("POST", "/v1/datasets", params, body=body_of(path)), Dataset))


def make_dataset(
    builtin: str, ids: Sequence[str] | None = None, name: str | None = None, metadata: Mapping[str, Any] | None = None
) -> Operation[Dataset]:
    """Have the service make one of its own datasets, or some items of it."""
    given = {"ids": None if ids is None else list(ids), "name": name, "metadata": metadata}
    body = {"builtin": builtin, **{key: value for key, value in given.items() if value is not None}}
    return (yield from fetch(Request("POST", "/v1/datasets", json=body), Dataset))


def dataset(dataset_id: str) -> Operation[Dataset]:
    """One stored dataset."""
    return fetch(Request("GET", resource("datasets", dataset_id)), Dataset)


def datasets(name: str | None, cursor: str | None, limit: int) -> Operation[DatasetPage]:
    """A page of stored datasets, newest first."""
    return fetch(Request("GET", "/v1/datasets", query(name=name, cursor=cursor, limit=limit)), DatasetPage)


def delete_dataset(dataset_id: str) -> Operation[None]:
    """Forget a stored dataset."""
    check((yield Request("DELETE", resource("datasets", dataset_id))))


def align(a: AnySource, b: AnySource, options: ScoringOptions, webhook: str | None = None) -> Operation[Job]:
    """Upload what is not yet stored, then ask for the alignment, whose end the webhook is told of."""
    body = yield from _request(a, b, options)
    return (yield from fetch(submission("/v1/alignments", body, webhook), Job))


def plan(a: AnySource, b: AnySource, options: ScoringOptions) -> Operation[Plan]:
    """What the alignment would cost; no job comes of it."""
    body = yield from _request(a, b, options)
    return (yield from fetch(Request("POST", "/v1/alignments", {"dry_run": "true"}, json=body), Plan))


def study(
    rows: Mapping[str, Source],
    columns: Mapping[str, Source] | None,
    options: StudyOptions,
    metadata: Mapping[str, Mapping[str, Any]] | None,
) -> Operation[Job]:
    """Upload what is not yet stored, then ask for the study."""
    body = options.model_dump(mode="json", include=options.model_fields_set)
    body["rows"] = yield from _members(rows, metadata)
    if columns is not None:
        body["columns"] = yield from _members(columns, metadata)
    return (yield from fetch(submission("/v1/studies", body), Job))


def extend_study(
    study_id: str,
    rows: Mapping[str, Source] | None,
    columns: Mapping[str, Source] | None,
    metadata: Mapping[str, Mapping[str, Any]] | None,
) -> Operation[Job]:
    """The same study with more models."""
    body = {}
    for side, models in (("rows", rows), ("columns", columns)):
        if models:
            body[side] = yield from _members(models, metadata)
    return (yield from fetch(submission(resource("studies", study_id, "models"), body), Job))


def study_so_far(study_id: str) -> Operation[StudyDocument]:
    """What is there of a study."""
    return fetch(Request("GET", resource("studies", study_id)), StudyDocument)


def study_table(study_id: str, form: Literal["csv", "parquet"]) -> Operation[bytes]:
    """What is there of a study, as a file."""
    return check((yield Request("GET", resource("studies", study_id), {"format": form}))).content


def upgrade(
    old: Source,
    new: Source,
    options: UpgradeOptions,
    queries: tuple[Source, Source] | None,
    judgements: Mapping[str, Sequence[str | int]] | None,
) -> Operation[Job]:
    """Upload what is not yet stored, then ask for the upgrade report."""
    body = options.model_dump(mode="json", include=options.model_fields_set)
    body |= {"old": {"embedding": (yield from store(old))}, "new": {"embedding": (yield from store(new))}}
    if queries is not None:
        first, second = queries
        body["queries"] = {
            "old": {"embedding": (yield from store(first))},
            "new": {"embedding": (yield from store(second))},
        }
    if judgements is not None:
        body["judgements"] = {query: list(answers) for query, answers in judgements.items()}
    return (yield from fetch(submission("/v1/upgrades", body), Job))


def upgrade_page(job_id: str, form: Literal["markdown", "html"]) -> Operation[str]:
    """An upgrade report as a page."""
    return check((yield Request("GET", resource("upgrades", job_id), {"format": form}))).text


def job(job_id: str) -> Operation[Job]:
    """One job as it stands."""
    return fetch(Request("GET", resource("jobs", job_id)), Job)


def jobs(status: JobStatus | None, cursor: str | None, limit: int, kind: JobKind | None = None) -> Operation[JobPage]:
    """A page of jobs, newest first."""
    params = query(status=status, kind=kind, cursor=cursor, limit=limit)
    return fetch(Request("GET", "/v1/jobs", params), JobPage)


def cancel(job_id: str) -> Operation[Job]:
    """Ask for a job's end; a finished job stays as it is."""
    return fetch(Request("POST", resource("jobs", job_id, "cancel")), Job)


def wait(job_id: str, timeout_s: float | None, watch: Watcher | None) -> Operation[Job]:
    """Look at the job until it has finished, ever more seldom while nothing changes.

    Raises WaitTimedOut when `timeout_s` seconds have passed first.
    """
    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    request, delay_s = Request("GET", resource("jobs", job_id)), POLL_FIRST_S
    while True:
        response = check((yield request))
        if response.status_code != NOT_MODIFIED:
            delay_s = POLL_FIRST_S
            seen = read(response, Job)
            if watch:
                watch(seen)
            if seen.finished:
                return seen
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise _timed_out(job_id, timeout_s)
        request = _next_look(request.path, response.headers.get("etag"), delay_s, left_s)
        delay_s = min(delay_s * POLL_GROWTH, POLL_LONGEST_S)


def info() -> Operation[Info]:
    """What the service is and what it allows."""
    return fetch(Request("GET", "/v1/info"), Info)


def metrics() -> Operation[Catalogue]:
    """The service's metrics."""
    return fetch(Request("GET", "/v1/metrics"), Catalogue)


def result_of(finished: Job, kind: type[Outcome]) -> Outcome:
    """The document of a finished job, or the error that it ended with, raised."""
    if isinstance(finished.result, kind):
        return finished.result
    if finished.error is not None:
        raise error_of(finished.error)
    raise JobCanceled("The job was canceled.", value=finished.id)


def _request(a: AnySource, b: AnySource, options: ScoringOptions) -> Operation[dict[str, Any]]:
    sides = {"a": (yield from _side(a)), "b": (yield from _side(b, OtherSide))}
    request = AlignmentRequest(**sides, **{name: getattr(options, name) for name in options.model_fields_set})
    return request.model_dump(mode="json", include=request.model_fields_set)


def _side(source: AnySource, kind: type[Side] = Side) -> Operation[Side | Extraction]:
    return source if isinstance(source, Extraction) else kind(embedding=(yield from store(source)))


def _members(
    models: Mapping[str, Source], metadata: Mapping[str, Mapping[str, Any]] | None
) -> Operation[list[dict[str, Any]]]:
    """Every model by id, under its label."""
    found: list[dict[str, Any]] = []
    for label, source in models.items():
        embedding_id = yield from store(source, label)
        found.append({"embedding": embedding_id, "label": label, "metadata": dict((metadata or {}).get(label, {}))})
    return found


def store(source: Source, name: str | None = None) -> Operation[str]:
    """The id of a set, stored now if it is not yet."""
    return stored_id(source) or (yield from upload(source, name)).id


def _next_look(path: str, tag: str | None, delay_s: float, left_s: float) -> Request:
    """Answered when the job is no longer what the tag names, or after LONG_POLL_S; never much after the deadline."""
    hold_s = int(min(LONG_POLL_S, left_s))
    headers = {"if-none-match": tag, "prefer": f"wait={hold_s}"} if tag else {}
    return Request("GET", path, headers=headers, after_s=min(delay_s, left_s))


def _given_columns(**columns: Labels | None) -> dict[str, bytes]:
    return {name: column_json(labels, name) for name, labels in columns.items() if labels is not None}


def _timed_out(job_id: str, timeout_s: float | None) -> WaitTimedOut:
    return WaitTimedOut(
        f"Job {job_id} has not finished after {timeout_s} s.",
        value=job_id,
        limit=timeout_s,
        hint="It goes on; look at it later under its id.",
    )
