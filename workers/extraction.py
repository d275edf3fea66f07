"""Sets that a model makes of a dataset: for a job that asks for one, and for a side of a comparison."""

import re
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
from workers.context import WorkerContext

NAME_LENGTH = 128
#: Between two looks at a set that another job is making.
WAIT_S = 0.2


class SetLabel(NamedTuple):
    """What a set is called."""

    name: str
    metadata: Mapping[str, Any]


class SetExtractor:
    """Finds or makes sets on behalf of one job."""

    def __init__(self, job: Job, report: ReportProgress, workshop: WorkerContext) -> None:
        self._job, self._report, self._workshop = job, report, workshop
        access = workshop.access(job)
        self._sets = workshop.shelf(access)
        self._shelf = DatasetRepository(DatasetRecords(workshop.database, access), workshop.blobs, workshop.data_dir)
        # The service has looked whether the owner may see what is named by its id.
        self._datasets = DatasetRecords(workshop.database, ALL_OWNERS)

    def make(self, request: Extraction, label: SetLabel | None = None) -> tuple[EmbeddingSet, ExtractionDocument]:
        """The set of an extraction: the one that was made before, or a new one.

        Raises
        ------
        ConsilienceError
            Why there is none.
        """
        began = time.monotonic()
        label = label or SetLabel(name_of(request), {})
        self._report("opening the dataset", 0, 1)
        dataset = self._open(request.dataset)
        dataset.view(request.view)
        with default_pointer("/model"):
            identity = extraction.identify(request, dataset.digest, self._workshop.rules)
        timings_s = {"dataset": round(time.monotonic() - began, 3)}
        found = self._find(identity, label)
        if found is None:
            with self._workshop.partials.claim(identity, self._wait) as claim:
                found = self._find(identity, label)  # whoever had the claim may have made it
                if found is None:
                    return self._make(request, dataset, claim, identity, label, timings_s)
        return found, _describe(found, "hit", timings_s=timings_s)

    def _open(self, name: str) -> OpenDataset:
        if is_builtin(name):
            dataset, _ = self._shelf.keep_builtin(BuiltinRequest(builtin=name))
            self._datasets.hold(dataset.id, self._job.id)
        else:
            dataset = self._datasets.get(name)
        return self._workshop.blobs.open_dataset(dataset)

    def _find(self, identity: str, label: SetLabel) -> EmbeddingSet | None:
        """The set of this identity under this label, which is a new one where it was made under another."""
        with upload_lock(self._workshop.data_dir):
            known = self._sets.records.find_made(identity)
            if known is None or known.record is None:
                return None
            return self._record(known, label, identity, known.record)

    def _record(self, known: EmbeddingSet, label: SetLabel, identity: str, record: SetRecord) -> EmbeddingSet:
        making = Provenance(identity, record, self._job.id)
        content = known.n, known.layers, known.digest
        records = self._sets.records
        return records.add(label.name, *content, label.metadata, known.bytes, ids=known.ids, making=making)[0]

    def _make(  # noqa: PLR0917 - what is made of what, and where
        self,
        request: Extraction,
        dataset: OpenDataset,
        claim: CheckpointClaim,
        identity: str,
        label: SetLabel,
        timings_s: dict[str, float],
    ) -> tuple[EmbeddingSet, ExtractionDocument]:
        workshop = self._workshop
        making = extraction.embed(
            request,
            dataset,
            claim,
            identity=identity,
            rules=workshop.rules,
            device=extraction.choose_device(request, workshop.device),
            report=self._report,
            check_room=self._sets.records.check_quota,
        )
        began = time.monotonic()
        self._report("storing the set", 0, 1)
        made_by = Provenance(identity, making.record, self._job.id)
        stored, _ = self._sets.keep(making.rows, label.name, label.metadata, ids=dataset.ids, making=made_by)
        timings_s |= making.timings_s | {"storing": round(time.monotonic() - began, 3)}
        document = _describe(stored, "miss", timings_s=timings_s).model_copy(
            update={
                "resumed_at": making.began_at,
                "items_per_s": making.items_per_s,
                "warnings": making.warnings,
            }
        )
        return stored, document

    def _wait(self) -> None:
        self._report("waiting for another job that makes the same set", 0, 1)
        time.sleep(WAIT_S)


def extract(job: Job, report: ReportProgress, workshop: WorkerContext) -> ExtractionDocument:
    """The set of an extraction job, in words."""
    request = ExtractionRequest.model_validate(job.request)
    label = SetLabel(request.name or name_of(request), request.metadata)
    return SetExtractor(job, report, workshop).make(request, label)[1]


def name_of(request: Extraction) -> str:
    """A label in the alphabet of labels."""
    words = f"{request.model} {request.dataset} {request.view}"
    return re.sub(r"[^A-Za-z0-9 ._:@+-]", "-", words)[:NAME_LENGTH]


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
