"""One attempt to run a job, in its own process: claim the job, run it, commit the outcome. Traces and progress of the run."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import stamina
import structlog

from consilience.contract.base import Document
from consilience.contract.jobs import Job, Progress
from consilience.errors import ConsilienceError, JobBroken, JobOutOfMemory, ServiceError, StorageFull, Unavailable
from consilience.stores.leases import Leases, describe_failure
from consilience.stores.queue import Message
from consilience.tracing.switch import find_problem, is_enabled

#: Timeout of sending spans at the end of a run. It is less than the first retry delay of the exporter, so that a refused
#: connection is not retried.
EXPORT_LIMIT_S = 0.75


class RunSpan:
    """Span of a run, or nothing if tracing is off."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def mark(self, event: str) -> None:
        """Record the start of a stage."""
        if self._span is not None:
            self._span.add_event(event)

    def fail(self, reason: str) -> None:
        """Mark the run as failed."""
        if self._span is not None:
            from opentelemetry.trace import StatusCode  # noqa: PLC0415 - already imported if there is a span

            self._span.set_status(StatusCode.ERROR, reason)
            self._span.set_attribute("error.type", reason)


class Tracing:
    """Makes a span of each run if tracing is on. It holds no thread and no connection, since the worker forks.

    Parameters
    ----------
    queue : str
        Queue of the worker.
    find_parent : callable
        Returns the `traceparent` of the request that submitted a job, by the job's id. Called only if tracing is on.
    environ : mapping
        Environment with the variables of OpenTelemetry.
    """

    def __init__(
        self, queue: str, find_parent: Callable[[str], str | None], environ: Mapping[str, str] = os.environ
    ) -> None:
        self._queue, self._find_parent = queue, find_parent
        self._process: Any = None
        if not is_enabled(environ):
            return
        if obstacle := find_problem(environ):
            structlog.get_logger().warning("tracing_off", detail=obstacle)
            return
        from consilience.tracing.export import describe_process, open_provider  # noqa: PLC0415 - an extra

        self._process = describe_process("worker")
        # Loads the imports of the first provider before any fork.
        open_provider(self._process, wait_limit_s=EXPORT_LIMIT_S).shutdown()

    @contextmanager
    def run(self, message: Message, began_ns: int | None = None) -> Iterator[RunSpan]:
        """Open the span of one run, which is sent at its end. It starts now, or `began_ns` nanoseconds after 1970."""
        if self._process is None:
            yield RunSpan()
            return
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 - an extra
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415 - the same

        from consilience.tracing.export import open_provider  # noqa: PLC0415 - the same

        parent = TraceContextTextMapPropagator().extract({"traceparent": self._find_traceparent(message[0])})
        attributes: dict[str, str | int] = {
            "messaging.operation.type": "process",
            "messaging.destination.name": self._queue,
            "consilience.job": message[0],
            "consilience.delivery": message[1],
        }
        provider = open_provider(self._process, wait_limit_s=EXPORT_LIMIT_S)
        try:
            span = provider.get_tracer("consilience").start_span(
                f"process {self._queue}", parent, SpanKind.CONSUMER, attributes, start_time=began_ns
            )
            try:
                yield RunSpan(span)
            finally:
                span.end()
        finally:
            provider.shutdown()

    def record_end(self, message: Message, began_ns: int, reason: str) -> None:
        """Send the span of a run whose process has died."""
        with self.run(message, began_ns) as span:
            span.fail(reason)

    def _find_traceparent(self, job_id: str) -> str:
        try:
            return self._find_parent(job_id) or ""
        except ServiceError:  # the database is unavailable: start a trace without a parent
            return ""


#: Minimum interval between two writes of the progress. The last progress is written with the result.
PROGRESS_INTERVAL_S = 0.5
#: Seconds for which a claim or a result is retried while the database is unavailable.
RETRY_TIMEOUT_S = 30.0
#: Errors of a database that accepts no writes for now: it does not respond, or its disk is full.
UNAVAILABLE = (Unavailable, StorageFull)

