"""Changes that workers and the reconciler make to jobs: claim, heartbeat, finish, hand back, requeue.

Every change is one conditional UPDATE on the status of the job and on the delivery number of the caller. A superseded
caller changes nothing, so any number of workers and reconcilers may try at once, and a job has at most one committed
result.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any, Literal, NamedTuple, cast

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection

from consilience.contract.base import Document
from consilience.contract.jobs import UNFINISHED, Job, JobStatus, Progress, QueueName
from consilience.contract.problems import Problem
from consilience.errors import ConsilienceError, InputError
from consilience.stores import tables
from consilience.stores.database import Database
from consilience.stores.jobs import lock_job, read_job
from consilience.stores.queue import Message
from consilience.stores.records import ALL_OWNERS
from consilience.stores.webhooks import schedule_webhook

Ending = Literal["succeeded", "failed", "canceled", "crashed", "lost", "handed-back"]
_job = tables.jobs


class HeartbeatReply(Enum):
    """Response to the heartbeat of a worker."""

    CONTINUE = auto()
    """The run may continue."""
    CANCEL = auto()
    """The user requested cancellation."""
    FENCED = auto()
    """Another run has the job, or the job has ended."""


class ActiveJob(NamedTuple):
    """Unfinished job, as the reconciler watches it."""

    job_id: str
    status: JobStatus
    delivery: int
    beat: int
    queue: QueueName = "align"


def describe_failure(error: ConsilienceError) -> Problem:
    """Convert an error for the document of a job. Its HTTP status is advisory, as RFC 9457 allows."""
    return Problem.of(error, 422 if isinstance(error, InputError) else 500)


class Leases:
    """Leases of jobs: one worker at a time has the right to run a job."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, job_id: str, delivery: int, worker: str) -> Job | None:
        """Claim a queued job for a worker. Return None if this delivery is stale."""
        now = datetime.now(UTC)
        with self._database.write() as connection:
            changes = {"status": JobStatus.RUNNING, "started_at": now, "beat": 0}
            if not _change(connection, _held(job_id, delivery, JobStatus.QUEUED), **changes):
                return None
            run = {"job_id": job_id, "delivery": delivery, "worker": worker, "started_at": now}
            connection.execute(sa.insert(tables.runs).values(run))
            return read_job(connection, job_id, ALL_OWNERS).job

    def traceparent(self, job_id: str) -> str | None:
        """Return the span of the request that sent the job, or None if there was none."""
        with self._database.read() as connection:
            span = connection.execute(sa.select(_job.c.traceparent).where(_job.c.id == job_id)).scalar()
        return None if span is None else str(span)

    def heartbeat(self, job_id: str, delivery: int) -> HeartbeatReply:
        """Extend the lease of a run. Return if it may continue."""
        statement = (
            sa.update(_job)
            .where(_held(job_id, delivery, JobStatus.RUNNING))
            .values(beat=_job.c.beat + 1)
            .returning(_job.c.cancel_requested)
        )
        with self._database.write() as connection:
            cancel_requested = connection.execute(statement).scalar()
            if cancel_requested is not None:
                return HeartbeatReply.CANCEL if cancel_requested else HeartbeatReply.CONTINUE
            # A process that has not claimed the job yet is slow, not superseded; it may have claimed it just now.
            still_ours = sa.select(_job.c.id).where(_held(job_id, delivery, *UNFINISHED))
            return HeartbeatReply.CONTINUE if connection.execute(still_ours).first() else HeartbeatReply.FENCED

    def progress(self, job_id: str, delivery: int, progress: Progress) -> bool:
        """Record the progress of a run. Return False if the run was superseded."""
        with self._database.write() as connection:
            return _change(connection, _held(job_id, delivery, JobStatus.RUNNING), progress=progress.model_dump())

    def succeed(self, job_id: str, delivery: int, result: Document, progress: Progress | None = None) -> bool:
        """Commit the result and the last progress. Return False, and drop the result, if the run was superseded."""
        changes: dict[str, Any] = {"result": result.model_dump(mode="json", by_alias=True)}
        if progress:
            changes["progress"] = progress.model_dump()
        return self._finish(job_id, delivery, JobStatus.SUCCEEDED, "succeeded", **changes)

    def fail(self, job_id: str, delivery: int, problem: Problem) -> bool:
        """Commit the error of a failed run. Return False if the run was superseded."""
        return self._finish(job_id, delivery, JobStatus.FAILED, "failed", error=problem.model_dump(mode="json"))

    def canceled(self, job_id: str, delivery: int) -> bool:
        """Commit that a run was stopped at the user's request. Return False if the run was superseded."""
        return self._finish(job_id, delivery, JobStatus.CANCELED, "canceled")

    def crashed(self, job_id: str, delivery: int, problem: Problem, max_crashes: int) -> int | None:
        """Record that the process of a run died. Queue the job again, or fail it with `problem` after `max_crashes` crashes.

        Returns
        -------
        int or None
            Number of the delivery to enqueue, or None if there is nothing to enqueue.
        """
        # This includes a process that died before it could claim the job.
        held = _held(job_id, delivery, *UNFINISHED)
        return self._requeue_or_fail(held, "crashed", job_id, delivery, problem=problem, max_crashes=max_crashes)

    def lost(self, job: ActiveJob, problem: Problem, max_crashes: int) -> int | None:
        """Record that the worker of `job` sends no heartbeats, as `crashed`. A heartbeat since `job` was read prevents this."""
        job_id, _, delivery, beat, _ = job
        silent = sa.and_(_held(job_id, delivery, JobStatus.RUNNING), _job.c.beat == beat)
        return self._requeue_or_fail(silent, "lost", job_id, delivery, problem=problem, max_crashes=max_crashes)

    def hand_back(self, job_id: str, delivery: int) -> int | None:
        """Queue the job of a stopping worker again. Return the number of the delivery to enqueue, or None."""
        held = _held(job_id, delivery, *UNFINISHED)
        with self._database.write() as connection:
            lock_job(connection, job_id)
            canceled = _cancel_if_requested(connection, held)
            requeued = _requeue(connection, held)
            if canceled or requeued:
                _end_run(connection, job_id, delivery, "canceled" if canceled else "handed-back")
            return delivery + 1 if requeued else None

    def redeliver(self, lost: Sequence[Message]) -> list[Message]:
        """Replace the lost messages of queued jobs. Return the new messages, without those of jobs that have changed meanwhile.

        All are replaced by one statement, since thousands are lost if Redis is flushed.
        """
        held = sa.tuple_(_job.c.id, _job.c.delivery).in_(lost) & (_job.c.status == JobStatus.QUEUED)
        changes = {"delivery": _job.c.delivery + 1, "version": _job.c.version + 1}
        statement = sa.update(_job).where(held).values(**changes).returning(_job.c.id, _job.c.delivery)
        with self._database.write() as connection:
            new = {(row.id, row.delivery) for row in connection.execute(statement)}
        expected = [(job_id, delivery + 1) for job_id, delivery in lost]
        return [each for each in expected if each in new]

    def status(self, job_id: str, delivery: int) -> JobStatus | None:
        """Return the status of the job under this delivery, or None if there is a newer delivery."""
        query = sa.select(_job.c.status).where(_job.c.id == job_id, _job.c.delivery == delivery)
        with self._database.read() as connection:
            status = connection.execute(query).scalar()
        return JobStatus(status) if status else None

    def find_active(self) -> list[ActiveJob]:
        """Return all queued and running jobs."""
        query = sa.select(_job.c.id, _job.c.status, _job.c.delivery, _job.c.beat, _job.c.queue)
        with self._database.read() as connection:
            rows = connection.execute(query.where(_job.c.status.in_(UNFINISHED))).all()
        return [
            ActiveJob(row.id, JobStatus(row.status), row.delivery, row.beat, cast("QueueName", row.queue))
            for row in rows
        ]

    def _finish(self, job_id: str, delivery: int, status: JobStatus, ending: Ending, **changes: Any) -> bool:
        with self._database.write() as connection:
            held = _held(job_id, delivery, JobStatus.RUNNING)
            if not _change(connection, held, **_finished(status), **changes):
                return False
            _end_run(connection, job_id, delivery, ending)
            return True

    def _requeue_or_fail(
        self,
        held: ColumnElement[bool],
        ending: Ending,
        job_id: str,
        delivery: int,
        *,
        problem: Problem,
        max_crashes: int,
    ) -> int | None:
        again = sa.and_(held, _job.c.crashes + 1 < max_crashes)
        failure = {**_finished(JobStatus.FAILED), "error": problem.model_dump(mode="json")}
        with self._database.write() as connection:
            lock_job(connection, job_id)
            if _cancel_if_requested(connection, held):
                _end_run(connection, job_id, delivery, "canceled")
                return None
            crashes = _job.c.crashes + 1
            requeued = _requeue(connection, again, crashes=crashes)
            if requeued or _change(connection, held, **failure, crashes=crashes):
                _end_run(connection, job_id, delivery, ending)
            return delivery + 1 if requeued else None


