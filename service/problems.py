"""Errors on the wire: the one place that knows status codes."""

import math
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, BeforeValidator, ValidationError
from pydantic_core import PydanticUndefined
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from consilience import errors
from consilience.contract.maps import MAPS
from consilience.contract.metrics import METRICS
from consilience.contract.pointers import Location, describe_unknown, find_pointer, sentence, suggest
from consilience.contract.problems import PROBLEM_MEDIA_TYPE, TYPE_PREFIX, Fault, Problem
from consilience.errors import ConsilienceError, InvalidRequest, NotFound
from consilience.quoting import QUOTED_LENGTH, quote
from service.middleware.headers import HEADERS

#: Faults listed in one problem.
FAULTS_LIMIT = 20
LISTS = {list, tuple}
#: The unions whose members one field tells apart: what its words name, and the members by them.
TAGGED: dict[str, tuple[str, dict[str, type[BaseModel]]]] = {
    "metric": ("metric", {**METRICS}),
    "kind": ("kind of map", {**MAPS}),
}


class InvalidFields(InvalidRequest):
    """A request with one or more faults, each with its place."""

    def __init__(self, faults: Sequence[Fault], hint: str | None = None) -> None:
        first = faults[0]
        more = f" (and {len(faults) - 1} more, see `errors`)" if len(faults) > 1 else ""
        super().__init__(first.detail + more, value=first.value, hint=hint, pointer=first.pointer)
        self.faults = tuple(faults[:FAULTS_LIMIT])


def explain(error: ValidationError, body: object, model: type[BaseModel]) -> InvalidFields:
    """The faults of `body`, which is not a `model`."""
    details = error.errors(include_url=False, include_context=True)
    return InvalidFields(_merge(_fault(detail, body, model) for detail in details if not _is_consequence(detail)))


def _is_consequence(detail: Any) -> bool:
    """Whether a list is said to be too short only because of the faults of its entries, which pydantic leaves out."""
    given = detail["input"]
    return detail["type"] == "too_short" and isinstance(given, list) and len(given) >= detail["ctx"]["min_length"]


def _fault(detail: Any, body: object, model: type[BaseModel]) -> Fault:
    location = detail["loc"]
    pointer = find_pointer(location, body, missing=detail["type"] == "missing")
    value = None if detail["type"] == "missing" else quote(detail["input"])
    if detail["type"] == "extra_forbidden":
        name, allowed = str(location[-1]), allowed_fields(model, location[:-1], body)
        return Fault(pointer=pointer, value=name, detail=describe_unknown("field", name, allowed))
    if detail["type"] == "union_tag_invalid":
        word = str(detail["ctx"]["tag"])
        noun, kinds = TAGGED[_find_tag(model, location, body)]
        return Fault(pointer=pointer, value=word, detail=describe_unknown(noun, word, tuple(kinds)))
    if detail["type"] in {"union_tag_not_found", "model_attributes_type"}:
        tag = _find_tag(model, location, body)
        forms = f"This must be the name of a {TAGGED[tag][0]} or a JSON object with `{tag}` and its options."
        return Fault(pointer=pointer, value=value, detail=forms)
    if detail["type"] in {"too_short", "too_long"}:
        return Fault(pointer=pointer, value=value, detail=_length(**detail["ctx"]))
    if detail["type"] in {"literal_error", "model_type", "tuple_type"}:
        return Fault(
            pointer=pointer,
            value=value,
            detail=_forms(model, location, body, detail["input"]) or sentence(detail["msg"]),
        )
    return Fault(pointer=pointer, value=value, detail=sentence(detail["msg"]))


def _find_tag(model: type[BaseModel], location: Location, body: object) -> str:
    """The field that tells the members of the union at `location` apart."""
    members = list(_members(_annotation(model, location, body)))
    return next(tag for tag, (_, kinds) in TAGGED.items() if any(kind in members for kind in kinds.values()))


def _length(
    *, actual_length: int | None, min_length: int | None = None, max_length: int | None = None, **_kind: object
) -> str:
    """How many entries there may be; pydantic's own words call a list what Python makes of it."""
    limit = f"at most {max_length}" if min_length is None else f"at least {min_length}"
    entries = "entry" if (max_length or min_length) == 1 else "entries"
    return f"There must be {limit} {entries}, not {'more' if actual_length is None else actual_length}."


