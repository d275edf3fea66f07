"""Jobs: what is asked, what happens to it, and what comes out."""

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
    """What a job will cost, known before it is queued."""

    n: int
    """Rows or items; at most so many where they are paired by id."""
    dim_a: int | None = None
    dim_b: int | None = None
    cells: int | None = None
    """Layer pairs of the grid; of a study, pairs of models."""
    flops: Finite
    bytes: int
    """Peak memory of the job's process, estimated."""
    memory_budget_bytes: int | None = None
    """What the job may plan with; rows that do not fit are read by blocks."""
    streamed: bool = False
    """Whether rows are read by blocks, because they do not fit the budget."""
    seconds: Finite
    """Estimated on two cores."""
    queries: int | None = None
    """Rows that are expected to ask, where only some do."""
    queries_max: int | None = None
    """Rows that ask at most, however much their scores vary."""


class JobStatus(StrEnum):
    """Where a job stands. Each state is one sentence."""

    QUEUED = "queued"
    """It waits for a worker."""
    RUNNING = "running"
    """A worker's process is at it."""
    SUCCEEDED = "succeeded"
    """Its result is there."""
    FAILED = "failed"
    """It ended with an error, which says why."""
    CANCELED = "canceled"
    """It was stopped on request; there is no result."""


#: What a job does.
JobKind = Literal["alignment", "reference", "extraction", "study", "map", "translation", "upgrade"]

#: Which workers take it: `extract` is for those that run models, such as workers with a card.
QueueName = Literal["align", "extract"]

QUEUES: tuple[QueueName, ...] = get_args(QueueName)

#: What comes out of each kind of job.
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
    """How far a running job is."""

    stage: str
    done: int
    total: int
    eta_s: Finite | None = None


class Run(Document):
    """One attempt of a worker at a job."""

    delivery: int
    worker: str
    started_at: Timestamp
    ended: Literal["succeeded", "failed", "canceled", "crashed", "lost", "handed-back"] | None = None
    """Null while it runs."""
    ended_at: Timestamp | None = None


class Job(Document):
    """One piece of work and its outcome."""

    id: JobId
    owner: str = DEFAULT_OWNER
    """Whose key asked for it; others cannot see it."""
    kind: JobKind
    status: JobStatus
    cancel_requested: bool = False
    """True from the request to cancel until the process is gone."""
    progress: Progress | None = None
    runs: tuple[Run, ...] = ()
    created_at: Timestamp
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    plan: Plan
    request: dict[str, Any]
    """The request with every default filled in."""
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
    error: Problem | None = None
    links: dict[str, str]

    @field_validator("result", mode="before")
    @classmethod
    def _of_its_kind(cls, value: object, info: ValidationInfo) -> object:
        """The kind says which document it is; the documents do not repeat it."""
        kind = info.data.get("kind")
        return RESULTS[kind].model_validate(value) if kind and isinstance(value, dict) else value

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in FINISHED


class JobPage(Document):
    """One page of jobs, newest first."""

    data: tuple[Job, ...]
    has_more: bool
    next_cursor: str | None
