"""Extraction of sets with a model, for extraction jobs and for sides of other jobs."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from consilience.contract.datasets import BuiltinRequest
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.extraction import ExtractedLayer, Extraction, ExtractionDocument, ExtractionRequest
from consilience.contract.jobs import Job
from consilience.contract.pointers import default_pointer
from consilience.contract.records import SetRecord
from consilience.datasets.builtin import is_builtin
from consilience.datasets.views import OpenDataset
from consilience.errors import Unavailable
from consilience.execution import extraction
from consilience.stores.checkpoints import CheckpointClaim
from consilience.stores.datasets import DatasetRecords, DatasetRepository
from consilience.stores.embeddings import Provenance
from consilience.stores.files import upload_lock
from consilience.stores.records import ALL_OWNERS
from workers.attempts import ReportProgress
from workers.context import WorkerContext, make_name

#: Interval in seconds between two looks for a set that another job extracts.
WAIT_S = 0.2


class SetLabel(NamedTuple):
    """Name and metadata of a set."""

    name: str
    metadata: Mapping[str, Any]


class SetExtractor:
    """Finds or extracts sets on behalf of one job."""

    def __init__(self, job: Job, report: ReportProgress, context: WorkerContext) -> None:
        self._job, self._report, self._context = job, report, context
        access = context.access(job)
        self._sets = context.repository(access)
        self._dataset_repository = DatasetRepository(
            DatasetRecords(context.database, access), context.blobs, context.data_dir
        )
        # The service has checked that the owner may see the datasets that the job names.
        self._datasets = DatasetRecords(context.database, ALL_OWNERS)

    def extract(self, request: Extraction, label: SetLabel | None = None) -> tuple[EmbeddingSet, ExtractionDocument]:
        """Return the set of an extraction: an existing one, or a new one.

        Raises
        ------
        ConsilienceError
            The reason why the extraction failed.
        """
        began = time.monotonic()
        label = label or SetLabel(default_name(request), {})
        self._report("opening the dataset", 0, 1)
        dataset = self._open(request.dataset)
        dataset.view(request.view)
        with default_pointer("/model"):
            identity = extraction.identify(request, dataset.digest, self._context.rules)
        timings_s = {"dataset": round(time.monotonic() - began, 3)}
        found = self._find(identity, label)
        if found is None:
            with self._context.checkpoints.claim(identity, self._wait) as claim:
                found = self._find(identity, label)  # another job may have extracted it meanwhile
                if found is None:
                    return self._extract(request, dataset, claim, identity, label, timings_s)
        return found, _describe(found, "hit", timings_s=timings_s)

    def _open(self, name: str) -> OpenDataset:
        if is_builtin(name):
            dataset, _ = self._dataset_repository.add_builtin(BuiltinRequest(builtin=name))
            self._datasets.link_to_job(dataset.id, self._job.id)
        else:
            dataset = self._datasets.get(name)
        return self._context.blobs.open_dataset(dataset)

    def _find(self, identity: str, label: SetLabel) -> EmbeddingSet | None:
        """Return the set with this identity, recorded under this label, or None if it was not extracted yet."""
        with upload_lock(self._context.data_dir):
            known = self._sets.records.find_made(identity)
            if known is None or known.record is None:
                return None
            return self._record(known, label, identity, known.record)

    def _record(self, known: EmbeddingSet, label: SetLabel, identity: str, record: SetRecord) -> EmbeddingSet:
        provenance = Provenance(identity, record, self._job.id)
        content = known.n, known.layers, known.digest
        records = self._sets.records
        return records.add(label.name, *content, label.metadata, known.bytes, ids=known.ids, provenance=provenance)[0]

    def _extract(  # noqa: PLR0917 - one argument per input
        self,
        request: Extraction,
        dataset: OpenDataset,
        claim: CheckpointClaim,
        identity: str,
        label: SetLabel,
        timings_s: dict[str, float],
    ) -> tuple[EmbeddingSet, ExtractionDocument]:
        context = self._context
        run = extraction.embed(
            request,
            dataset,
            claim,
            identity=identity,
            rules=context.rules,
            device=extraction.choose_device(request, context.device),
            report=self._report,
            check_room=self._sets.records.check_quota,
        )
        began = time.monotonic()
        self._report("storing the set", 0, 1)
        provenance = Provenance(identity, run.record, self._job.id)
        stored, _ = self._sets.add(run.rows, label.name, label.metadata, ids=dataset.ids, provenance=provenance)
        timings_s |= run.timings_s | {"storing": round(time.monotonic() - began, 3)}
        document = _describe(stored, "miss", timings_s=timings_s).model_copy(
            update={
                "resumed_at": run.began_at,
                "items_per_s": run.items_per_s,
                "warnings": run.warnings,
            }
        )
        return stored, document

    def _wait(self) -> None:
        self._report("waiting for another job that extracts the same set", 0, 1)
        time.sleep(WAIT_S)


def extract(job: Job, report: ReportProgress, context: WorkerContext) -> ExtractionDocument:
    """Run an extraction job and return its document."""
    request = ExtractionRequest.model_validate(job.request)
    label = SetLabel(request.name or default_name(request), request.metadata)
    return SetExtractor(job, report, context).extract(request, label)[1]


def default_name(request: Extraction) -> str:
    """Return the default name of an extracted set."""
    return make_name(f"{request.model} {request.dataset} {request.view}")


def _describe(stored: EmbeddingSet, cache: str, *, timings_s: dict[str, float]) -> ExtractionDocument:
    if stored.record is None:
        raise Unavailable("A set that a model made has lost its record.", value=stored.id)
    return ExtractionDocument.model_validate(
        {
            "embedding": stored.id,
            "name": stored.name,
            "n": stored.n,
            "layers": [ExtractedLayer(name=each.name, dim=each.dim, dtype=each.dtype) for each in stored.layers],
            "cache": cache,
            "peak_memory_bytes": extraction.peak_memory_bytes(),
            "record": stored.record,
            "warnings": extraction.warn_of_truncation(stored.record, stored.n),
            "timings_s": timings_s,
        }
    )
