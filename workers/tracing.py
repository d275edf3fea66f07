"""The span of a job's run, in the trace of the request that sent the job.

Without the variables of OpenTelemetry all of it does nothing, and nothing is imported.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog

from consilience.errors import ServiceError
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
