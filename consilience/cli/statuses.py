"""What the exit status of the command says."""

from enum import IntEnum

from consilience.errors import (
    ConsilienceError,
    JobError,
    MissingExtra,
    ServiceError,
    StartupError,
    TooManyRequests,
    WaitTimedOut,
)


class ExitStatus(IntEnum):
    """The statuses, the same for every command."""

    DONE = 0
    BELOW_BAR = 1
    BAD_INPUT = 2
    UNREACHABLE = 3
    JOB_FAILED = 4
    TIMED_OUT = 5
    INTERRUPTED = 130


#: The first class that an error belongs to decides; everything else is something that the caller can mend.
BY_KIND: tuple[tuple[type[ConsilienceError], ExitStatus], ...] = (
    (WaitTimedOut, ExitStatus.TIMED_OUT),
    (MissingExtra, ExitStatus.BAD_INPUT),
    (StartupError, ExitStatus.BAD_INPUT),
    (ServiceError, ExitStatus.UNREACHABLE),
    (TooManyRequests, ExitStatus.UNREACHABLE),
    (JobError, ExitStatus.JOB_FAILED),
    (ConsilienceError, ExitStatus.BAD_INPUT),
)


def status_of(error: ConsilienceError) -> ExitStatus:
    """The exit status of an error."""
    return next(status for kind, status in BY_KIND if isinstance(error, kind))