def _forms(model: type[BaseModel], location: Location, body: object, given: object) -> str:
    """What may stand where something else was given: words, a list, an object; empty where that cannot be told."""
    members = list(_members(_annotation(model, location, body)))
    words = [word for each in members if get_origin(each) is Literal for word in get_args(each)]
    fields = dict.fromkeys(_fields(members))
    forms = list(map(repr, words))
    if any(get_origin(each) in LISTS for each in members):
        forms.append("a list")
    if fields:
        forms.append(f"a JSON object with {', '.join(fields)}")
    if not forms:
        return ""
    allowed = " or ".join(filter(None, (", ".join(forms[:-1]), forms[-1])))
    return f"This must be {allowed}.{suggest(given, words)}"


def _annotation(model: type[BaseModel], location: Location, body: object) -> Any:
    """The type of the value at `location`, or of the scalar above it that was taken for an object."""
    annotation: Any = model
    for step in location:
        if isinstance(body, dict):
            body = body.get(step, body)
        elif isinstance(body, list):
            body = body[step] if isinstance(step, int) and step < len(body) else body
        else:
            break
        annotation = _step(annotation, step)
    return annotation


def _step(annotation: Any, step: int | str) -> Any:
    """One step inside; the steps by which pydantic tells a union's members apart lead nowhere."""
    members = list(_members(annotation))
    for member in members:
        if get_origin(member) is dict:  # its keys are the caller's words, whatever they say
            return get_args(member)[1]
    for _, kinds in TAGGED.values():
        if kinds.get(str(step)) in members:
            return kinds[str(step)]
    for member in members:
        if isinstance(step, int) and get_origin(member) in LISTS:
            return get_args(member)[0]
        if _is_model(member) and step in member.model_fields:
            field = member.model_fields[str(step)]
            # What stands for an object, such as a bare word, is said by the validator that reads it.
            inputs = (each.json_schema_input_type for each in field.metadata if isinstance(each, BeforeValidator))
            return next((each for each in inputs if each is not PydanticUndefined), field.annotation)
    return annotation


def _members(annotation: Any) -> Iterator[Any]:
    """The members of a union, however deep."""
    if get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in {Union, UnionType}:
        for part in get_args(annotation):
            yield from _members(part)
    else:
        yield annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def allowed_fields(model: type[BaseModel], location: Location, body: object) -> tuple[str, ...]:
    """The fields of the object at `location` inside `model`, of which `body` should be one."""
    return tuple(dict.fromkeys(_fields(_members(_annotation(model, location, body)))))


def _fields(members: Iterable[Any]) -> Iterator[str]:
    for member in members:
        if _is_model(member):
            yield from member.model_fields


def _merge(faults: Iterable[Fault]) -> list[Fault]:
    """One fault a place: each member of a union that does not fit complains for itself."""
    merged: dict[str, Fault] = {}
    for fault in faults:
        known = merged.get(fault.pointer)
        if known is None:
            merged[fault.pointer] = fault
        elif fault.detail not in known.detail:
            merged[fault.pointer] = known.model_copy(update={"detail": f"{known.detail} Or: {fault.detail}"})
    return list(merged.values())


#: The status of each error; a class that is not listed has that of its base.
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
#: Seconds after which a client may ask again.
RETRY_AFTER_S = 1
#: What `Allow` can name.
METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
#: The client is gone: nobody reads this, it stands in the log.
CLIENT_CLOSED = 499


def status_of(error: type[ConsilienceError]) -> HTTPStatus:
    """The HTTP status of a class of errors."""
    return next(STATUS[base] for base in error.__mro__ if base in STATUS)


