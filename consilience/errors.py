"""Error classes of Consilience.

* ConsilienceError
    * InputError: the caller can correct the input
        * InvalidRequest: an unknown field, metric or option, or a value out of its range
        * UnsupportedFormat: a file format or media type that is not supported
        * UnreadableFile: a damaged file, or content that does not match its format
        * UnsupportedDtype: a data type that is not supported
        * InvalidShape: not (n, d) or (n, L, d), or an empty axis
        * TooFewRows: fewer rows than a score needs
        * NonFiniteValues: NaN or infinity among the values
        * UnpairedSides: the two sides do not hold the same items
        * UnknownLayer: a layer that the set does not have
        * UnknownView: a view that the dataset does not have
        * BadItem: an item of a dataset that cannot be used
        * TooLarge: over a size limit
        * TooExpensive: over a cost limit
        * UnknownModel: a model that does not exist or is not installed
        * ModelNotAllowed: a model that the operator does not allow
    * StateError: a valid request that conflicts with the state of the service
        * NotFound: a resource that does not exist
        * Expired: a resource whose retention period has ended
        * InUse: a resource that an unfinished job or a reference set needs
        * KeyReused: an idempotency key sent again with a different body
        * Unauthenticated: a missing or invalid API key
        * Forbidden: an API key without the required scope
        * WrongHost: a Host header that does not name the service
        * WrongOrigin: a request from a page of another site
        * TooManyRequests: a rate or queue limit that is reached for now
        * QuotaExceeded: a storage quota that is used up
    * JobError: the reason for a failed job
        * JobCrashed: the job's process died too often
        * JobOutOfMemory: the system killed the job's process because of its memory use
        * JobTimedOut: the job ran longer than its time limit
        * JobCanceled: the job was stopped on request
        * JobBroken: an unexpected error inside the job
    * ServiceError: a failure of the service or its environment
        * Unavailable: the database, Redis or the blob store does not respond
        * StorageFull: no storage space is left
        * EndpointFailed: an embedding server failed or sent an invalid response
        * Unreachable: the service did not respond (raised by the client)
        * WaitTimedOut: the job did not finish within the waiting time (raised by the client)
        * MissingExtra: an optional package is not installed
        * StartupError: the service cannot start with this configuration or on this machine

Each error carries data (the offending value, the limit, what to do), never a status code: the status codes are in
`service/problems.py`.
"""

from typing import Any, ClassVar

from consilience.quoting import quote


class ConsilienceError(Exception):
    """Base class of all errors.

    Parameters
    ----------
    detail : str
        One sentence: what is wrong.
    value : object, optional
        The offending value, stored as a quotation of at most 200 characters.
    limit : object, optional
        The limit that was exceeded, or the allowed values.
    hint : str, optional
        One sentence: what to do about it.
    pointer : str, optional
        Position of the value in the request, as a JSON pointer (``/metrics/0/k``).
    """

    #: Stable name of this kind of error, the last part of a problem's `type`.
    code: ClassVar[str] = "error"
    title: ClassVar[str] = "Something went wrong"
    #: True if the same request can succeed later, unchanged.
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str,
        *,
        value: object = None,
        limit: object = None,
        hint: str | None = None,
        pointer: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.value = None if value is None else quote(value)
        self.limit = limit
        self.hint = hint
        self.pointer = pointer

    def __str__(self) -> str:
        """Return the detail followed by the hint, as a terminal shows them."""
        return f"{self.detail} {self.hint}" if self.hint else self.detail


class InputError(ConsilienceError):
    """An error that the caller can correct."""

    code = "invalid-input"
    title = "The input cannot be used"


class InvalidRequest(InputError):
    """An unknown field, metric or option, or a value out of its range."""

    code = "invalid-request"
    title = "The request is not valid"


class UnsupportedFormat(InputError):
    """A file format or media type that is not supported."""

    code = "unsupported-format"
    title = "The format is not supported"


class UnreadableFile(InputError):
    """A damaged file, or content that does not match its format."""

    code = "unreadable-file"
    title = "The file cannot be read"


class UnsupportedDtype(InputError):
    """A data type that is not supported."""

    code = "unsupported-dtype"
    title = "The data type is not supported"


class InvalidShape(InputError):
    """A shape other than (n, d) or (n, L, d), or an empty axis."""

    code = "invalid-shape"
    title = "The shape cannot be used"


class TooFewRows(InputError):
    """Fewer rows than a score needs."""

    code = "too-few-rows"
    title = "There are too few rows"


class NonFiniteValues(InputError):
    """NaN or infinity among the values."""

    code = "non-finite-values"
    title = "The values are not all finite"


class UnpairedSides(InputError):
    """Two sides that do not hold the same items."""

    code = "unpaired-sides"
    title = "The two sides are not paired"


