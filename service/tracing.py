"""Spans of the API: FastAPI makes one of each request, and this the one of a job that is sent to the workers.

All of it does nothing until `start_tracing` finds that spans are wanted: without a provider, OpenTelemetry's API is empty.
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

#: One span a request. No logs, which would hold errors of validation with their values; figures are for Prometheus.
TELEMETRY: TelemetryConfig = {
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
    "exclude": lambda scope: scope["path"] in QUIET_ROUTES,
}


def start_tracing(environ: Mapping[str, str] = os.environ) -> None:
    """Send spans where the variables of OpenTelemetry name a collector; what prevents it is logged, and no fault."""
    if not is_enabled(environ):
        return
    if obstacle := find_problem(environ):
        structlog.get_logger().warning("tracing_off", detail=obstacle)
        return
    from consilience.tracing.export import (
        describe_process,
        open_provider,
    )

    trace.set_tracer_provider(open_provider(describe_process("api")))


@contextmanager
def start_send_span(job_id: str, queue: str) -> Iterator[Span]:
    """A span over a job's way to Redis."""
    tracer = trace.get_tracer("consilience")
    attributes = {
        "messaging.operation.type": "send",
        "messaging.destination.name": queue,
        "consilience.job": job_id,
    }
    with tracer.start_as_current_span(f"send {queue}", kind=SpanKind.PRODUCER, attributes=attributes) as span:
        yield span


def find_parent() -> str | None:
    """The current span in the form of W3C Trace Context, for the job's row; None where there is none."""
    carrier: dict[str, Any] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def find_trace() -> dict[str, str]:
    """The current trace, for the log; empty where there is none."""
    context = trace.get_current_span().get_span_context()
    return {"trace_id": trace.format_trace_id(context.trace_id)} if context.is_valid else {}
