"""The client for ordinary code.

from consilience.client.sync import Client

with Client("http://127.0.0.1:8000") as client:
    scores = client.align("old.npy", "new.npy", metrics=["mutual_knn"]).wait()
    print(scores.scores[0].value)
"""

import os
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, overload

import httpx2
import stamina

from consilience.client import map_operations, operations, reference_operations
from consilience.client.exchange import Operation, Request, Result
from consilience.client.forms import Labels
from consilience.client.operations import Watcher
from consilience.client.options import extraction_of, map_options_of, options_of, study_options_of, upgrade_options_of
from consilience.client.pending import PendingJob
from consilience.client.reference_operations import AnyReference
from consilience.client.sending import Busy, refuse_later, retries, timeouts, unreachable, with_key
from consilience.client.sources import AnySource, Source
from consilience.contract.base import LayerChoice
from consilience.contract.datasets import Dataset, DatasetPage, ViewKind
from consilience.contract.embeddings import EmbeddingPage, EmbeddingSet
from consilience.contract.extraction import ExtractionDocument
from consilience.contract.info import Info
from consilience.contract.jobs import Job, JobKind, JobPage, JobStatus, Plan, ScoringOptions
from consilience.contract.maps import MapOptions, MapPage, StoredMap, TranslatedVectors, TranslationDocument
from consilience.contract.metrics import Catalogue
from consilience.contract.models import Pooling
from consilience.contract.reference_scores import ReferenceDocument
from consilience.contract.references import ReferencePage, ReferenceSet
from consilience.contract.scores import ScoreDocument
from consilience.contract.studies import StudyOptions
from consilience.contract.study_results import StudyDocument
from consilience.contract.upgrade_reports import UpgradeReport
from consilience.contract.upgrades import UpgradeOptions

DEFAULT_URL = "http://127.0.0.1:8000"


