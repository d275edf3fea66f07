"""What the jobs of one worker work with."""

from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from consilience.contract.jobs import Job
from consilience.execution.addresses import ClusterAddress
from consilience.models.rules import Rules
from consilience.stores.access import Access
from consilience.stores.blobs import Blobs
from consilience.stores.database import Database
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.graphs import Graphs
from consilience.stores.keys import KeyRecords
from consilience.stores.partials import Partials
from consilience.stores.references import ReferenceRecords
from consilience.stores.set_shelf import SetShelf


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
    rules: Rules = field(default_factory=Rules)
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
