"""Problem documents (RFC 9457), in which the service reports errors."""

from typing import Any, Self

from consilience.contract.base import Document
from consilience.errors import ConsilienceError

#: Prefix of problem types, which are stable names and need not resolve.
TYPE_PREFIX = "https://consilience.dev/problems/"
PROBLEM_MEDIA_TYPE = "application/problem+json"


class FieldError(Document):
    """One of several errors in a request."""

    pointer: str
    """JSON pointer to the value in the body, or name of the parameter."""
    detail: str
    """Description of the error."""
    value: str | None = None
    """Invalid value, shortened to 200 characters."""


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
    """Invalid value, shortened to 200 characters."""
    limit: Any = None
    """Limit that the value exceeds, or the values that are allowed."""
    hint: str | None = None
    """Advice on how to resolve the error."""
    pointer: str | None = None
    """JSON pointer to the value in the body, or name of the parameter."""
    retryable: bool = False
    """Whether the same request can succeed later without a change."""
    errors: tuple[FieldError, ...] = ()
    """All errors of the request, if there are several."""
    request_id: str | None = None
    """Id of the request, which the server's log contains too."""

    @classmethod
    def of(cls, error: ConsilienceError, status: int) -> Self:
        """Create the problem document of an error."""
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
        """Last part of the type, which identifies the kind of error."""
        return self.type.rsplit("/", 1)[-1]
