"""Context of a worker's jobs: stores, and settings of the operator."""

import re
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import structlog

from consilience.contract.jobs import Job
from consilience.execution.addresses import ClusterAddress
from consilience.models.registry import load_libraries
from consilience.models.rules import ModelRules
from consilience.stores.blobs import BlobStore
from consilience.stores.checkpoints import CheckpointStore
from consilience.stores.database import Database
from consilience.stores.embeddings import EmbeddingRecords, EmbeddingRepository
from consilience.stores.graph_cache import DiskCache
from consilience.stores.jobs import JobRecords
from consilience.stores.keys import KeyRecords
from consilience.stores.records import ALL_OWNERS, Access
from consilience.stores.references import ReferenceRecords
from workers.child import freeze_memory

NAME_LENGTH = 128


def preload(job_id: str, database: Database) -> None:
    """Import the libraries of a job's models. Nothing is raised, since the job itself reports the errors."""
    try:
        models = find_models(JobRecords(database, ALL_OWNERS).get(job_id))
        for model in models:
            load_libraries(model)
    except Exception as error:  # noqa: BLE001 - the child process raises the same error and reports it
        structlog.get_logger().warning("preload_failed", job=job_id, cause=repr(error))
    else:
        if models:
            freeze_memory()


def find_models(job: Job) -> list[str]:
    """Return the models that a job names, in the request or in its sides."""
    extractions = (job.request, *(job.request.get(side) for side in "ab"))
    return [each["model"] for each in extractions if isinstance(each, dict) and isinstance(each.get("model"), str)]


def make_name(text: str) -> str:
    """Replace the characters that names must not contain, and shorten the text to the length of a name."""
    return re.sub(r"[^A-Za-z0-9 ._:@+-]", "-", text)[:NAME_LENGTH]


@dataclass(frozen=True)
class WorkerContext:
    """Stores and settings that the jobs of a worker use."""

    database: Database
    data_dir: Path
    embeddings: EmbeddingRecords
    references: ReferenceRecords
    blobs: BlobStore
    graphs: DiskCache
    checkpoints: CheckpointStore
    rules: ModelRules = field(default_factory=ModelRules)
    cluster: ClusterAddress | None = None
    device: str = "cpu"
    job_flops_limit: float = inf
    job_timeout_s: float = inf
    owner_bytes_limit: int | None = None

    def access(self, job: Job) -> Access:
        """Return the access of a job's owner. There is no storage limit as long as there are no API keys."""
        limit = self.owner_bytes_limit if KeyRecords(self.database).exist() else None
        return Access(job.owner, owner_bytes_limit=limit)

    def repository(self, access: Access) -> EmbeddingRepository:
        """Return the repository for the sets that a job makes."""
        return EmbeddingRepository(EmbeddingRecords(self.database, access), self.blobs, self.data_dir)