#: Called with a stage, the number of completed steps and their total number.
ReportProgress = Callable[[str, int, int], None]
#: Runs a job and returns its result, or raises a ConsilienceError.
Task = Callable[[Job, ReportProgress], Document]


@dataclass(frozen=True)
class AttemptRunner:
    """Runs the attempts of one worker."""

    leases: Leases
    task: Task
    worker: str
    tracing: Tracing

    def run(self, message: Message) -> int:
        """Run the job once. Return the exit status of the process: 0 if the outcome is recorded."""
        log = structlog.get_logger().bind(job=message[0], delivery=message[1])
        retrying = stamina.RetryingCaller(attempts=None, timeout=RETRY_TIMEOUT_S, wait_max=1.0).on(UNAVAILABLE)
        job = retrying(self.leases.claim, *message, self.worker)
        if job is None:
            log.info("message_stale")
            return 0
        started = time.monotonic()
        log.info("job_started", waited_s=round(max(0.0, (datetime.now(UTC) - job.created_at).total_seconds()), 3))
        with self.tracing.run(message) as span:
            progress = ProgressWriter(self.leases, message, span.mark)
            outcome = self._run_task(job, progress.report, log)
            seconds = round(time.monotonic() - started, 3)
            if isinstance(outcome, Document):
                committed = retrying(self.leases.succeed, *message, outcome, progress.latest)
                log.info("job_succeeded" if committed else "result_fenced", seconds=seconds)
            else:
                committed = retrying(self.leases.fail, *message, describe_failure(outcome))
                log.info("job_failed" if committed else "result_fenced", seconds=seconds, error=outcome.code)
                span.fail(outcome.code)
            if not committed:
                span.fail("fenced")
        return 0

    def _run_task(self, job: Job, report: ReportProgress, log: structlog.BoundLogger) -> Document | ConsilienceError:
        try:
            return self.task(job, report)
        except ConsilienceError as error:
            if isinstance(error, ServiceError):
                log.exception("job_fault")
            return error
        except MemoryError:
            return JobOutOfMemory(
                "The job ran out of memory.",
                value=f"{job.plan.bytes} bytes planned",
                hint="Compare fewer rows or layers, or run the worker with more memory.",
            )
        except Exception as error:
            log.exception("job_fault")
            return JobBroken(
                "The job failed with an unexpected error.",
                value=type(error).__name__,
                hint=f"See the log of the worker for the traceback of {job.id}.",
            )


class ProgressWriter:
    """Records the progress of a run at a limited rate."""

    def __init__(self, leases: Leases, message: Message, mark: Callable[[str], None]) -> None:
        self.latest: Progress | None = None
        self._leases = leases
        self._message = message
        self._mark = mark
        # Nothing is written during the first moments, since most jobs have ended by then.
        self._written = self._stage_started = time.monotonic()
        self._stage_first = 0

    def report(self, stage: str, done: int, total: int) -> None:
        """Update the progress, and write it if the last write was long enough ago."""
        now = time.monotonic()
        if self.latest is None or self.latest.stage != stage:
            self._stage_began, self._stage_first = now, done
            self._mark(stage)
        done_now = done - self._stage_first  # without the steps of an earlier run
        eta_s = (now - self._stage_began) * (total - done) / done_now if done_now > 0 else None
        self.latest = Progress(stage=stage, done=done, total=total, eta_s=eta_s)
        if now - self._written >= PROGRESS_INTERVAL_S:
            self._written = now
            self._write(self.latest)

    def _write(self, progress: Progress) -> None:
        try:
            self._leases.progress(*self._message, progress)
        except UNAVAILABLE as error:  # the job continues without it
            structlog.get_logger().warning("progress_not_written", job=self._message[0], cause=error.value)
