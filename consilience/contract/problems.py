"""Errors on the wire: RFC 9457 problem documents."""

from typing import Any, Self

from consilience.contract.base import Document
from consilience.errors import ConsilienceError

#: Problem types are stable names under this address; they need not resolve.
TYPE_PREFIX = "https://consilience.dev/problems/"
PROBLEM_MEDIA_TYPE = "application/problem+json"


class FieldError(Document):
    """One of several faults in a request."""

    pointer: str
    """JSON pointer to the value in the body, or name of the parameter."""
    detail: str
    """Description of the fault."""
    value: str | None = None
    """Value at fault, shortened to 200 characters."""


class Problem(Document):
    """Error as a problem document (RFC 9457), readable by programs and people."""

    type: str
    """Stable identifier of the kind of error."""
    title: str
    """Kind of error, in words."""
    status: int
    """HTTP status code."""
    detail: str
    """Description of this occurrence of the error."""
    value: str | None = None
    """Value at fault, shortened to 200 characters."""
    limit: Any = None
    """Limit that the value exceeds, or the values that are allowed."""
    hint: str | None = None
    """Advice on how to resolve the error."""
    pointer: str | None = None
    """JSON pointer to the value in the body, or name of the parameter."""
    retryable: bool = False
    """Whether the same request can succeed later without a change."""
    errors: tuple[FieldError, ...] = ()
    """All faults of the request, if there are several."""
    request_id: str | None = None
    """Id of the request, which the server's log contains too."""

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
