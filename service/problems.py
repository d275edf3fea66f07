"""Conversion of errors to problem documents, and the HTTP status of each error."""

import math
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from consilience import errors
from consilience.contract.pointers import to_sentence
from consilience.contract.problems import PROBLEM_MEDIA_TYPE, TYPE_PREFIX, FieldError, Problem
from consilience.contract.validation import FAULTS_LIMIT, InvalidFields
from consilience.errors import ConsilienceError, NotFound
from consilience.quoting import QUOTED_LENGTH, quote
from service.middleware.headers import SECURITY_HEADERS

#: HTTP status of each error class; a class that is not listed has the status of its base class.
STATUS: dict[type[ConsilienceError], HTTPStatus] = {
    errors.ConsilienceError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnsupportedFormat: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.ModelNotAllowed: HTTPStatus.FORBIDDEN,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.StateError: HTTPStatus.CONFLICT,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Expired: HTTPStatus.GONE,
    errors.KeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.WrongHost: HTTPStatus.MISDIRECTED_REQUEST,
    errors.WrongOrigin: HTTPStatus.FORBIDDEN,
    errors.TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
    errors.QuotaExceeded: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.ServiceError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.MissingExtra: HTTPStatus.NOT_IMPLEMENTED,
    errors.StartupError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
#: Seconds after which a client can retry.
RETRY_AFTER_S = 1
#: Methods that the header `Allow` can contain.
METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
#: Status in the log for a client that closed the connection before the response.
CLIENT_CLOSED = 499


def status_of(error: type[ConsilienceError]) -> HTTPStatus:
    """Return the HTTP status of an error class."""
    return next(STATUS[base] for base in error.__mro__ if base in STATUS)


def error_responses(*kinds: type[ConsilienceError]) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of a route that can raise these errors."""
    by_status: dict[int, list[type[ConsilienceError]]] = {}
    for kind in kinds:
        by_status.setdefault(status_of(kind), []).append(kind)
    return {status: _describe_status(members) for status, members in sorted(by_status.items())}


def _describe_status(kinds: list[type[ConsilienceError]]) -> dict[str, Any]:
    titles = {kind.code: kind.title for kind in kinds}
    media = {
        "schema": {"$ref": "#/components/schemas/Problem"},
        "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in titles},
    }
    return {
        "description": "; ".join(f"`{code}`: {title}" for code, title in titles.items()),
        "content": {PROBLEM_MEDIA_TYPE: media},
    }


def problem_examples() -> dict[str, dict[str, Any]]:
    """Return an example of the problem document of each error, by its code."""
    problems = [Problem.of(kind(f"{kind.title}."), status_of(kind)) for kind in _error_classes(ConsilienceError)]
    return {
        each.code: {"summary": each.title, "value": each.model_dump(mode="json", exclude_defaults=True)}
        for each in [*problems, TIMEOUT]
    }


def _error_classes(base: type[ConsilienceError]) -> Iterator[type[ConsilienceError]]:
    """Yield `base` and its subclasses that define their own code."""
    if "code" in vars(base):
        yield base
    for kind in base.__subclasses__():
        yield from _error_classes(kind)


TIMEOUT = Problem(
    type=f"{TYPE_PREFIX}request-timeout",
    title="The body was sent too slowly",
    status=HTTPStatus.REQUEST_TIMEOUT,
    detail="The body was sent too slowly, or its end did not arrive.",
)
#: Response of routes that read a body themselves, besides the errors of ConsilienceError.
TIMEOUT_RESPONSE: dict[int | str, dict[str, Any]] = {
    TIMEOUT.status: {
        "description": f"`{TIMEOUT.code}`: {TIMEOUT.title}",
        "content": {
            PROBLEM_MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {TIMEOUT.code: {"$ref": f"#/components/examples/{TIMEOUT.code}"}},
            }
        },
    }
}


def install(app: FastAPI) -> None:
    """Install exception handlers that respond with problem documents."""
    app.add_exception_handler(ConsilienceError, respond_with_error)
    app.add_exception_handler(RequestValidationError, _respond_to_parameters)
    app.add_exception_handler(HTTPException, _respond_to_http_error)
    app.add_exception_handler(ClientDisconnect, _respond_to_disconnect)
    app.add_exception_handler(Exception, _respond_to_unexpected)


def respond(request: Request, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """Return a problem document as a response."""
    request_id = request.scope.get("request_id")
    document = problem.model_copy(update={"request_id": request_id}).model_dump_json(exclude_none=True)
    extra = {"Retry-After": str(RETRY_AFTER_S)} if problem.retryable else {}
    return Response(document, problem.status, headers={**extra, **(headers or {})}, media_type=PROBLEM_MEDIA_TYPE)


async def respond_with_error(request: Request, error: Exception) -> Response:
    """Return the problem document of a ConsilienceError."""
    assert isinstance(error, ConsilienceError)  # noqa: S101 - Starlette's signature is wider than its promise
    problem = Problem.of(error, status_of(type(error)))
    if isinstance(error, InvalidFields):
        problem = problem.model_copy(update={"errors": error.faults})
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        structlog.get_logger().error("request_failed", code=error.code, detail=error.detail)
    return respond(request, problem, _headers(request, error))


def _headers(request: Request, error: ConsilienceError) -> dict[str, str]:
    """Return the headers of an error, such as `Retry-After` and `WWW-Authenticate` (RFC 6750)."""
    if isinstance(error, errors.TooManyRequests):
        return {"Retry-After": str(math.ceil(error.after_s))}
    if isinstance(error, errors.Unauthenticated):
        wrong = ', error="invalid_token"' if "authorization" in request.headers else ""
        return {"WWW-Authenticate": f'Bearer realm="consilience"{wrong}'}
    if isinstance(error, errors.Forbidden):
        return {"WWW-Authenticate": f'Bearer realm="consilience", error="insufficient_scope", scope="{error.limit}"'}
    return {}


async def _respond_to_parameters(request: Request, error: Exception) -> Response:
    """Respond to invalid path, query and header parameters; `service.request_body` reads bodies."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    details = error.errors()[:FAULTS_LIMIT]
    if any(detail["loc"][0] == "path" for detail in details):
        return await respond_with_error(
            request, NotFound("There is no resource with this id.", value=details[0]["input"])
        )
    faults = [
        FieldError(
            pointer=str(detail["loc"][-1]),
            detail=to_sentence(detail["msg"]),
            value=None if detail["type"] == "missing" else quote(detail["input"]),
        )
        for detail in details
    ]
    return await respond_with_error(request, InvalidFields(faults))


async def _respond_to_http_error(request: Request, error: Exception) -> Response:
    """Respond to errors of the framework: unknown routes, other methods and timeouts."""
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    status = HTTPStatus(error.status_code)
    problem = Problem(
        type=TYPE_PREFIX + status.phrase.lower().replace(" ", "-"),
        title=status.phrase,
        status=status,
        detail=f"{request.method} {request.url.path[:QUOTED_LENGTH]}: {error.detail}.",
        value=request.method if status == HTTPStatus.METHOD_NOT_ALLOWED else None,
        hint="See /openapi.json for all routes.",
    )
    headers = dict(error.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    return respond(request, problem, headers)


def _allowed_methods(request: Request) -> list[str]:
    """Return the methods of all routes with this path; the framework lists only those of the first route."""
    routes, scope = request.app.routes, dict(request.scope)

    def is_served(method: str) -> bool:
        return any(route.matches({**scope, "method": method})[0] == Match.FULL for route in routes)

    return list(filter(is_served, METHODS))


async def _respond_to_disconnect(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED)


async def _respond_to_unexpected(request: Request, _error: Exception) -> Response:
    """Respond to an unexpected exception. Its traceback is logged and never sent."""
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    problem = Problem(
        type=TYPE_PREFIX + "internal-error",
        title="Internal error of the service",
        status=status,
        detail="The service failed with an unexpected error; its log contains the traceback.",
        hint="Report this error with its request id to the operator.",
    )
    # This response is sent outside of all middleware.
    return respond(request, problem, {**SECURITY_HEADERS, "X-Request-ID": str(request.scope.get("request_id", ""))})
