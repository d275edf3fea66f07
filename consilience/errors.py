"""Every error that Consilience raises on purpose.

* ConsilienceError
    * InputError: the caller can mend it
        * InvalidRequest: an unknown field, metric or option, or a value out of its range
        * UnsupportedFormat: bytes of a kind that is not read here
        * UnreadableFile: bytes that are not what they claim to be
        * UnsupportedDtype: numbers of a kind that is not read here
        * InvalidShape: not (n, d) or (n, L, d), or an empty axis
        * TooFewRows: fewer rows than a score needs
        * NonFiniteValues: NaN or infinity among the values
        * UnpairedSides: the two sides do not hold the same items
        * UnknownLayer: a layer that the set does not have
        * UnknownView: a view that the dataset does not have
        * BadItem: an item of a dataset that cannot be used
        * TooLarge: over a size limit
        * TooExpensive: over a cost limit
        * UnknownModel: no such model is here
        * ModelNotAllowed: a model that the operator does not allow
    * StateError: the request is sound, the state of the service forbids it
        * NotFound: no such resource
        * Expired: it existed, its retention has passed
        * InUse: an unfinished job needs it, or a reference set has it as a member
        * KeyReused: an idempotency key with another body
        * Unauthenticated: no API key, or none that holds
        * Forbidden: the API key does not allow it
        * WrongHost: the service was asked by a name that is not its own
        * WrongOrigin: a page of another site asked
        * TooManyRequests: a limit that passes with time
        * QuotaExceeded: the owner keeps too much already
    * JobError: why a job failed
        * JobCrashed: its process died too often
        * JobOutOfMemory: the system stopped its process for its memory
        * JobTimedOut: it ran longer than its time limit
        * JobCanceled: it was stopped on request
        * JobBroken: an unforeseen error inside the job
    * ServiceError: the surroundings failed
        * Unavailable: the database, Redis or the blob store does not answer
        * StorageFull: no room left for the bytes
        * EndpointFailed: a server of embeddings does not answer as it should
        * Unreachable: the service did not answer (raised by the client)
        * WaitTimedOut: the job had not finished in the time given (raised by the client)
        * MissingExtra: an optional package is not installed
        * StartupError: the service cannot start here

Each error carries data (the offending value, the limit, what to do), never a status code:
`service/problems.py` alone knows those.
"""

from typing import Any, ClassVar

from consilience.quoting import quote


class ConsilienceError(Exception):
    """The root of the tree.

    Parameters
    ----------
    detail : str
        One sentence: what is wrong.
    value : object, optional
        The offending value, quoted back shortened to 200 characters.
    limit : object, optional
        The limit that was broken.
    hint : str, optional
        One sentence: what to do about it.
    pointer : str, optional
        Where in the request it stands, as a JSON pointer (``/metrics/0/k``).
    """

    #: The stable name of this kind of error, the last part of a problem's `type`.
    code: ClassVar[str] = "error"
    title: ClassVar[str] = "Something went wrong"
    #: Whether the same request can succeed later, unchanged.
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
        """The sentence, then the hint: what a person at a terminal needs."""
        return f"{self.detail} {self.hint}" if self.hint else self.detail


class InputError(ConsilienceError):
    """The caller can mend it."""

    code = "invalid-input"
    title = "The input cannot be used"


class InvalidRequest(InputError):
    """An unknown field, metric or option, or a value out of its range."""

    code = "invalid-request"
    title = "The request is not valid"


class UnsupportedFormat(InputError):
    """Bytes of a kind that is not read here."""

    code = "unsupported-format"
    title = "The format is not supported"


class UnreadableFile(InputError):
    """Bytes that are not what they claim to be."""

    code = "unreadable-file"
    title = "The file cannot be read"


class UnsupportedDtype(InputError):
    """Numbers of a kind that is not read here."""

    code = "unsupported-dtype"
    title = "The data type is not supported"


class InvalidShape(InputError):
    """Not (n, d) or (n, L, d), or an empty axis."""

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
    """The two sides do not hold the same items."""

    code = "unpaired-sides"
    title = "The two sides are not paired"


class UnknownLayer(InputError):
    """A layer that the set does not have."""

    code = "unknown-layer"
    title = "There is no such layer"


class UnknownView(InputError):
    """A view that the dataset does not have."""

    code = "unknown-view"
    title = "There is no such view"


