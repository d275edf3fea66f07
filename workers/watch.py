"""A parent's watch over one horse: the lease is extended, and the reasons to stop it are found."""

import time
from enum import Enum, auto

import structlog

from consilience.stores.leases import Beat, Leases
from consilience.stores.queue import Message
from workers.attempts import AWAY


class Verdict(Enum):
    """Whether a horse may run on, and if not, why."""

    GO_ON = auto()
    CANCEL = auto()
    """The user asked for an end."""
    FENCED = auto()
    """Another run has the job, or the job is over."""
    TIMED_OUT = auto()
    """It ran longer than its time limit."""
    CUT_OFF = auto()
    """The database did not answer for so long that the lease must be thought lost."""
    HAND_BACK = auto()
    """The worker has to stop."""


class Watch:
    """The clock of one run.

    Parameters
    ----------
    leases, message
        Where the run is held, and which it is.
    timeout_s : float
        How long it may take.
    beat_s, lease_s : float
        How often its lease is extended, and how long it lasts without.
    """

    def __init__(self, leases: Leases, message: Message, *, timeout_s: float, beat_s: float, lease_s: float) -> None:
        self._leases, self._message = leases, message
        self._beat_s, self._lease_s = beat_s, lease_s
        began = time.monotonic()
        self._deadline = began + timeout_s
        self._next_beat = began + beat_s
        self._lease_ends = began + lease_s

    def next_look_s(self, stop_at: float) -> float:
        """Seconds until `judge` should be asked again; at most one beat, as a signal may bring `stop_at` forward."""
        return min(self._next_beat, self._deadline, stop_at) - time.monotonic()

    def judge(self, stop_at: float) -> Verdict:
        """Extend the lease where it is time; say whether the run may go on."""
        now = time.monotonic()
        if now >= self._deadline:
            return Verdict.TIMED_OUT
        if now >= stop_at:
            return Verdict.HAND_BACK
        if now < self._next_beat:
            return Verdict.GO_ON
        self._next_beat = now + self._beat_s
        return self._beat(now)

    def _beat(self, now: float) -> Verdict:
        try:
            beat = self._leases.beat(*self._message)
        except AWAY as error:
            structlog.get_logger().warning("beat_failed", job=self._message[0], cause=error.value or error.detail)
            return Verdict.CUT_OFF if time.monotonic() >= self._lease_ends else Verdict.GO_ON
        self._lease_ends = now + self._lease_s
        return _VERDICTS[beat]


_VERDICTS: dict[Beat, Verdict] = {
    Beat.KEEP: Verdict.GO_ON,
    Beat.CANCEL: Verdict.CANCEL,
    Beat.FENCED: Verdict.FENCED,
}