class UnknownLayer(InputError):
    """A layer that the set does not have."""

    code = "unknown-layer"
    title = "The set has no such layer"


class UnknownView(InputError):
    """A view that the dataset does not have."""

    code = "unknown-view"
    title = "The dataset has no such view"


class BadItem(InputError):
    """A dataset item that cannot be used; the detail names the item."""

    code = "bad-item"
    title = "A dataset item cannot be used"


class TooLarge(InputError):
    """An input that exceeds a size limit."""

    code = "too-large"
    title = "The input is too large"


class TooExpensive(InputError):
    """A job whose estimated cost exceeds a limit."""

    code = "too-expensive"
    title = "The job would cost too much"


class UnknownModel(InputError):
    """A model that does not exist or is not installed on this machine."""

    code = "unknown-model"
    title = "The model was not found"


class ModelNotAllowed(InputError):
    """A model that the operator does not allow."""

    code = "model-not-allowed"
    title = "The model is not allowed"


class StateError(ConsilienceError):
    """A valid request that conflicts with the current state of the service."""

    code = "conflict"
    title = "The request conflicts with the current state of the service"


class NotFound(StateError):
    """A resource that does not exist."""

    code = "not-found"
    title = "The resource was not found"


class Expired(StateError):
    """A resource that was deleted because its retention period ended."""

    code = "expired"
    title = "The resource has expired"


class InUse(StateError):
    """A resource that cannot be deleted: an unfinished job or a reference set needs it."""

    code = "in-use"
    title = "The resource is in use"


class KeyReused(StateError):
    """An idempotency key that was sent before with a different body."""

    code = "idempotency-key-reused"
    title = "The idempotency key was used for another request"


class Unauthenticated(StateError):
    """A missing or invalid API key. The error never contains the key."""

    code = "unauthenticated"
    title = "A valid API key is required"


class Forbidden(StateError):
    """An API key without the required scope; `limit` is that scope."""

    code = "forbidden"
    title = "The API key does not allow this operation"


class WrongHost(StateError):
    """A Host header that does not name the service."""

    code = "wrong-host"
    title = "The host name does not belong to the service"


class WrongOrigin(StateError):
    """A request from a page of another site."""

    code = "wrong-origin"
    title = "The request comes from another site"


class TooManyRequests(StateError):
    """A temporary limit: requests per minute, or jobs in the queue.

    Parameters
    ----------
    after_s : float
        Seconds after which the same request may succeed.
    """

    code = "too-many-requests"
    title = "A rate or queue limit is reached"
    retryable = True

    def __init__(self, detail: str, *, after_s: float = 1.0, **members: Any) -> None:
        super().__init__(detail, **members)
        self.after_s = after_s


class QuotaExceeded(StateError):
    """An owner's storage quota that is used up."""

    code = "quota-exceeded"
    title = "The owner's storage quota is used up"


class JobError(ConsilienceError):
    """The reason for a failed job."""

    code = "job-failed"
    title = "The job failed"


class JobCrashed(JobError):
    """A job whose process died too often."""

    code = "job-crashed"
    title = "The job's process died"


class JobOutOfMemory(JobError):
    """A job whose process the system killed because of its memory use."""

    code = "job-out-of-memory"
    title = "The job ran out of memory"


class JobTimedOut(JobError):
    """A job that ran longer than its time limit."""

    code = "job-timed-out"
    title = "The job exceeded its time limit"


class JobCanceled(JobError):
    """A job that was stopped on request."""

    code = "job-canceled"
    title = "The job was canceled"


class JobBroken(JobError):
    """An unexpected error inside the job; the worker's log has the traceback."""

    code = "job-broken"
    title = "The job failed with an unexpected error"


class ServiceError(ConsilienceError):
    """A failure of the service or its environment."""

    code = "service-error"
    title = "The service failed"
    retryable = True


class Unavailable(ServiceError):
    """A database, Redis or blob store that does not respond."""

    code = "unavailable"
    title = "A part of the service does not respond"


class StorageFull(ServiceError):
    """Storage without free space."""

    code = "storage-full"
    title = "The storage is full"


class EndpointFailed(ServiceError):
    """An embedding server that failed or sent an invalid response; the operator configured it."""

    code = "endpoint-failed"
    title = "The embedding server failed"


class Unreachable(ServiceError):
    """A service that does not respond to the client."""

    code = "unreachable"
    title = "The service cannot be reached"


class WaitTimedOut(ServiceError):
    """A job that did not finish within the waiting time; the job continues."""

    code = "wait-timed-out"
    title = "The job has not finished yet"


class MissingExtra(ServiceError):
    """An optional package that is not installed."""

    code = "missing-extra"
    title = "An optional package is not installed"
    retryable = False


class StartupError(ServiceError):
    """A service that cannot start with this configuration or on this machine."""

    code = "startup-error"
    title = "The service cannot start"
    retryable = False
