"""What a worker and the reconciler do to jobs: claim, beat, finish, give back, take away.

Every change is one conditional UPDATE: it names the status that the job must still have and the delivery under which
the caller holds it. Whoever was superseded changes nothing, so any number of workers and reconcilers may try at once,
and a job has at most one committed result.
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
from consilience.stores.records import EVERYTHING
from consilience.stores.webhooks import announce_end

Ending = Literal["succeeded", "failed", "canceled", "crashed", "lost", "handed-back"]
_job = tables.jobs


class Beat(Enum):
    """What a worker learns when it shows that it is alive."""

    KEEP = auto()
    """Go on."""
    CANCEL = auto()
    """The user asked for an end."""
    FENCED = auto()
    """The job is no longer this run's."""


class Standing(NamedTuple):
    """An unfinished job, as the reconciler watches it."""

    job_id: str
    status: JobStatus
    delivery: int
    beat: int
    queue: QueueName = "align"


def describe_failure(error: ConsilienceError) -> Problem:
    """An error as a job's document keeps it. Its status is advisory there, as RFC 9457 allows: no response has it."""
    return Problem.of(error, 422 if isinstance(error, InputError) else 500)


class Leases:
    """The changes that hold, extend and end a run's right to a job."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, job_id: str, delivery: int, worker: str) -> Job | None:
        """Take a queued job; None where this delivery is stale."""
        now = datetime.now(UTC)
        with self._database.write() as connection:
            changes = {"status": JobStatus.RUNNING, "started_at": now, "beat": 0}
            if not _change(connection, _held(job_id, delivery, JobStatus.QUEUED), **changes):
                return None
            run = {"job_id": job_id, "delivery": delivery, "worker": worker, "started_at": now}
            connection.execute(sa.insert(tables.runs).values(run))
            return read_job(connection, job_id, EVERYTHING).job

    def traceparent(self, job_id: str) -> str | None:
        """The span of the request that sent the job; None where it had none."""
        with self._database.read() as connection:
            found = connection.execute(sa.select(_job.c.traceparent).where(_job.c.id == job_id)).scalar()
        return None if found is None else str(found)

    def beat(self, job_id: str, delivery: int) -> Beat:
        """Show that the run is alive, and learn what is wanted of it."""
        statement = (
            sa.update(_job)
            .where(_held(job_id, delivery, JobStatus.RUNNING))
            .values(beat=_job.c.beat + 1)
            .returning(_job.c.cancel_requested)
        )
        with self._database.write() as connection:
            cancel_requested = connection.execute(statement).scalar()
            if cancel_requested is not None:
                return Beat.CANCEL if cancel_requested else Beat.KEEP
            # A process that had not claimed the job yet is slow, not superseded; it may have done so just now.
            still_ours = sa.select(_job.c.id).where(_held(job_id, delivery, *UNFINISHED))
            return Beat.KEEP if connection.execute(still_ours).first() else Beat.FENCED

    def progress(self, job_id: str, delivery: int, progress: Progress) -> bool:
        """Show how far the run is; False where it was superseded."""
        with self._database.write() as connection:
            return _change(connection, _held(job_id, delivery, JobStatus.RUNNING), progress=progress.model_dump())

    def succeed(self, job_id: str, delivery: int, result: Document, progress: Progress | None = None) -> bool:
        """Commit the result, with the last progress; False where the run was superseded: it is dropped."""
        changes: dict[str, Any] = {"result": result.model_dump(mode="json", by_alias=True)}
        if progress:
            changes["progress"] = progress.model_dump()
        return self._finish(job_id, delivery, JobStatus.SUCCEEDED, "succeeded", **changes)

    def fail(self, job_id: str, delivery: int, problem: Problem) -> bool:
        """Commit why there will be no result; False where the run was superseded."""
        return self._finish(job_id, delivery, JobStatus.FAILED, "failed", error=problem.model_dump(mode="json"))

    def canceled(self, job_id: str, delivery: int) -> bool:
        """Commit that the run's process is gone, as the user wished; False where it was superseded."""
        return self._finish(job_id, delivery, JobStatus.CANCELED, "canceled")

    def crashed(self, job_id: str, delivery: int, problem: Problem, max_crashes: int) -> int | None:
        """The run's process died: queue the job again, or end it after `max_crashes` of them with `problem`.

        Returns
        -------
        int or None
            The delivery to enqueue it under; None where there is nothing to enqueue.
        """
        # A process that died before it could claim the job has died as well.
        held = _held(job_id, delivery, *UNFINISHED)
        return self._give_up_run(held, "crashed", job_id, delivery, problem=problem, max_crashes=max_crashes)

    def lost(self, standing: Standing, problem: Problem, max_crashes: int) -> int | None:
        """The run's worker has been silent since `standing`: as `crashed`, unless it has been heard meanwhile."""
        job_id, _, delivery, beat, _ = standing
        silent = sa.and_(_held(job_id, delivery, JobStatus.RUNNING), _job.c.beat == beat)
        return self._give_up_run(silent, "lost", job_id, delivery, problem=problem, max_crashes=max_crashes)

    def hand_back(self, job_id: str, delivery: int) -> int | None:
        """The worker stops: queue the job again for another. Returns the delivery to enqueue it under, or None."""
        held = _held(job_id, delivery, *UNFINISHED)
        with self._database.write() as connection:
            lock_job(connection, job_id)
            canceled = _cancel_if_asked(connection, held)
            requeued = _requeue(connection, held)
            if canceled or requeued:
                _end_run(connection, job_id, delivery, "canceled" if canceled else "handed-back")
            return delivery + 1 if requeued else None

    def redeliver(self, gone: Sequence[Message]) -> list[Message]:
        """Messages of queued jobs are gone: those to enqueue instead; of a job that moved on meanwhile there is none.

        One statement for all of them: a Redis that was emptied takes thousands along.
        """
        held = sa.tuple_(_job.c.id, _job.c.delivery).in_(gone) & (_job.c.status == JobStatus.QUEUED)
        changes = {"delivery": _job.c.delivery + 1, "version": _job.c.version + 1}
        statement = sa.update(_job).where(held).values(**changes).returning(_job.c.id, _job.c.delivery)
        with self._database.write() as connection:
            new = {(row.id, row.delivery) for row in connection.execute(statement)}
        again = [(job_id, delivery + 1) for job_id, delivery in gone]
        return [each for each in again if each in new]

    def status(self, job_id: str, delivery: int) -> JobStatus | None:
        """How the job stands, or ended, under this delivery; None where it moved on to another."""
        query = sa.select(_job.c.status).where(_job.c.id == job_id, _job.c.delivery == delivery)
        with self._database.read() as connection:
            found = connection.execute(query).scalar()
        return JobStatus(found) if found else None

    def unfinished(self) -> list[Standing]:
        """Every queued and running job."""
        query = sa.select(_job.c.id, _job.c.status, _job.c.delivery, _job.c.beat, _job.c.queue)
        with self._database.read() as connection:
            rows = connection.execute(query.where(_job.c.status.in_(UNFINISHED))).all()
        return [
            Standing(row.id, JobStatus(row.status), row.delivery, row.beat, cast("QueueName", row.queue))
            for row in rows
        ]

    def _finish(self, job_id: str, delivery: int, status: JobStatus, ending: Ending, **changes: Any) -> bool:
        with self._database.write() as connection:
            held = _held(job_id, delivery, JobStatus.RUNNING)
            if not _change(connection, held, **_finished(status), **changes):
                return False
            _end_run(connection, job_id, delivery, ending)
            return True

    def _give_up_run(
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
            if _cancel_if_asked(connection, held):
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
    """Change the job that meets the condition, visibly; whether there was one."""
    statement = sa.update(_job).where(condition).values(**changes, version=_job.c.version + 1)
    return connection.execute(statement).rowcount == 1


def _requeue(connection: Connection, condition: ColumnElement[bool], **changes: Any) -> bool:
    fresh = {"status": JobStatus.QUEUED, "delivery": _job.c.delivery + 1, "started_at": None, "progress": None}
    return _change(connection, condition, **fresh, **changes)


def _cancel_if_asked(connection: Connection, held: ColumnElement[bool]) -> bool:
    asked = sa.and_(held, _job.c.cancel_requested)
    return _change(connection, asked, **_finished(JobStatus.CANCELED))


def _finished(status: JobStatus) -> dict[str, Any]:
    return {"status": status, "finished_at": datetime.now(UTC), "cancel_requested": False}


def _end_run(connection: Connection, job_id: str, delivery: int, ending: Ending) -> None:
    """Note how the run ended; if the job has ended with it, its webhook is due from this transaction on."""
    announce_end(connection, job_id)
    connection.execute(
        sa.update(tables.runs)
        .where(tables.runs.c.job_id == job_id, tables.runs.c.delivery == delivery, tables.runs.c.ended.is_(None))
        .values(ended=ending, ended_at=datetime.now(UTC))
    )
