"""HTTP requests as values, their retries, and the documents and errors that responses hold.

Nothing here opens a connection: the two clients send the requests.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import httpx2
from pydantic import BaseModel, ValidationError

from consilience import errors
from consilience.contract.keys import TOKEN
from consilience.contract.problems import Problem
from consilience.errors import ConsilienceError, InputError, InvalidRequest, ServiceError, Unreachable

Model = TypeVar("Model", bound=BaseModel)

DEFAULT_URL = "http://127.0.0.1:8000"
#: Statuses after which the same request is sent again later: too many requests, service unavailable.
RETRY_STATUSES = frozenset({429, 503})
CONNECT_TIMEOUT_S = 5.0
#: Environment variable of the API key. The command line takes no key: every user of a machine can read command lines.
KEY_VARIABLE = "CONSILIENCE_API_KEY"


class Body(Protocol):
    """Bytes of a request, readable again for another attempt."""

    @property
    def media_type(self) -> str:
        """Value of the header Content-Type."""

    @property
    def size(self) -> int:
        """Total number of bytes."""

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes from the start, at most 1 MiB at a time."""


@dataclass(frozen=True)
class PreparedRequest:
    """HTTP request that has not been sent."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: object = None
    body: Body | None = None
    #: Seconds to wait before sending; polling uses it.
    after_s: float = 0.0

    @property
    def all_headers(self) -> dict[str, str]:
        """Headers with those of the body; its length is known, so chunked encoding is not needed."""
        if self.body is None:
            return dict(self.headers)
        return {**self.headers, "content-type": self.body.media_type, "content-length": str(self.body.size)}


class RetryLater(Exception):
    """A response with a status of RETRY_STATUSES; carries it through the retry loop and never leaves the client."""

    def __init__(self, response: httpx2.Response) -> None:
        super().__init__(response.status_code)
        self.response = response


def resource(*steps: str) -> str:
    """Return the path of a resource; a slash in an id is escaped and cannot lead to another resource."""
    return "/".join(["/v1", *(quote(step, safe="") for step in steps)])


def get(*steps: str, **params: object) -> PreparedRequest:
    """Return a GET of a resource with the query parameters that are not None."""
    return PreparedRequest(
        "GET", resource(*steps), {key: str(value) for key, value in params.items() if value is not None}
    )


def submission(path: str, content: Body | dict[str, Any], webhook: str | None = None) -> PreparedRequest:
    """Return a POST that creates a job.

    The idempotency key makes a repeated POST, after a broken connection, return the same job.
    """
    headers = {"idempotency-key": uuid.uuid4().hex}
    if not isinstance(content, dict):
        return PreparedRequest("POST", path, headers=headers, body=content)
    fields = {} if webhook is None else {"webhook": {"url": webhook}}
    return PreparedRequest("POST", path, headers=headers, json=content | fields)


async def stream_body(body: Body) -> AsyncIterator[bytes]:
    """Yield the body's chunks, each read in a thread so that a slow disk does not block the event loop."""
    chunks = body.chunks()
    while chunk := await asyncio.to_thread(next, chunks, b""):
        yield chunk


def read_body(body: Body) -> Iterator[bytes]:
    """Yield the body's chunks."""
    return body.chunks()


def check_url(url: str) -> str:
    """Return the service's URL. Raises InvalidRequest if it is not an HTTP address."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise InvalidRequest(
            f"The server address must be an http or https URL; got {url!r}.",
            value=url,
            hint="Use http://HOST:PORT, for example http://127.0.0.1:8000.",
        )
    return url


def add_key(headers: Mapping[str, str] | None, api_key: str | None) -> dict[str, str]:
    """Return the headers with the API key; None takes the key of the environment, an empty one sends none.

    Raises InvalidRequest if the key is malformed. The HTTP library would refuse it too, but quote it.
    """
    key = os.environ.get(KEY_VARIABLE) if api_key is None else api_key
    if not key:
        return dict(headers or {})
    if not TOKEN.fullmatch(key):
        raise InvalidRequest(
            "The API key is malformed.",
            hint=f"A key starts with csl_; pass it as api_key or in the environment variable {KEY_VARIABLE}.",
        )
    return {**(headers or {}), "authorization": f"Bearer {key}"}


def timeouts(timeout_s: float) -> httpx2.Timeout:
    """Return the timeouts of a request: a short one to connect, `timeout_s` for everything else."""
    return httpx2.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))


def retries(retry_timeout_s: float) -> dict[str, Any]:
    """Return stamina's arguments to retry for `retry_timeout_s` seconds, after the pauses that the service names.

    Every call can be repeated safely: uploads are identified by their content, jobs by an idempotency key.
    """

    def pause(error: Exception) -> bool | float:
        if isinstance(error, RetryLater):
            wait_s = _retry_after(error.response)
            return wait_s <= retry_timeout_s and (wait_s or True)
        return isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.UnsupportedProtocol)

    return {
        "on": pause,
        "attempts": None,
        "timeout": retry_timeout_s,
        "wait_initial": 0.05,
        "wait_max": 2.0,
        "wait_jitter": 0.05,
    }


def raise_for_retry(response: httpx2.Response) -> httpx2.Response:
    """Return the response. Raises RetryLater if its status is one of RETRY_STATUSES."""
    if response.status_code in RETRY_STATUSES:
        raise RetryLater(response)
    return response


def unreachable(base_url: httpx2.URL, request: PreparedRequest, error: httpx2.TransportError) -> Unreachable:
    """Return the error of a request whose every attempt failed."""
    return Unreachable(
        f"The service at {base_url} did not respond to {request.method} {request.path}: "
        f"{str(error) or type(error).__name__}.",
        value=str(base_url),
        hint="Check the address, or start a service with `consilience serve`.",
    )


def check(response: httpx2.Response) -> httpx2.Response:
    """Return the response. Raises the class of `consilience.errors` of a response that is an error."""
    if response.is_error:
        raise _error(response)
    return response


def read(response: httpx2.Response, kind: type[Model]) -> Model:
    """Return the document that the response holds."""
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise _unexpected(response) from error


def error_of(problem: Problem) -> ConsilienceError:
    """Return the exception of a problem document, by its code; each validation error becomes a note."""
    kind = _error_classes().get(problem.code) or (InputError if problem.status < 500 else ServiceError)
    error = kind(problem.detail, value=problem.value, limit=problem.limit, hint=problem.hint, pointer=problem.pointer)
    for fault in problem.errors:
        error.add_note(f"{fault.pointer}: {fault.detail}")
    return error


def _error(response: httpx2.Response) -> ConsilienceError:
    try:
        return error_of(Problem.model_validate_json(response.content))
    except ValidationError:
        return _unexpected(response)


def _unexpected(response: httpx2.Response) -> ServiceError:
    """Return the error of a response that no Consilience service sends, such as a proxy's page."""
    return ServiceError(
        f"The response {response.status_code} from {response.url} is not from a Consilience service.",
        value=response.text,
        hint="Check the server address.",
    )


@cache
def _error_classes() -> dict[str, type[ConsilienceError]]:
    """Return the classes of `consilience.errors` by code, without subclasses that other packages define."""
    kinds = (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ConsilienceError))
    return {kind.code: kind for kind in kinds}


def _retry_after(response: httpx2.Response) -> float:
    """Return the header Retry-After in seconds; 0 if it is missing or a date, which the service never sends."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdigit() else 0.0
