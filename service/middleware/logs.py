"""JSON logs, with one line for each request. Bodies and values of headers are never logged."""

import logging
import re
import sys
import time
import uuid
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import QUIET_ROUTES, HttpMetrics, known_method
from service.tracing import find_trace

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: Tracebacks without local variables, which can contain passwords and user data.
TRACEBACKS = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def configure_logging(level: str) -> None:
    """Write all logs, including those of libraries, as JSON lines to standard error."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.ExceptionRenderer(TRACEBACKS),
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # no line for each migration step


@dataclass
class RequestOutcome:
    """Status of a response, and the number of bytes received and sent."""

    status: int = 500
    bytes_in: int = 0
    bytes_out: int = 0


class RequestLogMiddleware:
    """ASGI middleware that gives each request an id and logs its outcome."""

    def __init__(self, app: ASGIApp, http_metrics: HttpMetrics) -> None:
        self.app, self._http_metrics = app, http_metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["request_id"] = request_id = _choose_id(Headers(scope=scope).get("x-request-id"))
        outcome, started = RequestOutcome(), time.perf_counter()

        async def receive_counted() -> Message:
            message = await receive()
            outcome.bytes_in += len(message.get("body", b""))
            return message

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                outcome.status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            outcome.bytes_out += len(message.get("body", b""))
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive_counted, send_with_id)
            finally:
                seconds = time.perf_counter() - started
                self._http_metrics.count(scope["method"], _route(scope), outcome.status, seconds)
                _log(scope, outcome, seconds)


def _choose_id(given: str | None) -> str:
    return given if given and REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _route(scope: Scope) -> str | None:
    """Return the path template of the route, or None if the request did not reach a route."""
    return getattr(scope.get("route"), "path", None)


def _log(scope: Scope, outcome: RequestOutcome, seconds: float) -> None:
    route = _route(scope)
    if route in QUIET_ROUTES and outcome.status < 400:
        return
    structlog.get_logger().info(
        "request",
        method=known_method(scope["method"]),
        route=route,
        duration_ms=round(seconds * 1000, 2),
        **asdict(outcome),
        **scope.get("principal_ids", {}),
        **find_trace(),
    )
