"""What a job does, by its kind: its inputs are read, the work is done, and its document is returned."""

from collections.abc import Callable
from dataclasses import dataclass

from consilience.contract.base import Document
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import AlignmentRequest, Job, JobKind, Side
from consilience.contract.reference_scores import ReferenceDocument
from consilience.contract.scores import ScoreDocument
from consilience.errors import InvalidRequest
from consilience.execution.addresses import ClusterAddress
from consilience.execution.alignment import run_alignment
from consilience.execution.reference import Against, run_reference
from consilience.stores.blobs import Blobs
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.graphs import Graphs
from consilience.stores.references import ReferenceRecords
from workers.attempts import Report


@dataclass(frozen=True)
class Workshop:
    """What the jobs of one worker work with."""

    embeddings: EmbeddingRecords
    references: ReferenceRecords
    blobs: Blobs
    graphs: Graphs
    cluster: ClusterAddress | None = None
    device: str = "cpu"


#: From a job to its document; a ConsilienceError says why there is none.
Runner = Callable[[Job, Report, Workshop], Document]


def run(job: Job, report: Report, *, workshop: Workshop) -> Document:
    """The document of a job.

    Raises
    ------
    ConsilienceError
        Why there is none: it becomes the job's error.
    """
    return RUNNERS[job.kind](job, report, workshop)


def align(job: Job, report: Report, workshop: Workshop) -> ScoreDocument:
    """The scores of an alignment."""
    request = _read_request(job)
    a, b = (_read(side, workshop.embeddings) for side in (request.a, request.b))
    return run_alignment(
        request, a, b, workshop.blobs, workshop.graphs, report=report, cluster=workshop.cluster, device=workshop.device
    )


def place(job: Job, report: Report, workshop: Workshop) -> ReferenceDocument:
    """The scores of a set against a reference set, and its rank."""
    request, references = _read_request(job), workshop.references
    if request.b.reference is None:
        raise InvalidRequest("A stored job of this kind names a reference set.", pointer="/b")
    against = Against(*references.open(request.b.reference))
    a = _read(request.a, workshop.embeddings)
    return run_reference(
        request,
        a,
        against,
        workshop.blobs,
        workshop.graphs,
        report=report,
        cluster=workshop.cluster,
        device=workshop.device,
    )


def _read_request(job: Job) -> AlignmentRequest:
    """What it was planned with, which the request may leave to the operator."""
    request = AlignmentRequest.model_validate(job.request)
    return request.model_copy(update={"memory_budget_bytes": job.plan.memory_budget_bytes})


def _read(side: Side, embeddings: EmbeddingRecords) -> EmbeddingSet:
    if side.embedding is None:
        raise InvalidRequest("A stored job names its sides by id.", hint="The service stores inline vectors as a set.")
    return embeddings.get(side.embedding)


RUNNERS: dict[JobKind, Runner] = {"alignment": align, "reference": place}
