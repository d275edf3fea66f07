"""What a job does: its sets are read, scored, and the score is returned."""

from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import AlignmentRequest, Job, Side
from consilience.contract.scores import ScoreDocument
from consilience.errors import InvalidRequest
from consilience.execution.addresses import ClusterAddress
from consilience.execution.alignment import run_alignment
from consilience.stores.blobs import Blobs
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.graphs import Graphs
from workers.attempts import Report


def run(
    job: Job,
    report: Report,
    *,
    embeddings: EmbeddingRecords,
    blobs: Blobs,
    graphs: Graphs,
    cluster: ClusterAddress | None = None,
    device: str = "cpu",
) -> ScoreDocument:
    """The score of an alignment job.

    Raises
    ------
    ConsilienceError
        Why there is none: it becomes the job's error.
    """
    # What it was planned with, which the request may leave to the operator.
    request = AlignmentRequest.model_validate(job.request).model_copy(
        update={"memory_budget_bytes": job.plan.memory_budget_bytes}
    )
    a, b = (_read(side, embeddings) for side in (request.a, request.b))
    return run_alignment(request, a, b, blobs, graphs, report=report, cluster=cluster, device=device)


def _read(side: Side, embeddings: EmbeddingRecords) -> EmbeddingSet:
    if side.embedding is None:
        raise InvalidRequest("A stored job names its sides by id.", hint="The service stores inline vectors as a set.")
    return embeddings.get(side.embedding)
