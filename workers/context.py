"""What the jobs of one worker work with."""

from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import structlog

from consilience.contract.jobs import Job
from consilience.execution.addresses import ClusterAddress
from consilience.models.registry import load_libraries
from consilience.models.rules import ModelRules
from consilience.stores.blobs import Blobs
from consilience.stores.checkpoints import Partials
from consilience.stores.database import Database
from consilience.stores.embeddings import EmbeddingRecords, SetShelf
from consilience.stores.graph_cache import Graphs
from consilience.stores.jobs import JobRecords
from consilience.stores.keys import KeyRecords
from consilience.stores.records import EVERYTHING, Access
from consilience.stores.references import ReferenceRecords
from workers.child import freeze_memory


def warm_up(job_id: str, database: Database) -> None:
    """Import what the models of a job need. The job itself says what is wrong, so nothing is raised."""
    try:
        models = models_of(JobRecords(database, EVERYTHING).get(job_id))
        for model in models:
            load_libraries(model)
    except Exception as error:  # noqa: BLE001 - libraries raise anything; the fork meets the same error, and reports it
        structlog.get_logger().warning("not_warmed", job=job_id, cause=repr(error))
    else:
        if models:
            freeze_memory()


def models_of(job: Job) -> list[str]:
    """The models that a job names, alone or in its sides."""
    wishes = (job.request, *(job.request.get(side) for side in "ab"))
    return [wish["model"] for wish in wishes if isinstance(wish, dict) and isinstance(wish.get("model"), str)]


@dataclass(frozen=True)
class Workshop:
    """The stores, and what the operator allows and provides."""

    database: Database
    data_dir: Path
    embeddings: EmbeddingRecords
    references: ReferenceRecords
    blobs: Blobs
    graphs: Graphs
    partials: Partials
    rules: ModelRules = field(default_factory=ModelRules)
    cluster: ClusterAddress | None = None
    device: str = "cpu"
    job_flops_limit: float = inf
    job_timeout_s: float = inf
    owner_bytes_limit: int | None = None

    def access(self, job: Job) -> Access:
        """On behalf of a job's owner, within the quota of its uploads: nobody has one as long as there are no keys."""
        limit = self.owner_bytes_limit if KeyRecords(self.database).exist() else None
        return Access(job.owner, owner_bytes_limit=limit)

    def shelf(self, access: Access) -> SetShelf:
        """Where the sets that a job makes are kept."""
        return SetShelf(EmbeddingRecords(self.database, access), self.blobs, self.data_dir)
