"""Synchronous client of the service.

from consilience.client import Client

with Client("http://127.0.0.1:8000") as client:
    alignment = client.align("old.npy", "new.npy", metrics=["mutual_knn"])
    document = alignment.wait()
    print(document.scores[0].value)
"""

# Generated from aio.py by `make client`. Edit that module.

import os
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Literal, Self, Unpack, overload

import httpx2
import stamina

from consilience.client.bodies import (
    MAP_MEDIA_TYPE,
    AnySource,
    Labels,
    Source,
    body_of,
    file_body,
    name_of,
    stored_id,
    upload_body,
)
from consilience.client.operations import (
    REFERENCE_ID,
    AnyReference,
    Outcome,
    Polling,
    Watcher,
    alignment_body,
    check_sides,
    dump,
    json_params,
    member,
    names_file,
    options_of,
    reference_body,
    result_of,
    vectors_body,
)
from consilience.client.transport import (
    DEFAULT_URL,
    Body,
    Model,
    PreparedRequest,
    RetryLater,
    add_key,
    check,
    check_url,
    get,
    raise_for_retry,
    read,
    read_body,
    resource,
    retries,
    submission,
    timeouts,
    unreachable,
)
from consilience.contract.alignments import ScoringOptions
from consilience.contract.base import LayerChoice
from consilience.contract.datasets import Dataset, DatasetPage, ViewKind
from consilience.contract.embeddings import EmbeddingPage, EmbeddingSet
from consilience.contract.extraction import Extraction, ExtractionDocument, ExtractionRequest
from consilience.contract.info import Info
from consilience.contract.jobs import Job, JobKind, JobPage, JobStatus, Plan
from consilience.contract.keywords import MapKeywords, ScoringKeywords, StudyKeywords, UpgradeKeywords
from consilience.contract.maps import MapOptions, MapPage, StoredMap, TranslatedVectors, TranslationDocument
from consilience.contract.metrics import Catalogue
from consilience.contract.models import Pooling
from consilience.contract.references import ReferencePage, ReferenceSet
from consilience.contract.scores import ReferenceDocument, ScoreDocument
from consilience.contract.studies import StudyOptions
from consilience.contract.study_results import StudyDocument
from consilience.contract.upgrades import UpgradeOptions, UpgradeReport
from consilience.errors import NotFound


class PendingJob(Generic[Outcome]):
    """A job of the service and the document that it will produce.

    Attributes
    ----------
    job : Job
        The job as last fetched.
    """

    def __init__(self, client: "Client", job: Job, outcome: type[Outcome]) -> None:
        self._client, self._outcome = client, outcome
        self.job = job

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    def refresh(self) -> Job:
        """Fetch the job's current state."""
        self.job = self._client.job(self.id)
        return self.job

    def cancel(self) -> Job:
        """Request cancellation; a finished job does not change."""
        self.job = self._client.cancel(self.id)
        return self.job

    def wait(self, *, timeout_s: float | None = None, watch: Watcher | None = None) -> Outcome:
        """Wait until the job has finished and return its document.

        `watch` is called with the job whenever it has changed. Raises the error that the job failed with, JobCanceled if it
        was canceled, WaitTimedOut after `timeout_s` seconds.
        """
        self.job = self._client.wait(self.id, timeout_s=timeout_s, watch=watch)
        return result_of(self.job, self._outcome)


