"""Requests as values, and what answers to them mean: the part of the client that does no I/O.

An `Operation` is a generator: it yields a `Request`, is sent the response, and returns its result.
It is written once; the two clients differ only in how they send.
"""

import uuid
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ValidationError

from consilience import errors
from consilience.contract.problems import Problem
from consilience.errors import ConsilienceError, InputError, ServiceError

Model = TypeVar("Model", bound=BaseModel)
Result = TypeVar("Result")


class Body(Protocol):
    """Bytes to send, which can be read again for another attempt."""

    @property
    def media_type(self) -> str:
        """Content-Type."""

    @property
    def size(self) -> int:
        """Bytes in all."""

    def chunks(self) -> Iterator[bytes]:
        """The bytes from the start, at most 1 MiB at a time."""


@dataclass(frozen=True)
class Request:
    """One HTTP request, not yet sent."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: object = None
    body: Body | None = None
    #: Seconds to let pass before it is sent: how polling backs off.
    after_s: float = 0.0

    @property
    def all_headers(self) -> dict[str, str]:
        """With those that a body needs; the length is known, so nothing is sent in chunked encoding."""
        if self.body is None:
            return dict(self.headers)
        return {**self.headers, "content-type": self.body.media_type, "content-length": str(self.body.size)}


Operation = Generator[Request, httpx2.Response, Result]


def resource(*steps: str) -> str:
    """The path of a resource; an id with a slash in it is no way to another one."""
    return "/".join(["/v1", *(quote(step, safe="") for step in steps)])


def query(**params: object) -> dict[str, str]:
    """The parameters that are given."""
    return {key: str(value) for key, value in params.items() if value is not None}


def submission(path: str, content: Body | dict[str, Any], webhook: str | None = None) -> Request:
    """A wish for a job, whose end the webhook is told of.

    The key makes a repeated POST, after a connection that broke, the same job.
    """
    headers = {"idempotency-key": uuid.uuid4().hex}
    if not isinstance(content, dict):
        return Request("POST", path, headers=headers, body=content)
    told = {} if webhook is None else {"webhook": {"url": webhook}}
    return Request("POST", path, headers=headers, json=content | told)


def fetch(request: Request, kind: type[Model]) -> Operation[Model]:
    """Send `request`; the answer is a document of this kind, or a problem, which is raised."""
    return read(check((yield request)), kind)


def check(response: httpx2.Response) -> httpx2.Response:
    """The response, unless it tells of an error: then the matching class of `consilience.errors` is raised."""
    if response.is_error:
        raise _error(response)
    return response


def read(response: httpx2.Response, kind: type[Model]) -> Model:
    """The document that the response holds."""
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise _stranger(response) from error


def error_of(problem: Problem) -> ConsilienceError:
    """The exception that a problem document stands for, by its code; each of its faults is a note."""
    kind = _kinds().get(problem.code) or (InputError if problem.status < 500 else ServiceError)
    error = kind(problem.detail, value=problem.value, limit=problem.limit, hint=problem.hint, pointer=problem.pointer)
    for fault in problem.errors:
        error.add_note(f"{fault.pointer}: {fault.detail}")
    return error


def _error(response: httpx2.Response) -> ConsilienceError:
    try:
        return error_of(Problem.model_validate_json(response.content))
    except ValidationError:
        return _stranger(response)


def _stranger(response: httpx2.Response) -> ServiceError:
    """Something answers there, but it is not Consilience: a proxy, or a wrong address."""
    return ServiceError(
        f"{response.url} answered {response.status_code} with something that is not Consilience's.",
        value=response.text,
        hint="Check the address of the service.",
    )


@cache
def _kinds() -> dict[str, type[ConsilienceError]]:
    """Every class of the error tree by its code; subclasses that other rooms make for themselves are not in it."""
    kinds = (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ConsilienceError))
    return {kind.code: kind for kind in kinds}
