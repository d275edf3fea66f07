"""Work in this process, as the commands do it: with a bar, a time limit, and errors that blame no service."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from consilience.cli.progress import Report, progress_bar
from consilience.errors import InputError, StorageFull, Unavailable, WaitTimedOut

#: Ten years: beyond that a timer has no number, and nobody waits.
LONGEST_S = 3.2e8


@contextmanager
def work_here(first_stage: str, timeout_s: float | None) -> Iterator[Report]:
    """A block of work; it is given whom to tell how far it is.

    Raises
    ------
    WaitTimedOut
        After so many seconds: at the latest when the library call in progress returns.
    InputError
        This machine lacks something, such as the device or the room: no service is out of reach.
    """
    try:
        with _alarm(timeout_s), progress_bar(first_stage) as report:
            yield report
    except (Unavailable, StorageFull) as error:
        raise InputError(error.detail, value=error.value, limit=error.limit, hint=error.hint) from error


@contextmanager
def _alarm(timeout_s: float | None) -> Iterator[None]:
    if timeout_s is None or timeout_s > LONGEST_S:
        yield
        return

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise WaitTimedOut(f"Not finished after {timeout_s:g} s.", limit=timeout_s)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(timeout_s, 1e-6))  # zero would switch it off
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
