"""What a job does, by its kind: its inputs are read, the work is done, and its document is returned."""

import re
from collections.abc import Callable

from consilience.contract.alignments import AlignmentRequest, Side
from consilience.contract.base import Document
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.extraction import Extraction
from consilience.contract.jobs import Job, JobKind
from consilience.contract.maps import MapRequest, StoredMap, TranslationDocument
from consilience.contract.pointers import at_pointer
from consilience.contract.scores import ReferenceDocument, ScoreDocument
from consilience.contract.studies import StudyRequest
from consilience.contract.study_results import StudyDocument
from consilience.contract.upgrades import UpgradeReport, UpgradeRequest
from consilience.errors import InvalidRequest
from consilience.execution.alignment import check_cost, run_alignment
from consilience.execution.maps import run_map, run_translation, run_upgrade
from consilience.execution.reference import ReferenceMembers, run_reference
from consilience.execution.study import run_study_job
from consilience.stores.cells import CellRecords
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.files import upload_lock
from consilience.stores.maps import MapRecords
from consilience.stores.records import ALL_OWNERS
from workers.attempts import ReportProgress
from workers.context import WorkerContext
from workers.extraction import SetExtractor, extract

NAME_LENGTH = 128


def fit_map(job: Job, report: ReportProgress, workshop: WorkerContext) -> StoredMap:
    """The map of two stored sets, kept under the job's owner: the same job, run again, finds it there."""
    request = MapRequest.model_validate(job.request)
    a, b = (workshop.embeddings.get(side.embedding) for side in (request.a, request.b))
    found = run_map(request, a, b, workshop.blobs, report=report, cluster=workshop.cluster)
    name = request.name or name_of(f"{request.map.kind} {a.name} to {b.name}")
    records = MapRecords(workshop.database, workshop.blobs, workshop.access(job))
    with upload_lock(workshop.data_dir):
        return records.add(name, found.file(), job_id=job.id)[0]


def translate(job: Job, report: ReportProgress, workshop: WorkerContext) -> TranslationDocument:
    """A new set of the translations of a stored one, with its ids and groups."""
    map_id, request = job.request["map"], job.request
    source = workshop.embeddings.get(request["embedding"])
    # The service has looked whether the owner may see them.
    stored, weights = MapRecords(workshop.database, workshop.blobs, ALL_OWNERS).open(map_id)
    made = run_translation(weights, source, request["layer"], workshop.blobs, report=report)
    label = request["name"] or name_of(f"{source.name} by {stored.name}")
    origin = {"map": map_id, "source": source.id} | (
        {"model": stored.model_card.b.model} if stored.model_card.b.model else {}
    )
    return TranslationDocument(
        map=map_id,
        source=source.id,
        layer=source.layers[-1].name if request["layer"] == "last" else request["layer"],
        embedding=workshop.shelf(workshop.access(job)).keep(made, label, origin, ids=made.ids, groups=made.groups)[0],
    )


def name_of(words: str) -> str:
    """A label in the alphabet of labels."""
    return re.sub(r"[^A-Za-z0-9 ._:@+-]", "-", words)[:NAME_LENGTH]


#: From a job to its document; a ConsilienceError says why there is none.
Runner = Callable[[Job, ReportProgress, WorkerContext], Document]


def run(job: Job, report: ReportProgress, *, workshop: WorkerContext) -> Document:
    """The document of a job.

    Raises
    ------
    ConsilienceError
        Why there is none: it becomes the job's error.
    """
    return RUNNERS[job.kind](job, report, workshop)


def align(job: Job, report: ReportProgress, workshop: WorkerContext) -> ScoreDocument:
    """The scores of an alignment."""
    request = _read_request(job)
    a, warnings_a = _find("a", request.a, job, report, workshop)
    b, warnings_b = _find("b", request.b, job, report, workshop)
    if request.made:
        check_cost(request, a, b, flops=workshop.job_flops_limit, seconds=workshop.job_timeout_s)
    document = run_alignment(
        request, a, b, workshop.blobs, workshop.graphs, report=report, cluster=workshop.cluster, device=workshop.device
    )
    return document.model_copy(update={"warnings": (*warnings_a, *warnings_b, *document.warnings)})


def score_against_reference(job: Job, report: ReportProgress, workshop: WorkerContext) -> ReferenceDocument:
    """The scores of a set against a reference set, and its rank."""
    request, references = _read_request(job), workshop.references
    if isinstance(request.b, Extraction) or request.b.reference is None:
        raise InvalidRequest("A stored job of this kind names a reference set.", pointer="/b")
    against = ReferenceMembers(*references.open(request.b.reference))
    a, warnings = _find("a", request.a, job, report, workshop)
    document = run_reference(
        request,
        a,
        against,
        workshop.blobs,
        workshop.graphs,
        report=report,
        cluster=workshop.cluster,
        device=workshop.device,
    )
    return document.model_copy(update={"warnings": (*warnings, *document.warnings)})


def run_study(job: Job, report: ReportProgress, workshop: WorkerContext) -> StudyDocument:
    """The matrices of a study."""
    request = StudyRequest.model_validate(job.request).model_copy(
        update={"memory_budget_bytes": job.plan.memory_budget_bytes}
    )
    rows, columns = (
        None if members is None else [_read(member, workshop.embeddings) for member in members]
        for members in (request.rows, request.columns)
    )
    return run_study_job(
        request,
        rows or [],
        columns,
        workshop.blobs,
        workshop.graphs,
        cells=CellRecords(workshop.database),
        report=report,
        cluster=workshop.cluster,
        device=workshop.device,
    )


def upgrade(job: Job, report: ReportProgress, workshop: WorkerContext) -> UpgradeReport:
    """What a swap of models asks of an index."""
    request, embeddings = UpgradeRequest.model_validate(job.request), workshop.embeddings
    documents = _read(request.old, embeddings), _read(request.new, embeddings)
    queries = None
    if request.queries is not None:
        queries = _read(request.queries.old, embeddings), _read(request.queries.new, embeddings)
    return run_upgrade(request, documents, queries, workshop.blobs, report=report, cluster=workshop.cluster)


def _read_request(job: Job) -> AlignmentRequest:
    """What it was planned with, which the request may leave to the operator."""
    request = AlignmentRequest.model_validate(job.request)
    return request.model_copy(update={"memory_budget_bytes": job.plan.memory_budget_bytes})


def _find(
    name: str, side: Side | Extraction, job: Job, report: ReportProgress, workshop: WorkerContext
) -> tuple[EmbeddingSet, tuple[str, ...]]:
    """A side's set, and what was said of its making."""
    if not isinstance(side, Extraction):
        return _read(side, workshop.embeddings), ()
    with at_pointer(f"/{name}"):
        stored, document = SetExtractor(job, report, workshop).make(side)
    return stored, tuple(f"Side {name}: {warning}" for warning in document.warnings)


def _read(side: Side, embeddings: EmbeddingRecords) -> EmbeddingSet:
    if side.embedding is None:
        raise InvalidRequest("A stored job names its sides by id.", hint="The service stores inline vectors as a set.")
    return embeddings.get(side.embedding)


RUNNERS: dict[JobKind, Runner] = {
    "alignment": align,
    "reference": score_against_reference,
    "extraction": extract,
    "study": run_study,
    "map": fit_map,
    "translation": translate,
    "upgrade": upgrade,
}
