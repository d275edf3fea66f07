"""What the jobs of one worker work with."""

from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from consilience.execution.addresses import ClusterAddress
from consilience.models.rules import Rules
from consilience.stores.blobs import Blobs
from consilience.stores.database import Database
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.graphs import Graphs
from consilience.stores.partials import Partials
from consilience.stores.references import ReferenceRecords


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
