"""Jobs: their request, cost estimate, status, runs and result."""

from enum import StrEnum
from typing import Any, Literal, get_args

from pydantic import ValidationInfo, field_validator

from consilience.contract.base import (
    Document,
    Finite,
    JobId,
    Timestamp,
)
from consilience.contract.extraction import ExtractionDocument
from consilience.contract.keys import DEFAULT_OWNER
from consilience.contract.maps import StoredMap, TranslationDocument
from consilience.contract.problems import Problem
from consilience.contract.scores import ReferenceDocument, ScoreDocument
from consilience.contract.study_results import StudyDocument
from consilience.contract.upgrades import UpgradeReport


class Plan(Document):
    """Cost estimate of a job, made before it is queued."""

    n: int
    """Number of rows or items; an upper bound if rows are paired by id."""
    dim_a: int | None = None
    """Number of columns of a's widest layer."""
    dim_b: int | None = None
    """Number of columns of b's widest layer."""
    cells: int | None = None
    """Number of layer pairs of the grid; for a study, number of model pairs."""
    flops: Finite
    """Estimated number of floating-point operations."""
    bytes: int
    """Estimated peak memory of the job's process, in bytes."""
    memory_budget_bytes: int | None = None
    """Memory that the job may use, in bytes. Rows that do not fit are read in blocks."""
    streamed: bool = False
    """Whether the rows are read in blocks because they do not fit the memory budget."""
    seconds: Finite
    """Estimated running time on two processor cores, in seconds."""
    queries: int | None = None
    """Expected number of query rows; null if every row is a query."""
    queries_max: int | None = None
    """Maximum number of query rows, which is reached if their scores vary most."""


class JobStatus(StrEnum):
    """State of a job.

    `queued`: the job waits for a worker. `running`: a worker runs the job. `succeeded`: the result is available.
    `failed`: the job ended with an error. `canceled`: the job was stopped on request and has no result.
    """

    QUEUED = "queued"
    """The job waits for a worker."""
    RUNNING = "running"
    """A worker runs the job."""
    SUCCEEDED = "succeeded"
    """The result is available."""
    FAILED = "failed"
    """The job ended with an error."""
    CANCELED = "canceled"
    """The job was stopped on request and has no result."""


#: Kinds of jobs.
JobKind = Literal["alignment", "reference", "extraction", "study", "map", "translation", "upgrade"]

#: Queues of jobs; workers of `extract` run models, for example on a GPU.
QueueName = Literal["align", "extract"]

QUEUES: tuple[QueueName, ...] = get_args(QueueName)

#: Type of the result of each kind of job.
RESULTS: dict[JobKind, type[Document]] = {
    "alignment": ScoreDocument,
    "reference": ReferenceDocument,
    "extraction": ExtractionDocument,
    "study": StudyDocument,
    "map": StoredMap,
    "translation": TranslationDocument,
    "upgrade": UpgradeReport,
}

FINISHED = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED})

UNFINISHED = frozenset(JobStatus) - FINISHED


class Progress(Document):
    """Progress of a running job."""

    stage: str
    """Name of the current step."""
    done: int
    """Units of work done in this step."""
    total: int
    """Units of work of this step in total."""
    eta_s: Finite | None = None
    """Estimated remaining time, in seconds; null if unknown."""


class Run(Document):
    """Attempt of a worker to run a job."""

    delivery: int
    """Number of the delivery from the queue, from 1."""
    worker: str
    """Name of the worker."""
    started_at: Timestamp
    ended: Literal["succeeded", "failed", "canceled", "crashed", "lost", "handed-back"] | None = None
    """Outcome of the run; null while it is running."""
    ended_at: Timestamp | None = None


class Job(Document):
    """Asynchronous job and its result."""

    id: JobId
    owner: str = DEFAULT_OWNER
    """Owner of the API key that requested the job; other owners cannot see it."""
    kind: JobKind
    status: JobStatus
    cancel_requested: bool = False
    """Whether a cancellation was requested and the job's process has not stopped yet."""
    progress: Progress | None = None
    """Progress of a running job."""
    runs: tuple[Run, ...] = ()
    """Attempts of workers to run the job, oldest first."""
    created_at: Timestamp
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    plan: Plan
    """Cost estimate that was made before the job was queued."""
    request: dict[str, Any]
    """Request with all defaults filled in."""
    result: (
        ScoreDocument
        | ReferenceDocument
        | ExtractionDocument
        | StudyDocument
        | StoredMap
        | TranslationDocument
        | UpgradeReport
        | None
    ) = None
    """Result of a job that succeeded; its type follows from `kind`."""
    error: Problem | None = None
    """Error of a job that failed."""
    links: dict[str, str]

    @field_validator("result", mode="before")
    @classmethod
    def _of_its_kind(cls, value: object, info: ValidationInfo) -> object:
        """Validate the result as the type of its kind of job."""
        kind = info.data.get("kind")
        return RESULTS[kind].model_validate(value) if kind and isinstance(value, dict) else value

    @property
    def finished(self) -> bool:
        """True if the job has succeeded, failed or been canceled."""
        return self.status in FINISHED


class JobPage(Document):
    """Page of jobs, newest first."""

    data: tuple[Job, ...]
    has_more: bool
    next_cursor: str | None