def _held(job_id: str, delivery: int, *statuses: JobStatus) -> ColumnElement[bool]:
    return sa.and_(_job.c.id == job_id, _job.c.delivery == delivery, _job.c.status.in_(statuses))


def _change(connection: Connection, condition: ColumnElement[bool], **changes: Any) -> bool:
    """Change the job that meets the condition, and its version. Return True if there was one."""
    statement = sa.update(_job).where(condition).values(**changes, version=_job.c.version + 1)
    return connection.execute(statement).rowcount == 1


def _requeue(connection: Connection, condition: ColumnElement[bool], **changes: Any) -> bool:
    fresh = {"status": JobStatus.QUEUED, "delivery": _job.c.delivery + 1, "started_at": None, "progress": None}
    return _change(connection, condition, **fresh, **changes)


def _cancel_if_requested(connection: Connection, held: ColumnElement[bool]) -> bool:
    requested = sa.and_(held, _job.c.cancel_requested)
    return _change(connection, requested, **_finished(JobStatus.CANCELED))


def _finished(status: JobStatus) -> dict[str, Any]:
    return {"status": status, "finished_at": datetime.now(UTC), "cancel_requested": False}


def _end_run(connection: Connection, job_id: str, delivery: int, ending: Ending) -> None:
    """Record how the run ended. If the job has ended too, schedule its webhook in this transaction."""
    schedule_webhook(connection, job_id)
    connection.execute(
        sa.update(tables.runs)
        .where(tables.runs.c.job_id == job_id, tables.runs.c.delivery == delivery, tables.runs.c.ended.is_(None))
        .values(ended=ending, ended_at=datetime.now(UTC))
    )