class BadItem(InputError):
    """An item of a dataset that cannot be used: the detail names it."""

    code = "bad-item"
    title = "An item cannot be used"


class TooLarge(InputError):
    """Over a size limit."""

    code = "too-large"
    title = "The input is too large"


class TooExpensive(InputError):
    """Over a cost limit."""

    code = "too-expensive"
    title = "The job would cost too much"


class UnknownModel(InputError):
    """No such model is here."""

    code = "unknown-model"
    title = "There is no such model here"


class ModelNotAllowed(InputError):
    """A model that the operator does not allow."""

    code = "model-not-allowed"
    title = "The model is not allowed"


class StateError(ConsilienceError):
    """The request is sound, the state of the service forbids it."""

    code = "conflict"
    title = "The state of the service forbids it"


class NotFound(StateError):
    """No such resource."""

    code = "not-found"
    title = "There is no such resource"


class Expired(StateError):
    """It existed; its retention has passed."""

    code = "expired"
    title = "It is no longer kept"


class InUse(StateError):
    """An unfinished job needs it, or a reference set has it as a member."""

    code = "in-use"
    title = "It is in use"


class KeyReused(StateError):
    """An idempotency key that came before with another body."""

    code = "idempotency-key-reused"
    title = "The idempotency key was used for another request"


class Unauthenticated(StateError):
    """No API key, or none that holds. It never carries the key."""

    code = "unauthenticated"
    title = "An API key is needed"


class Forbidden(StateError):
    """The API key does not allow it; `limit` is the scope that would."""

    code = "forbidden"
    title = "The API key does not allow it"


class WrongHost(StateError):
    """The service was asked by a name that is not its own."""

    code = "wrong-host"
    title = "This is not a name of the service"


class WrongOrigin(StateError):
    """A page of another site asked."""

    code = "wrong-origin"
    title = "The request comes from a foreign site"


class TooManyRequests(StateError):
    """A limit that passes with time: requests a minute, jobs that wait.

    Parameters
    ----------
    after_s : float
        Seconds after which the same request may succeed.
    """

    code = "too-many-requests"
    title = "A limit is reached for now"
    retryable = True

    def __init__(self, detail: str, *, after_s: float = 1.0, **members: Any) -> None:
        super().__init__(detail, **members)
        self.after_s = after_s


class QuotaExceeded(StateError):
    """The owner keeps too much already."""

    code = "quota-exceeded"
    title = "The owner's quota is used up"


class JobError(ConsilienceError):
    """Why a job failed."""

    code = "job-failed"
    title = "The job failed"


class JobCrashed(JobError):
    """Its process died too often."""

    code = "job-crashed"
    title = "The job's process died"


class JobOutOfMemory(JobError):
    """The system stopped its process for its memory."""

    code = "job-out-of-memory"
    title = "The job ran out of memory"


class JobTimedOut(JobError):
    """It ran longer than its time limit."""

    code = "job-timed-out"
    title = "The job took too long"


class JobCanceled(JobError):
    """It was stopped on request."""

    code = "job-canceled"
    title = "The job was canceled"


class JobBroken(JobError):
    """An unforeseen error inside the job; the worker's log has the trace."""

    code = "job-broken"
    title = "The job met an unforeseen error"


class ServiceError(ConsilienceError):
    """The surroundings failed."""

    code = "service-error"
    title = "The service has a problem"
    retryable = True


class Unavailable(ServiceError):
    """The database, Redis or the blob store does not answer."""

    code = "unavailable"
    title = "A part of the service does not answer"


class StorageFull(ServiceError):
    """No room left for the bytes."""

    code = "storage-full"
    title = "The storage is full"


class EndpointFailed(ServiceError):
    """A server of embeddings, which the operator configured, does not answer as it should."""

    code = "endpoint-failed"
    title = "The server of embeddings does not answer as it should"


class Unreachable(ServiceError):
    """The service did not answer."""

    code = "unreachable"
    title = "The service cannot be reached"


class WaitTimedOut(ServiceError):
    """The job had not finished in the time given; it goes on."""

    code = "wait-timed-out"
    title = "The job has not finished yet"


class MissingExtra(ServiceError):
    """An optional package is not installed."""

    code = "missing-extra"
    title = "An optional package is missing"
    retryable = False


class StartupError(ServiceError):
    """The service cannot start here."""

    code = "startup-error"
    title = "The service cannot start"
    retryable = False