class Client:
    """A connection to one service.

    Parameters
    ----------
    url : str
        Where the service is.
    timeout_s : float
        Seconds to wait for one answer.
    patience_s : float
        Seconds during which a connection that fails, or a service that asks to come back later, is tried again.
    headers : mapping, optional
        Sent with every request.
    api_key : str, optional
        The service's key, ``csl_...``; by default the environment's CONSILIENCE_API_KEY, where there is one.

    Every method raises the class of `consilience.errors` that matches the problem document, and Unreachable when
    no answer comes.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout_s: float = 120.0,
        patience_s: float = 10.0,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
    ) -> None:
        self._http = httpx2.Client(base_url=url, timeout=timeouts(timeout_s), headers=with_key(headers, api_key))
        self._retries = retries(patience_s)

    def upload(
        self,
        source: Source,
        *,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        ids: Labels | None = None,
        groups: Labels | None = None,
    ) -> EmbeddingSet:
        """Store a file (by its path) or an array (n, d) or (n, L, d); the same content and name: the same set.

        `ids` says which item each row is, `groups` which rows belong together: n strings or integers each.
        """
        return self._run(operations.upload(source, name, metadata, ids, groups))

    def embedding(self, embedding_id: str) -> EmbeddingSet:
        """One stored set."""
        return self._run(operations.embedding(embedding_id))

    def embeddings(self, *, name: str | None = None, cursor: str | None = None, limit: int = 50) -> EmbeddingPage:
        """A page of stored sets, newest first."""
        return self._run(operations.embeddings(name, cursor, limit))

    def delete(self, embedding_id: str) -> None:
        """Forget a stored set; InUse while an unfinished job needs it."""
        self._run(operations.delete(embedding_id))

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
        """Ask for the set that a model makes of one view of a dataset, such as `hf:openai-community/gpt2` of `stdlib-docs`.

        The same model, items and wishes again are the set that was made before. Its ids are those of the items.
        """
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
        job = self._run(operations.extract(extraction_of(wish)))
        return PendingJob(self, job, ExtractionDocument)

    def add_dataset(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        views: Mapping[str, ViewKind] | None = None,
    ) -> Dataset:
        """Store a file of items: JSON lines, Parquet, a zip or tar of pictures; the same content and name: the same dataset.

        `views` says which fields are views and what each holds: ``{"caption": "text", "photo": "image"}``.
        """
        return self._run(operations.add_dataset(path, name, metadata, views))

    def make_dataset(
        self,
        builtin: str,
        *,
        ids: Sequence[str] | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Dataset:
        """Store one of the service's own datasets, such as ``scenes:n=64,seed=7``, or the items of some ids, in their order."""
        return self._run(operations.make_dataset(builtin, ids, name, metadata))

    def dataset(self, dataset_id: str) -> Dataset:
        """One stored dataset."""
        return self._run(operations.dataset(dataset_id))

    def datasets(self, *, name: str | None = None, cursor: str | None = None, limit: int = 50) -> DatasetPage:
        """A page of stored datasets, newest first."""
        return self._run(operations.datasets(name, cursor, limit))

    def delete_dataset(self, dataset_id: str) -> None:
        """Forget a stored dataset; InUse while an unfinished job needs it."""
        self._run(operations.delete_dataset(dataset_id))

    def add_reference(
        self, name: str, sources: Sequence[Source], *, metadata: Mapping[str, Any] | None = None
    ) -> ReferenceSet:
        """Make a reference set of sets of the same items: stored ones, their ids, paths or arrays; they are then kept."""
        return self._run(reference_operations.add_reference(name, sources, metadata))

    def reference(self, words: str) -> ReferenceSet:
        """One reference set by its id, or the newest of a name."""
        return self._run(reference_operations.reference(words))

    def references(self, *, name: str | None = None, cursor: str | None = None, limit: int = 50) -> ReferencePage:
        """A page of reference sets, newest first."""
        return self._run(reference_operations.references(name, cursor, limit))

    def delete_reference(self, reference_id: str) -> None:
        """Forget a reference set; its members stay. InUse while an unfinished job needs it."""
        self._run(reference_operations.delete_reference(reference_id))

    @overload
    def align(
        self,
        a: AnySource,
        b: AnySource,
        options: ScoringOptions | None = None,
        *,
        webhook: str | None = None,
        **fields: Any,
    ) -> PendingJob[ScoreDocument]: ...

    @overload
    def align(
        self,
        a: AnySource,
        *,
        options: ScoringOptions | None = None,
        reference: AnyReference,
        webhook: str | None = None,
        **fields: Any,
    ) -> PendingJob[ReferenceDocument]: ...

    def align(
        self,
        a: AnySource,
        b: AnySource | None = None,
        options: ScoringOptions | None = None,
        *,
        reference: AnyReference | None = None,
        webhook: str | None = None,
        **fields: Any,
    ) -> PendingJob[Any]:
        """Ask how far two spaces agree, or one and each member of a reference set (itself, its id or its name).

        `a` and `b` are stored sets, their ids, paths or arrays; what is not stored yet is uploaded first. Either may be an
        `Extraction`: then the job makes it first.
        `fields` are those of ScoringOptions and replace single ones of `options`. `webhook` is a URL that is told of
        the job's end, by a signed POST.
        """
        reference_operations.check_sides(b, reference)
        chosen = options_of(options, fields)
        if reference is not None:
            asked = reference_operations.align_reference(a, reference, chosen, webhook)
            return PendingJob(self, self._run(asked), ReferenceDocument)
        assert b is not None  # noqa: S101 - checked above
        return PendingJob(self, self._run(operations.align(a, b, chosen, webhook)), ScoreDocument)

    def plan(self, a: AnySource, b: AnySource, options: ScoringOptions | None = None, **fields: Any) -> Plan:
        """What `align` would cost; uploads what is not stored yet, but makes no job."""
        return self._run(operations.plan(a, b, options_of(options, fields)))

    def study(
        self,
        rows: Mapping[str, Source],
        columns: Mapping[str, Source] | None = None,
        options: StudyOptions | None = None,
        *,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
        **fields: Any,
    ) -> PendingJob[StudyDocument]:
        """Compare many spaces: rows with columns, or all rows with each other.

        `rows` and `columns` are labels with stored sets, their ids, paths or arrays; what is not stored yet is uploaded
        first. `metadata` holds, by label, the numbers that trends and factors ask for. `fields` are those of StudyOptions.
        """
        operation = operations.study(rows, columns, study_options_of(options, fields), metadata)
        return PendingJob(self, self._run(operation), StudyDocument)

    def extend_study(
        self,
        study_id: str,
        rows: Mapping[str, Source] | None = None,
        columns: Mapping[str, Source] | None = None,
        *,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> PendingJob[StudyDocument]:
        """The same study with more models, as a job of its own: only the new cells are scored."""
        operation = operations.extend_study(study_id, rows, columns, metadata)
        return PendingJob(self, self._run(operation), StudyDocument)

    def study_so_far(self, study_id: str) -> StudyDocument:
        """A study as far as it is there, also while it runs."""
        return self._run(operations.study_so_far(study_id))

    def study_table(self, study_id: str, form: Literal["csv", "parquet"] = "csv") -> bytes:
        """The same as a file: one line for each cell and metric."""
        return self._run(operations.study_table(study_id, form))

    def fit_map(
        self,
        a: Source,
        b: Source,
        options: MapOptions | None = None,
        *,
        name: str | None = None,
        webhook: str | None = None,
        **fields: Any,
    ) -> PendingJob[StoredMap]:
        """Ask for a map from the space of `a` to that of `b`: fitted on some rows, judged on the others.

        `a` and `b` are stored sets, their ids, paths or arrays; what is not stored yet is uploaded first. `fields` are those
        of MapOptions and replace single ones of `options`.
        """
        operation = map_operations.fit_map(a, b, map_options_of(options, fields), name, webhook)
        return PendingJob(self, self._run(operation), StoredMap)

    def upload_map(self, path: str | os.PathLike[str], *, name: str | None = None) -> StoredMap:
        """Keep a map's file, which was fitted elsewhere."""
        return self._run(map_operations.upload_map(path, name))

    def map(self, map_id: str) -> StoredMap:
        """One map."""
        return self._run(map_operations.stored_map(map_id))

    def maps(self, *, name: str | None = None, cursor: str | None = None, limit: int = 50) -> MapPage:
        """A page of maps, newest first."""
        return self._run(map_operations.maps(name, cursor, limit))

    def map_file(self, map_id: str) -> bytes:
        """A map as a file: safetensors, which `consilience.mapping.load` reads."""
        return self._run(map_operations.map_file(map_id))

    def delete_map(self, map_id: str) -> None:
        """Forget a map."""
        self._run(map_operations.delete_map(map_id))

    def translate(
        self, map_id: str, vectors: Sequence[Sequence[float]], *, model: str | None = None
    ) -> TranslatedVectors:
        """The translations of a few vectors, at once; refused where the map is known to be of another model."""
        return self._run(map_operations.translate(map_id, vectors, model))

    def translate_set(
        self, map_id: str, source: Source, *, layer: str = "last", name: str | None = None, model: str | None = None
    ) -> PendingJob[TranslationDocument]:
        """Ask for a new set of the translations of a stored one's layer; what is not stored yet is uploaded first."""
        operation = map_operations.translate_set(map_id, source, layer, name, model)
        return PendingJob(self, self._run(operation), TranslationDocument)

    def upgrade(
        self,
        old: Source,
        new: Source,
        options: UpgradeOptions | None = None,
        *,
        queries: tuple[Source, Source] | None = None,
        judgements: Mapping[str, Sequence[str | int]] | None = None,
        **fields: Any,
    ) -> PendingJob[UpgradeReport]:
        """Ask whether an index survives a swap of its embedding model.

        `old` and `new` are the same documents by both models, `queries` the same queries by both: stored sets, their ids, paths
        or arrays; what is not stored yet is uploaded first. `judgements` are, for each query, the documents that answer it: by
        ids, or by row numbers where there are none. `fields` are those of UpgradeOptions.
        """
        operation = operations.upgrade(old, new, upgrade_options_of(options, fields), queries, judgements)
        return PendingJob(self, self._run(operation), UpgradeReport)

    def upgrade_page(self, job_id: str, form: Literal["markdown", "html"] = "markdown") -> str:
        """The report of a finished upgrade job, for people."""
        return self._run(operations.upgrade_page(job_id, form))

    def job(self, job_id: str) -> Job:
        """One job as it stands."""
        return self._run(operations.job(job_id))

    def jobs(
        self,
        *,
        status: JobStatus | None = None,
        kind: JobKind | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> JobPage:
        """A page of jobs, newest first."""
        return self._run(operations.jobs(status, cursor, limit, kind))

    def cancel(self, job_id: str) -> Job:
        """Ask for a job's end; a finished job stays as it is."""
        return self._run(operations.cancel(job_id))

    def wait(self, job_id: str, *, timeout_s: float | None = None, watch: Watcher | None = None) -> Job:
        """The job once it has finished, however it ended; WaitTimedOut after `timeout_s` seconds.

        `watch` is called with the job each time it has changed.
        """
        return self._run(operations.wait(job_id, timeout_s, watch))

    def info(self) -> Info:
        """What the service is and what it allows."""
        return self._run(operations.info())

    def metrics(self) -> Catalogue:
        """The service's metrics."""
        return self._run(operations.metrics())

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, operation: Operation[Result]) -> Result:
        try:
            request = next(operation)
            while True:
                request = operation.send(self._send(request))
        except StopIteration as end:
            result: Result = end.value
            return result

    def _send(self, request: Request) -> httpx2.Response:
        time.sleep(request.after_s)
        try:
            for attempt in stamina.retry_context(**self._retries):
                with attempt:
                    return refuse_later(self._send_once(request))
        except Busy as busy:
            return busy.response
        except httpx2.TransportError as error:
            raise unreachable(self._http.base_url, request, error) from error
        raise AssertionError("the retry loop returns or raises")

    def _send_once(self, request: Request) -> httpx2.Response:
        return self._http.request(
            request.method,
            request.path,
            params=request.params,
            headers=request.all_headers,
            json=request.json,
            content=request.body.chunks() if request.body else None,
        )
