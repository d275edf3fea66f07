"""Tasks of jobs by kind: read the inputs, run the computation and return the document."""

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
from consilience.execution.alignment import plan_sets, run_alignment
from consilience.execution.maps import run_map, run_translation, run_upgrade
from consilience.execution.reference import ReferenceMembers, run_reference
from consilience.execution.study import run_study_job
from consilience.stores.cells import CellRecords
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.files import upload_lock
from consilience.stores.maps import MapRecords
from consilience.stores.records import ALL_OWNERS
from workers.attempts import ReportProgress
from workers.context import WorkerContext, make_name
from workers.extraction import SetExtractor, extract


def fit_map(job: Job, report: ReportProgress, context: WorkerContext) -> StoredMap:
    """Fit a map of two stored sets and store it. If the job is run again, it finds the map."""
    request = MapRequest.model_validate(job.request)
    a, b = (context.embeddings.get(side.embedding) for side in (request.a, request.b))
    found = run_map(request, a, b, context.blobs, report=report, cluster=context.cluster)
    name = request.name or make_name(f"{request.map.kind} {a.name} to {b.name}")
    records = MapRecords(context.database, context.blobs, context.access(job))
    with upload_lock(context.data_dir):
        return records.add(name, found.file(), job_id=job.id)[0]


def translate(job: Job, report: ReportProgress, context: WorkerContext) -> TranslationDocument:
    """Translate a stored set with a map, and store the result with the ids and groups of the set."""
    map_id, request = job.request["map"], job.request
    source = context.embeddings.get(request["embedding"])
    # The service has checked that the owner may see both.
    stored, weights = MapRecords(context.database, context.blobs, ALL_OWNERS).open(map_id)
    made = run_translation(weights, source, request["layer"], context.blobs, report=report)
    label = request["name"] or make_name(f"{source.name} by {stored.name}")
    origin = {"map": map_id, "source": source.id} | (
        {"model": stored.model_card.b.model} if stored.model_card.b.model else {}
    )
    return TranslationDocument(
        map=map_id,
        source=source.id,
        layer=source.layers[-1].name if request["layer"] == "last" else request["layer"],
        embedding=context.repository(context.access(job)).add(made, label, origin, ids=made.ids, groups=made.groups)[0],
    )


#: Runs a job and returns its document, or raises a ConsilienceError.
Runner = Callable[[Job, ReportProgress, WorkerContext], Document]


def run(job: Job, report: ReportProgress, *, context: WorkerContext) -> Document:
    """Run a job and return its document.

    Raises
    ------
    ConsilienceError
        The reason why the job failed, which becomes its error.
    """
    return RUNNERS[job.kind](job, report, context)


def align(job: Job, report: ReportProgress, context: WorkerContext) -> ScoreDocument:
    """Score two sets."""
    request = _read_request(job)
    a, warnings_a = _find("a", request.a, job, report, context)
    b, warnings_b = _find("b", request.b, job, report, context)
    plan = job.plan
    if request.extractions:
        plan = plan_sets(request, a, b, flops=context.job_flops_limit, seconds=context.job_timeout_s)
    document = run_alignment(
        request,
        a,
        b,
        context.blobs,
        context.graphs,
        report=report,
        cluster=context.cluster,
        device=context.device,
        plan=plan,
    )
    return document.model_copy(update={"warnings": (*warnings_a, *warnings_b, *document.warnings)})


def score_against_reference(job: Job, report: ReportProgress, context: WorkerContext) -> ReferenceDocument:
    """Score a set against a reference set, and rank it among the members."""
    request, references = _read_request(job), context.references
    if isinstance(request.b, Extraction) or request.b.reference is None:
        raise InvalidRequest("The stored job does not name a reference set.", pointer="/b")
    against = ReferenceMembers(*references.open(request.b.reference))
    a, warnings = _find("a", request.a, job, report, context)
    document = run_reference(
        request,
        a,
        against,
        context.blobs,
        context.graphs,
        report=report,
        cluster=context.cluster,
        device=context.device,
    )
    return document.model_copy(update={"warnings": (*warnings, *document.warnings)})


def run_study(job: Job, report: ReportProgress, context: WorkerContext) -> StudyDocument:
    """Run a study."""
    request = StudyRequest.model_validate(job.request).model_copy(
        update={"memory_budget_bytes": job.plan.memory_budget_bytes}
    )
    rows, columns = (
        None if members is None else [_read(member, context.embeddings) for member in members]
        for members in (request.rows, request.columns)
    )
    return run_study_job(
        request,
        rows or [],
        columns,
        context.blobs,
        context.graphs,
        cells=CellRecords(context.database),
        report=report,
        cluster=context.cluster,
        device=context.device,
    )


def upgrade(job: Job, report: ReportProgress, context: WorkerContext) -> UpgradeReport:
    """Report the effect of an upgrade of models on an index."""
    request, embeddings = UpgradeRequest.model_validate(job.request), context.embeddings
    documents = _read(request.old, embeddings), _read(request.new, embeddings)
    queries = None
    if request.queries is not None:
        queries = _read(request.queries.old, embeddings), _read(request.queries.new, embeddings)
    return run_upgrade(request, documents, queries, context.blobs, report=report, cluster=context.cluster)


def _read_request(job: Job) -> AlignmentRequest:
    """Return the request of a job with the memory budget of its plan, which the request may leave to the operator."""
    request = AlignmentRequest.model_validate(job.request)
    return request.model_copy(update={"memory_budget_bytes": job.plan.memory_budget_bytes})


def _find(
    name: str, side: Side | Extraction, job: Job, report: ReportProgress, context: WorkerContext
) -> tuple[EmbeddingSet, tuple[str, ...]]:
    """Return the set of a side, which a model may have to extract first, and the warnings of its extraction."""
    if not isinstance(side, Extraction):
        return _read(side, context.embeddings), ()
    with at_pointer(f"/{name}"):
        stored, document = SetExtractor(job, report, context).extract(side)
    return stored, tuple(f"Side {name}: {warning}" for warning in document.warnings)


def _read(side: Side, embeddings: EmbeddingRecords) -> EmbeddingSet:
    if side.embedding is None:
        raise InvalidRequest("A side of the stored job has no id.", hint="The service stores inline vectors as a set.")
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
