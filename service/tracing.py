"""OpenTelemetry spans of the API: FastAPI creates one for each request, this module one for each job that is sent.

Without `start_tracing`, all functions do nothing: OpenTelemetry has no provider then.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from consilience.tracing.switch import find_problem, is_enabled
from service.metrics import QUIET_ROUTES

#: One span for each request. Logs are off, because they would contain values of invalid requests; metrics are in Prometheus.
TELEMETRY: TelemetryConfig = {
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
    "exclude": lambda scope: scope["path"] in QUIET_ROUTES,
}


def start_tracing(environ: Mapping[str, str] = os.environ) -> None:
    """Export spans if environment variables of OpenTelemetry set an endpoint. A problem is logged and not raised."""
    if not is_enabled(environ):
        return
    if obstacle := find_problem(environ):
        structlog.get_logger().warning("tracing_off", detail=obstacle)
        return
    from consilience.tracing.export import describe_process, open_provider  # noqa: PLC0415 - the packages of an extra

    trace.set_tracer_provider(open_provider(describe_process("api")))


@contextmanager
def start_send_span(job_id: str, queue: str) -> Iterator[Span]:
    """Create a span for sending a job to Redis."""
    tracer = trace.get_tracer("consilience")
    attributes = {
        "messaging.operation.type": "send",
        "messaging.destination.name": queue,
        "consilience.job": job_id,
    }
    with tracer.start_as_current_span(f"send {queue}", kind=SpanKind.PRODUCER, attributes=attributes) as span:
        yield span


def find_parent() -> str | None:
    """Return the current span as W3C Trace Context for the job's record, or None."""
    carrier: dict[str, Any] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def find_trace() -> dict[str, str]:
    """Return the id of the current trace for the log; empty without a trace."""
    context = trace.get_current_span().get_span_context()
    return {"trace_id": trace.format_trace_id(context.trace_id)} if context.is_valid else {}
