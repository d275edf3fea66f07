"""One attempt at a job, inside its own process: claim it, do it, commit how it ended."""

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
from consilience.tracing.switch import find_obstacle, is_wanted

#: A collector that is away or slow holds a worker up for no longer at the end of a run. It is less than the exporter's first
#: pause, so that a refused connection is given up at once.
EXPORT_LIMIT_S = 0.75


class RunSpan:
    """A span that is being made, or nothing."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def mark(self, event: str) -> None:
        """Note the moment at which something began."""
        if self._span is not None:
            self._span.add_event(event)

    def fail(self, why: str) -> None:
        """The run had no result."""
        if self._span is not None:
            from opentelemetry.trace import StatusCode  # noqa: PLC0415 - loaded already, where there is a span

            self._span.set_status(StatusCode.ERROR, why)
            self._span.set_attribute("error.type", why)


class Tracing:
    """Makes a span of each run, where spans are wanted. It holds no thread and no connection: a worker forks beside it.

    Parameters
    ----------
    queue : str
        The worker's queue.
    find_parent : callable
        From a job's id to the `traceparent` of the request that sent it; asked only where spans are made.
    environ : mapping
        Where OpenTelemetry's variables are.
    """

    def __init__(
        self, queue: str, find_parent: Callable[[str], str | None], environ: Mapping[str, str] = os.environ
    ) -> None:
        self._queue, self._find_parent = queue, find_parent
        self._process: Any = None
        if not is_wanted(environ):
            return
        if obstacle := find_obstacle(environ):
            structlog.get_logger().warning("tracing_off", detail=obstacle)
            return
        from consilience.tracing.export import describe, open_provider  # noqa: PLC0415 - the packages of an extra

        self._process = describe("worker")
        # Loads what the first provider loads, before any fork.
        open_provider(self._process, wait_limit_s=EXPORT_LIMIT_S).shutdown()

    @contextmanager
    def run(self, message: Message, began_ns: int | None = None) -> Iterator[RunSpan]:
        """A span of one run, sent at its end; it began now, or `began_ns` nanoseconds after 1970."""
        if self._process is None:
            yield RunSpan()
            return
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 - an extra
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415 - the same

        from consilience.tracing.export import open_provider  # noqa: PLC0415 - the same

        parent = TraceContextTextMapPropagator().extract({"traceparent": self._ask_parent(message[0])})
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

    def note_end(self, message: Message, began_ns: int, why: str) -> None:
        """The span of a run whose process can tell nothing any more."""
        with self.run(message, began_ns) as span:
            span.fail(why)

    def _ask_parent(self, job_id: str) -> str:
        try:
            return self._find_parent(job_id) or ""
        except ServiceError:  # the database is away: a trace of its own is better than none
            return ""


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