class Client:
    """Connection to one service.

    Parameters
    ----------
    url : str
        Address of the service.
    timeout_s : float
        Seconds to wait for a response.
    retry_timeout_s : float
        Seconds during which a request is retried after a failed connection or a response 429 or 503.
    headers : mapping, optional
        Headers of every request.
    api_key : str, optional
        API key, ``csl_...``; by default that of the environment variable CONSILIENCE_API_KEY, if it is set.

    Every method raises the class of `consilience.errors` that matches the problem document of an error response, and
    Unreachable if the service does not respond. A `Source` is a stored embedding set, its id, the path of a file, or an array;
    files and arrays are uploaded first.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout_s: float = 120.0,
        retry_timeout_s: float = 10.0,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
    ) -> None:
        self._http = httpx2.Client(
            base_url=check_url(url), timeout=timeouts(timeout_s), headers=add_key(headers, api_key)
        )
        self._retries = retries(retry_timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def info(self) -> Info:
        """Fetch the service's version, capabilities and limits."""
        return self._fetch(get("info"), Info)

    def metrics(self) -> Catalogue:
        """Fetch the catalogue of metrics."""
        return self._fetch(get("metrics"), Catalogue)

    def upload(
        self,
        source: Source,
        *,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        ids: Labels | None = None,
        groups: Labels | None = None,
    ) -> EmbeddingSet:
        """Store a file, by its path, or an array (n, d) or (n, L, d) as an embedding set.

        `ids` are the item ids of the rows; rows with equal `groups` belong together. Each has n strings or integers. Uploading
        the same content under the same name again returns the same set.
        """
        body = upload_body(source, ids, groups)
        params = {"name": name or name_of(source), **json_params(metadata=metadata)}
        with names_file(source):
            return self._fetch(PreparedRequest("POST", "/v1/embeddings", params, body=body), EmbeddingSet)

    def embedding(self, embedding_id: str) -> EmbeddingSet:
        """Fetch one embedding set's description."""
        return self._fetch(get("embeddings", embedding_id), EmbeddingSet)

    def embeddings(self, *, name: str | None = None, cursor: str | None = None, limit: int = 50) -> EmbeddingPage:
        """Fetch a page of embedding sets, newest first."""
        return self._fetch(get("embeddings", name=name, cursor=cursor, limit=limit), EmbeddingPage)

    def delete(self, embedding_id: str) -> None:
        """Delete an embedding set. Raises InUse if an unfinished job needs it."""
        self._send(PreparedRequest("DELETE", resource("embeddings", embedding_id)))

    def extract(
        self,
        model: str,
        dataset: str,
        *,
        view: str,
        layers: LayerChoice = "all",
        pooling: Pooling = "auto",
        max_length: int | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        webhook: str | None = None,
    ) -> PendingJob[ExtractionDocument]:
        """Embed one view of a dataset with a model, for example `stdlib-docs` with `hf:openai-community/gpt2`.

        The new set's ids are those of the items. The same model, items and options again return the set that exists.
        """
        fields = {
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
        request = options_of(ExtractionRequest, None, fields)
        body = request.model_dump(mode="json", exclude_defaults=True)
        return self._submit("/v1/embeddings", body, ExtractionDocument)

    def add_dataset(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        views: Mapping[str, ViewKind] | None = None,
    ) -> Dataset:
        """Store a file of items as a dataset: JSON lines, Parquet, or a zip or tar of images.

        `views` maps the fields that are views to their kind: ``{"caption": "text", "photo": "image"}``. Uploading the same
        content under the same name again returns the same dataset.
        """
        params = {"name": name or name_of(path), **json_params(metadata=metadata, views=views)}
        return self._fetch(PreparedRequest("POST", "/v1/datasets", params, body=body_of(path)), Dataset)

    def make_dataset(
        self,
        builtin: str,
        *,
        ids: Sequence[str] | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Dataset:
        """Store a built-in dataset, for example ``scenes:n=64,seed=7``, or its items with the given ids, in their order."""
        fields = {"ids": None if ids is None else list(ids), "name": name, "metadata": metadata}
        body = {"builtin": builtin, **{key: value for key, value in fields.items() if value is not None}}
        return self._fetch(PreparedRequest("POST", "/v1/datasets", json=body), Dataset)

    def dataset(self, dataset_id: str) -> Dataset:
        """Fetch one dataset's description."""
        return self._fetch(get("datasets", dataset_id), Dataset)

    def datasets(self, *, name: str | None = None, cursor: str | None = None, limit: int = 50) -> DatasetPage:
        """Fetch a page of datasets, newest first."""
        return self._fetch(get("datasets", name=name, cursor=cursor, limit=limit), DatasetPage)

    def delete_dataset(self, dataset_id: str) -> None:
        """Delete a dataset. Raises InUse if an unfinished job needs it."""
        self._send(PreparedRequest("DELETE", resource("datasets", dataset_id)))

    def add_reference(
        self, name: str, sources: Sequence[Source], *, metadata: Mapping[str, Any] | None = None
    ) -> ReferenceSet:
        """Create a reference set from sources of the same items; its members cannot be deleted before it."""
        members = [self._store(source) for source in sources]
        body = {"name": name, "embeddings": members, "metadata": dict(metadata or {})}
        return self._fetch(PreparedRequest("POST", "/v1/references", json=body), ReferenceSet)

    def reference(self, name_or_id: str) -> ReferenceSet:
        """Fetch one reference set by its id, or the newest one of a name."""
        if REFERENCE_ID.fullmatch(name_or_id):
            return self._fetch(get("references", name_or_id), ReferenceSet)
        page = self.references(name=name_or_id, limit=1)
        if not page.data:
            raise NotFound(f"There is no reference set with the name {name_or_id!r}.", value=name_or_id)
        return page.data[0]

    def references(self, *, name: str | None = None, cursor: str | None = None, limit: int = 50) -> ReferencePage:
        """Fetch a page of reference sets, newest first."""
        return self._fetch(get("references", name=name, cursor=cursor, limit=limit), ReferencePage)

    def delete_reference(self, reference_id: str) -> None:
        """Delete a reference set, but not its members. Raises InUse if an unfinished job needs it."""
        self._send(PreparedRequest("DELETE", resource("references", reference_id)))

    @overload
    def align(
        self,
        a: AnySource,
        b: AnySource,
        options: ScoringOptions | None = None,
        *,
        webhook: str | None = None,
        **fields: Unpack[ScoringKeywords],
    ) -> PendingJob[ScoreDocument]: ...

    @overload
    def align(
        self,
        a: AnySource,
        *,
        options: ScoringOptions | None = None,
        reference: AnyReference,
        webhook: str | None = None,
        **fields: Unpack[ScoringKeywords],
    ) -> PendingJob[ReferenceDocument]: ...

    def align(
        self,
        a: AnySource,
        b: AnySource | None = None,
        options: ScoringOptions | None = None,
        *,
        reference: AnyReference | None = None,
        webhook: str | None = None,
        **fields: Unpack[ScoringKeywords],
    ) -> PendingJob[Any]:
        """Measure the agreement of two embedding spaces, or of one with each member of a reference set.

        `a` and `b` are sources, or an `Extraction`, which the job runs first. `reference` is a reference set, its id or its
        name. `fields` are the fields of ScoringOptions; they replace those of `options`. `webhook` is a URL that receives a
        signed POST when the job has finished.
        """
        check_sides(b, reference)
        chosen = options_of(ScoringOptions, options, fields)
        if reference is not None:
            body = reference_body(a, self._reference_id(reference), chosen, webhook)
            return self._submit("/v1/alignments", body, ReferenceDocument)
        assert b is not None  # noqa: S101 - checked above
        content = alignment_body(self._side(a), self._side(b), chosen)
        return self._submit("/v1/alignments", content, ScoreDocument, webhook)

    def plan(
        self,
        a: AnySource,
        b: AnySource,
        options: ScoringOptions | None = None,
        **fields: Unpack[ScoringKeywords],
    ) -> Plan:
        """Estimate the cost of `align` without creating a job; files and arrays are uploaded."""
        chosen = options_of(ScoringOptions, options, fields)
        body = alignment_body(self._side(a), self._side(b), chosen)
        return self._fetch(PreparedRequest("POST", "/v1/alignments", {"dry_run": "true"}, json=body), Plan)

    def study(
        self,
        rows: Mapping[str, Source],
        columns: Mapping[str, Source] | None = None,
        options: StudyOptions | None = None,
        *,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
        webhook: str | None = None,
        **fields: Unpack[StudyKeywords],
    ) -> PendingJob[StudyDocument]:
        """Compare many embedding spaces: all rows with all columns, or all rows with each other.

        `rows` and `columns` map labels to sources. `metadata` maps labels to the values that trends and factors use. `fields`
        are the fields of StudyOptions; they replace those of `options`. `webhook` is a URL that receives a signed POST when
        the job has finished.
        """
        body = dump(options_of(StudyOptions, options, fields))
        body["rows"] = self._members(rows, metadata)
        if columns is not None:
            body["columns"] = self._members(columns, metadata)
        return self._submit("/v1/studies", body, StudyDocument, webhook)

    def extend_study(
        self,
        study_id: str,
        rows: Mapping[str, Source] | None = None,
        columns: Mapping[str, Source] | None = None,
        *,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> PendingJob[StudyDocument]:
        """Add models to a study, as a new job that computes only the new cells."""
        body = {}
        for side, models in (("rows", rows), ("columns", columns)):
            if models:
                body[side] = self._members(models, metadata)
        return self._submit(resource("studies", study_id, "models"), body, StudyDocument)

    def study_so_far(self, study_id: str) -> StudyDocument:
        """Fetch a study's results, also while the study runs."""
        return self._fetch(get("studies", study_id), StudyDocument)

    def study_table(self, study_id: str, form: Literal["csv", "parquet"] = "csv") -> bytes:
        """Fetch a study's results as a file with one row for each cell and metric."""
        response = self._send(get("studies", study_id, format=form))
        return response.content

    def fit_map(
        self,
        a: Source,
        b: Source,
        options: MapOptions | None = None,
        *,
        name: str | None = None,
        webhook: str | None = None,
        **fields: Unpack[MapKeywords],
    ) -> PendingJob[StoredMap]:
        """Fit a map from the space of `a` to that of `b` on some rows and evaluate it on the others.

        `fields` are the fields of MapOptions; they replace those of `options`. `webhook` is a URL that receives a signed POST
        when the job has finished.
        """
        body = dump(options_of(MapOptions, options, fields))
        body |= {"a": {"embedding": self._store(a)}, "b": {"embedding": self._store(b)}, "name": name}
        return self._submit("/v1/maps", body, StoredMap, webhook)

    def upload_map(self, path: str | os.PathLike[str], *, name: str | None = None) -> StoredMap:
        """Store the file of a map that was fitted elsewhere."""
        body = file_body(path, MAP_MEDIA_TYPE)
        return self._fetch(PreparedRequest("POST", "/v1/maps", {"name": name or name_of(path)}, body=body), StoredMap)

    def map(self, map_id: str) -> StoredMap:
        """Fetch one map's description."""
        return self._fetch(get("maps", map_id), StoredMap)

    def maps(self, *, name: str | None = None, cursor: str | None = None, limit: int = 50) -> MapPage:
        """Fetch a page of maps, newest first."""
        return self._fetch(get("maps", name=name, cursor=cursor, limit=limit), MapPage)

    def map_file(self, map_id: str) -> bytes:
        """Fetch a map's file: safetensors, which `consilience.maps.api.load_map` reads."""
        response = self._send(get("maps", map_id, "file"))
        return response.content

    def delete_map(self, map_id: str) -> None:
        """Delete a map. Raises InUse if an unfinished job needs it."""
        self._send(PreparedRequest("DELETE", resource("maps", map_id)))

    def translate(
        self, map_id: str, vectors: Sequence[Sequence[float]], *, model: str | None = None
    ) -> TranslatedVectors:
        """Translate a few vectors at once. `model` names the model of the vectors; the map must be fitted on the same one."""
        request = PreparedRequest("POST", resource("maps", map_id, "apply"), json=vectors_body(vectors, model))
        return self._fetch(request, TranslatedVectors)

    def translate_set(
        self, map_id: str, source: Source, *, layer: str = "last", name: str | None = None, model: str | None = None
    ) -> PendingJob[TranslationDocument]:
        """Translate one layer of a source into a new embedding set, as a job."""
        body = {"embedding": self._store(source), "layer": layer, "name": name, "model": model}
        return self._submit(resource("maps", map_id, "apply"), body, TranslationDocument)

    def upgrade(
        self,
        old: Source,
        new: Source,
        options: UpgradeOptions | None = None,
        *,
        queries: tuple[Source, Source] | None = None,
        qrels: Mapping[str, Sequence[str | int]] | None = None,
        **fields: Unpack[UpgradeKeywords],
    ) -> PendingJob[UpgradeReport]:
        """Report whether an index can stay in use when its embedding model is replaced.

        `old` and `new` are the same documents embedded by both models, `queries` the same queries by both. `qrels` maps
        each query to its relevant documents, by id, or by row number if there are no ids. `fields` are the fields of
        UpgradeOptions; they replace those of `options`.
        """
        body = dump(options_of(UpgradeOptions, options, fields))
        body |= self._models(old, new)
        if queries is not None:
            body["queries"] = self._models(*queries)
        if qrels is not None:
            body["qrels"] = {query: list(documents) for query, documents in qrels.items()}
        return self._submit("/v1/upgrades", body, UpgradeReport)

    def upgrade_page(self, job_id: str, form: Literal["markdown", "html"] = "markdown") -> str:
        """Fetch the report of a finished upgrade job as Markdown or HTML."""
        response = self._send(get("upgrades", job_id, format=form))
        return response.text

    def job(self, job_id: str) -> Job:
        """Fetch a job's current state."""
        return self._fetch(get("jobs", job_id), Job)

    def jobs(
        self,
        *,
        status: JobStatus | None = None,
        kind: JobKind | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> JobPage:
        """Fetch a page of jobs, newest first."""
        return self._fetch(get("jobs", status=status, kind=kind, cursor=cursor, limit=limit), JobPage)

    def cancel(self, job_id: str) -> Job:
        """Request cancellation of a job; a finished job does not change."""
        return self._fetch(PreparedRequest("POST", resource("jobs", job_id, "cancel")), Job)

    def wait(self, job_id: str, *, timeout_s: float | None = None, watch: Watcher | None = None) -> Job:
        """Wait until a job has finished and return it, also if it failed. Raises WaitTimedOut after `timeout_s` seconds.

        `watch` is called with the job whenever it has changed.
        """
        polling = Polling(job_id, timeout_s)
        while True:
            response = self._send(polling.request)
            if job := polling.read(response):
                if watch:
                    watch(job)
                if job.finished:
                    return job
            polling.advance(response)

    def _reference_id(self, reference: AnyReference) -> str:
        """Return the id of a reference set; a name is looked up."""
        if isinstance(reference, str) and not REFERENCE_ID.fullmatch(reference):
            reference = self.reference(reference)
        return reference if isinstance(reference, str) else reference.id

    def _side(self, source: AnySource) -> str | Extraction:
        return source if isinstance(source, Extraction) else self._store(source)

    def _models(self, old: Source, new: Source) -> dict[str, Any]:
        return {"old": {"embedding": self._store(old)}, "new": {"embedding": self._store(new)}}

    def _members(
        self, models: Mapping[str, Source], metadata: Mapping[str, Mapping[str, Any]] | None
    ) -> list[dict[str, Any]]:
        return [member(self._store(source, label), label, metadata) for label, source in models.items()]

    def _store(self, source: Source, name: str | None = None) -> str:
        """Return the id of a source's embedding set; a file or an array is uploaded."""
        if embedding_id := stored_id(source):
            return embedding_id
        uploaded = self.upload(source, name=name)
        return uploaded.id

    def _submit(
        self, path: str, content: Body | dict[str, Any], outcome: type[Outcome], webhook: str | None = None
    ) -> PendingJob[Outcome]:
        return PendingJob(self, self._fetch(submission(path, content, webhook), Job), outcome)

    def _fetch(self, request: PreparedRequest, kind: type[Model]) -> Model:
        return read(self._send(request), kind)

    def _send(self, request: PreparedRequest) -> httpx2.Response:
        """Send a request, again if it fails or the service is busy, and return the response if it is not an error."""
        time.sleep(request.after_s)
        try:
            for attempt in stamina.retry_context(**self._retries):
                with attempt:
                    return check(raise_for_retry(self._send_once(request)))
        except RetryLater as busy:
            return check(busy.response)
        except httpx2.TransportError as error:
            raise unreachable(self._http.base_url, request, error) from error
        raise AssertionError("the retry loop returns or raises")

    def _send_once(self, request: PreparedRequest) -> httpx2.Response:
        return self._http.request(
            request.method,
            request.path,
            params=request.params,
            headers=request.all_headers,
            json=request.json,
            content=read_body(request.body) if request.body else None,
        )
