"""What a job does: its sets are read, scored, and the score is returned."""

from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import AlignmentRequest, Job, Side
from consilience.contract.scores import ScoreDocument
from consilience.errors import InvalidRequest
from consilience.execution import run_alignment
from consilience.stores.blobs import Blobs
from consilience.stores.embeddings import EmbeddingRecords
from workers.attempts import Report


def run(job: Job, report: Report, *, embeddings: EmbeddingRecords, blobs: Blobs) -> ScoreDocument:
    """The score of an alignment job.

    Raises
    ------
    ConsilienceError
        Why there is none: it becomes the job's error.
    """
    request = AlignmentRequest.model_validate(job.request)
    return run_alignment(request, _read(request.a, embeddings), _read(request.b, embeddings), blobs, report)


def _read(side: Side, embeddings: EmbeddingRecords) -> EmbeddingSet:
    if side.embedding is None:
        raise InvalidRequest("A stored job names its sides by id.", hint="The service stores inline vectors as a set.")
    return embeddings.get(side.embedding)
