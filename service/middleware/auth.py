"""Authentication of every request, before any route.

Authentication is middleware and not a dependency of routes, so that every new route is protected by default.
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
from service.deps import ADMIN_PATHS, SAFE_METHODS, Principal, ServiceContext, authenticate, get_service, required_scope
from service.middleware.headers import HostCheck
from service.middleware.rates import RateExceeded, RateLimiter, RateLimitState
from service.openapi.docs_page import STATIC_PATH
from service.settings import ServiceSettings

#: Seconds for which an authenticated principal is cached.
CACHE_TTL_S = 900.0
#: Number of cached principals; a service has one or two scrapers.
CACHE_SIZE = 16


class AuthenticationCache:
    """Cache of principals by the SHA-256 of their `Authorization` header. No token is stored."""

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[Principal, float]] = {}

    def add(self, authorization: str | None, principal: Principal) -> None:
        """Cache a principal that the database has just authenticated."""
        digest = _digest(authorization)
        self._seen.pop(digest, None)
        self._seen[digest] = principal, time.monotonic()
        while len(self._seen) > CACHE_SIZE:
            del self._seen[next(iter(self._seen))]

    def discard(self, authorization: str | None) -> None:
        """Remove a key that the database has refused, because it is revoked or expired."""
        self._seen.pop(_digest(authorization), None)

    def find(self, authorization: str | None) -> Principal | None:
        """Return the cached principal, or None if the entry or its key has expired."""
        principal, seen = self._seen.get(_digest(authorization), (None, 0.0))
        if principal is None or time.monotonic() - seen > CACHE_TTL_S:
            return None
        expires_at = principal.key.expires_at if principal.key else None
        return None if expires_at and expires_at <= datetime.now(UTC) else principal


def _digest(authorization: str | None) -> bytes:
    return hashlib.sha256(repr(authorization).encode()).digest()


#: Paths that need no API key: health checks and the API documentation.
OPEN_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/openapi.json", "/docs"})


def is_public(path: str) -> bool:
    """Return whether `path` needs no API key."""
    return path in OPEN_PATHS or path.startswith(STATIC_PATH)


class AuthenticationMiddleware:
    """ASGI middleware that authenticates, applies the rate limit and restricts routes to the principal's records."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self.app = app
        self._required = settings.require_keys
        self._cache = AuthenticationCache()
        self._rate_limiter = RateLimiter(settings.rate_limit_per_minute)
        self._host_check = HostCheck(settings.allowed_hosts)

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or is_public(scope["path"]):
            await self.app(scope, receive, send)
            return
        service, state = get_service(Request(scope)), None
        try:
            principal = await self._identify(service, scope)
            self._check_host(scope, principal)
            state = self._count(scope, principal)
            principal.check(required_scope(scope["method"], scope["path"]))
        except ConsilienceError as error:
            state = error.state if isinstance(error, RateExceeded) else state
            refusal = await problems.respond_with_error(Request(scope), error)
            await refusal(scope, receive, _with_headers(send, state))
            return
        scope["state"]["service"] = service.restricted_to(principal)
        await self.app(scope, receive, _with_headers(send, state))

    async def _identify(self, service: ServiceContext, scope: ASGIScope) -> Principal:
        """Authenticate. If the database is unavailable, `/metrics`, which reports this, accepts a cached principal."""
        headers = Headers(scope=scope)
        try:
            principal = await run_in_threadpool(authenticate, service.stores.keys, headers, required=self._required)
        except Unavailable:
            known = self._cache.find(headers.get("authorization")) if scope["path"] in ADMIN_PATHS else None
            if known is None:
                raise
            return known
        except Unauthenticated:
            self._cache.discard(headers.get("authorization"))
            raise
        if scope["path"] in ADMIN_PATHS:
            self._cache.add(headers.get("authorization"), principal)
        return principal

    def _check_host(self, scope: ASGIScope, principal: Principal) -> None:
        if principal.key is not None:
            return
        headers = Headers(scope=scope)
        self._host_check.check_host(headers)
        if scope["method"] not in SAFE_METHODS:
            self._host_check.check_origin(headers)

    def _count(self, scope: ASGIScope, principal: Principal) -> RateLimitState | None:
        if principal.key is None:
            return None
        scope["principal_ids"] = {"key": principal.key.id, "owner": principal.key.owner}  # for the log
        return self._rate_limiter.take(principal.key.id)


def _with_headers(send: Send, state: RateLimitState | None) -> Send:
    if state is None:
        return send

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(state.headers())
        await send(message)

    return send_with_headers
