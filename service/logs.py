"""One JSON line a request, and everything else in the same form. Never a body, never a header's value."""

import logging
import re
import sys
import time
import uuid
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: These are asked every few seconds and say nothing when they go well.
QUIET_ROUTES = frozenset({"/livez", "/readyz", "/healthz"})


#: Traces without the frames' variables, which hold passwords and users' data.
TRACES = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def configure_logging(level: str) -> None:
    """Write JSON lines to standard error: ours, uvicorn's and those of every library."""
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
                structlog.processors.ExceptionRenderer(TRACES),
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # a line for each migration step helps nobody


class RequestLog:
    """ASGI middleware: gives each request an id and logs how it went."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["request_id"] = request_id = _choose_id(Headers(scope=scope).get("x-request-id"))
        started, status = time.perf_counter(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_id)
            finally:
                _log(scope, status, time.perf_counter() - started)


def _choose_id(given: str | None) -> str:
    return given if given and REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _log(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", None)
    if route in QUIET_ROUTES and status < 400:
        return
    key = {"key": scope["key_id"]} if "key_id" in scope else {}  # the key's public id
    structlog.get_logger().info(
        "request", method=scope["method"], route=route, status=status, duration_ms=round(seconds * 1000, 2), **key
    )
