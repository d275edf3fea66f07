"""The gate before every route: nothing behind it is reached by someone who may not be there.

It is middleware and not a dependency of routes, so that a new route is guarded before anybody thinks of it.
"""

import hashlib
import time
from datetime import UTC, datetime

from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as ASGIScope

from consilience.errors import ConsilienceError, Unauthenticated, Unavailable
from service import problems
from service.deps import ADMIN_PATHS, SAFE_METHODS, Caller, Service, get_service, identify, scope_of
from service.middleware.headers import Doors
from service.middleware.rates import RateExceeded, Rates, Standing
from service.openapi.docs_page import STATIC_PATH
from service.settings import Settings

#: So long after the database last vouched for a caller.
REMEMBERED_S = 900.0
#: The newest are kept; a service has one or two scrapers.
KEPT = 16


class Acquaintances:
    """Callers by the SHA-256 of what they showed: no token is kept."""

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[Caller, float]] = {}

    def note(self, authorization: str | None, caller: Caller) -> None:
        """The database has vouched for this caller now."""
        digest = _digest(authorization)
        self._seen.pop(digest, None)
        self._seen[digest] = caller, time.monotonic()
        while len(self._seen) > KEPT:
            del self._seen[next(iter(self._seen))]

    def forget(self, authorization: str | None) -> None:
        """The database has refused it: it is revoked or has expired."""
        self._seen.pop(_digest(authorization), None)

    def recall(self, authorization: str | None) -> Caller | None:
        """The caller, if that was not long ago and its key has not expired."""
        caller, seen = self._seen.get(_digest(authorization), (None, 0.0))
        if caller is None or time.monotonic() - seen > REMEMBERED_S:
            return None
        expires_at = caller.key.expires_at if caller.key else None
        return None if expires_at and expires_at <= datetime.now(UTC) else caller


def _digest(authorization: str | None) -> bytes:
    return hashlib.sha256(repr(authorization).encode()).digest()


#: What everybody may ask: whether the service lives, and what its contract is.
OPEN_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/openapi.json", "/docs"})


def is_open(path: str) -> bool:
    """Whether `path` needs no API key."""
    return path in OPEN_PATHS or path.startswith(STATIC_PATH)


class Gate:
    """ASGI middleware: finds the caller, counts the request, and lets routes see only what the caller may see."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._required = settings.require_keys
        self._known = Acquaintances()
        self._rates = Rates(settings.rate_limit_per_minute)
        self._doors = Doors(settings.allowed_hosts)

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or is_open(scope["path"]):
            await self.app(scope, receive, send)
            return
        service, standing = get_service(Request(scope)), None
        try:
            caller = await self._identify(service, scope)
            self._check_door(scope, caller)
            standing = self._count(scope, caller)
            caller.check(scope_of(scope["method"], scope["path"]))
        except ConsilienceError as error:
            standing = error.standing if isinstance(error, RateExceeded) else standing
            refusal = await problems.answer_error(Request(scope), error)
            await refusal(scope, receive, _with_headers(send, standing))
            return
        scope["state"]["service"] = service.seen_by(caller)
        await self.app(scope, receive, _with_headers(send, standing))

    async def _identify(self, service: Service, scope: ASGIScope) -> Caller:
        """The caller; for the metrics also one who was let in lately, while the database is away: they say that it is."""
        headers = Headers(scope=scope)
        try:
            caller = await run_in_threadpool(identify, service.stores.keys, headers, required=self._required)
        except Unavailable:
            known = self._known.recall(headers.get("authorization")) if scope["path"] in ADMIN_PATHS else None
            if known is None:
                raise
            return known
        except Unauthenticated:
            self._known.forget(headers.get("authorization"))
            raise
        if scope["path"] in ADMIN_PATHS:
            self._known.note(headers.get("authorization"), caller)
        return caller

    def _check_door(self, scope: ASGIScope, caller: Caller) -> None:
        if caller.key is not None:
            return
        headers = Headers(scope=scope)
        self._doors.check_host(headers)
        if scope["method"] not in SAFE_METHODS:
            self._doors.check_origin(headers)

    def _count(self, scope: ASGIScope, caller: Caller) -> Standing | None:
        if caller.key is None:
            return None
        scope["caller_ids"] = {"key": caller.key.id, "owner": caller.key.owner}  # for the log
        return self._rates.take(caller.key.id)


def _with_headers(send: Send, standing: Standing | None) -> Send:
    if standing is None:
        return send

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(standing.headers())
        await send(message)

    return send_with_headers
