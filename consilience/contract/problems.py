"""Errors on the wire: RFC 9457 problem documents."""

from typing import Any, Self

from consilience.contract.base import Document
from consilience.errors import ConsilienceError

#: Problem types are stable names under this address; they need not resolve.
TYPE_PREFIX = "https://consilience.dev/problems/"
PROBLEM_MEDIA_TYPE = "application/problem+json"


class Fault(Document):
    """One fault of several in a request."""

    pointer: str
    """JSON pointer into the body, or the parameter's name."""
    detail: str
    value: str | None = None


class Problem(Document):
    """What went wrong, as a program and as a person can use it (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    value: str | None = None
    """The offending value, shortened to 200 characters."""
    limit: Any = None
    """The limit that was broken."""
    hint: str | None = None
    """What to do about it."""
    pointer: str | None = None
    retryable: bool = False
    """Whether the same request can succeed later, unchanged."""
    errors: tuple[Fault, ...] = ()
    request_id: str | None = None

    @classmethod
    def of(cls, error: ConsilienceError, status: int) -> Self:
        """The document of one error."""
        return cls(
            type=TYPE_PREFIX + error.code,
            title=error.title,
            status=status,
            detail=error.detail,
            value=error.value,
            limit=error.limit,
            hint=error.hint,
            pointer=error.pointer,
            retryable=error.retryable,
        )

    @property
    def code(self) -> str:
        """The last part of the type, by which programs tell problems apart."""
        return self.type.rsplit("/", 1)[-1]
