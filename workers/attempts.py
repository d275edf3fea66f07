"""One attempt at a job, inside its own process: claim it, do it, commit how it ended."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import stamina
import structlog

from consilience.contract.base import Document
from consilience.contract.jobs import Job, Progress
from consilience.errors import ConsilienceError, JobBroken, JobOutOfMemory, ServiceError, StorageFull, Unavailable
from consilience.stores.leases import Leases, describe_failure
from consilience.stores.queue import Message
from workers.tracing import Tracing

#: Progress is written at most this often; the last one goes with the result.
PROGRESS_INTERVAL_S = 0.5
#: A database that went away may come back in this time; a claim and a result are worth the wait.
PATIENCE_S = 30.0
#: A database that takes nothing in for now: it does not answer, or its disk is full.
AWAY = (Unavailable, StorageFull)

#: Called with a stage, how much of it is done and how much there is.
Report = Callable[[str, int, int], None]
#: What a job does: from its row to its result; a ConsilienceError says why there is none.
Task = Callable[[Job, Report], Document]


@dataclass(frozen=True)
class Attempts:
    """What every attempt of one worker shares."""

    leases: Leases
    task: Task
    worker: str
    tracing: Tracing

    def run(self, message: Message) -> int:
        """Try the job once; the exit status of its process: 0 where nothing is left to be said about it."""
        log = structlog.get_logger().bind(job=message[0], delivery=message[1])
        patiently = stamina.RetryingCaller(attempts=None, timeout=PATIENCE_S, wait_max=1.0).on(AWAY)
        job = patiently(self.leases.claim, *message, self.worker)
        if job is None:
            log.info("message_stale")
            return 0
        began = time.monotonic()
        log.info("job_started", waited_s=round(max(0.0, (datetime.now(UTC) - job.created_at).total_seconds()), 3))
        with self.tracing.run(message) as span:
            progress = ProgressWriter(self.leases, message, span.mark)
            outcome = self._do(job, progress.report, log)
            seconds = round(time.monotonic() - began, 3)
            if isinstance(outcome, Document):
                committed = patiently(self.leases.succeed, *message, outcome, progress.latest)
                log.info("job_succeeded" if committed else "result_fenced", seconds=seconds)
            else:
                committed = patiently(self.leases.fail, *message, describe_failure(outcome))
                log.info("job_failed" if committed else "result_fenced", seconds=seconds, error=outcome.code)
                span.fail(outcome.code)
            if not committed:
                span.fail("fenced")
        return 0

    def _do(self, job: Job, report: Report, log: structlog.BoundLogger) -> Document | ConsilienceError:
        try:
            return self.task(job, report)
        except ConsilienceError as error:
            if isinstance(error, ServiceError):
                log.exception("job_fault")
            return error
        except MemoryError:
            return JobOutOfMemory(
                "The job needed more memory than there was.",
                value=f"{job.plan.bytes} bytes planned",
                hint="Compare fewer rows or layers, or give the worker more memory.",
            )
        except Exception as error:
            log.exception("job_fault")
            return JobBroken(
                "The job met an unforeseen error.",
                value=type(error).__name__,
                hint=f"The worker's log has the trace, under {job.id}.",
            )


class ProgressWriter:
    """Writes how far a run is, not more often than anyone looks."""

    def __init__(self, leases: Leases, message: Message, mark: Callable[[str], None]) -> None:
        self.latest: Progress | None = None
        self._leases = leases
        self._message = message
        self._mark = mark
        # The first moments of a job are not worth a write: most jobs are over by then.
        self._written = self._stage_began = time.monotonic()
        self._stage_first = 0

    def report(self, stage: str, done: int, total: int) -> None:
        """Note the progress; write it where the last write is long enough ago."""
        now = time.monotonic()
        if self.latest is None or self.latest.stage != stage:
            self._stage_began, self._stage_first = now, done
            self._mark(stage)
        done_here = done - self._stage_first  # an earlier run may have done the rest
        eta_s = (now - self._stage_began) * (total - done) / done_here if done_here > 0 else None
        self.latest = Progress(stage=stage, done=done, total=total, eta_s=eta_s)
        if now - self._written >= PROGRESS_INTERVAL_S:
            self._written = now
            self._write(self.latest)

    def _write(self, progress: Progress) -> None:
        try:
            self._leases.progress(*self._message, progress)
        except AWAY as error:  # the job itself does not need it
            structlog.get_logger().warning("progress_not_written", job=self._message[0], cause=error.value)