def describe(*kinds: type[ConsilienceError]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can answer these errors."""
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
    """An example of the problem document of each error, by its code."""
    problems = [Problem.of(kind(f"{kind.title}."), status_of(kind)) for kind in _error_classes(ConsilienceError)]
    return {
        each.code: {"summary": each.title, "value": each.model_dump(mode="json", exclude_defaults=True)}
        for each in [*problems, TIMEOUT]
    }


def _error_classes(base: type[ConsilienceError]) -> Iterator[type[ConsilienceError]]:
    """`base` and its subclasses that have a code of their own."""
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
STALLED: dict[int | str, dict[str, Any]] = {
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
    """Make every error of `app` a problem document."""
    app.add_exception_handler(ConsilienceError, answer_error)
    app.add_exception_handler(RequestValidationError, _answer_parameters)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(Exception, _answer_unforeseen)


def respond(request: Request, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """A problem document as a response."""
    request_id = request.scope.get("request_id")
    document = problem.model_copy(update={"request_id": request_id}).model_dump_json(exclude_none=True)
    extra = {"Retry-After": str(RETRY_AFTER_S)} if problem.retryable else {}
    return Response(document, problem.status, headers={**extra, **(headers or {})}, media_type=PROBLEM_MEDIA_TYPE)


async def answer_error(request: Request, error: Exception) -> Response:
    """An error of ours as a problem document."""
    assert isinstance(error, ConsilienceError)  # noqa: S101 - Starlette's signature is wider than its promise
    problem = Problem.of(error, status_of(type(error)))
    if isinstance(error, InvalidFields):
        problem = problem.model_copy(update={"errors": error.faults})
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        structlog.get_logger().error("request_failed", code=error.code, detail=error.detail)
    return respond(request, problem, _headers(request, error))


def _headers(request: Request, error: ConsilienceError) -> dict[str, str]:
    """What HTTP wants to be said of an error in header fields (RFC 6750 for keys)."""
    if isinstance(error, errors.TooManyRequests):
        return {"Retry-After": str(math.ceil(error.after_s))}
    if isinstance(error, errors.Unauthenticated):
        wrong = ', error="invalid_token"' if "authorization" in request.headers else ""
        return {"WWW-Authenticate": f'Bearer realm="consilience"{wrong}'}
    if isinstance(error, errors.Forbidden):
        return {"WWW-Authenticate": f'Bearer realm="consilience", error="insufficient_scope", scope="{error.limit}"'}
    return {}


async def _answer_parameters(request: Request, error: Exception) -> Response:
    """Path, query and header parameters; bodies are read by `service.request_body`."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    details = error.errors()[:FAULTS_LIMIT]
    if any(detail["loc"][0] == "path" for detail in details):
        return await answer_error(request, NotFound("There is no such resource.", value=details[0]["input"]))
    faults = [
        Fault(
            pointer=str(detail["loc"][-1]),
            detail=sentence(detail["msg"]),
            value=None if detail["type"] == "missing" else quote(detail["input"]),
        )
        for detail in details
    ]
    return await answer_error(request, InvalidFields(faults))


async def _answer_http(request: Request, error: Exception) -> Response:
    """What the framework refuses: unknown routes, other methods."""
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    status = HTTPStatus(error.status_code)
    problem = Problem(
        type=TYPE_PREFIX + status.phrase.lower().replace(" ", "-"),
        title=status.phrase,
        status=status,
        detail=f"{request.method} {request.url.path[:QUOTED_LENGTH]}: {error.detail}.",
        value=request.method if status == HTTPStatus.METHOD_NOT_ALLOWED else None,
        hint="The routes are listed at /openapi.json.",
    )
    headers = dict(error.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    return respond(request, problem, headers)


def _allowed_methods(request: Request) -> list[str]:
    """Of all routes with this path: the framework names those of the first alone."""
    routes, scope = request.app.routes, dict(request.scope)

    def is_served(method: str) -> bool:
        return any(route.matches({**scope, "method": method})[0] == Match.FULL for route in routes)

    return list(filter(is_served, METHODS))


async def _answer_nobody(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED)


async def _answer_unforeseen(request: Request, _error: Exception) -> Response:
    """The trace goes to the log, never to the caller."""
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    problem = Problem(
        type=TYPE_PREFIX + "internal-error",
        title="The service met an unforeseen error",
        status=status,
        detail="The service met an unforeseen error; its log has the trace.",
        hint="Report it with the request id.",
    )
    # This answer is made outside of all middleware.
    return respond(request, problem, {**HEADERS, "X-Request-ID": str(request.scope.get("request_id", ""))})
