"""One forked process that does one job, and its parent's hold on it.

A process of its own, because native code (BLAS, FAISS) can be stopped in no other way, and because a crash then takes
one job and not the worker. A fork, because it starts with everything imported; hence the parent may import the numeric
libraries but must never run them (a fork after a FAISS search hangs in its first own one).
"""

import contextlib
import ctypes
import gc
import os
import random
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import NoReturn

import structlog

from consilience.stores.leases import Beat, Leases
from consilience.stores.queue import Message
from workers.attempts import AWAY

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
#: Where Linux counts the processes that it stopped for their memory.
VMSTAT = Path("/proc/vmstat")
#: Where a process says how gladly it would be stopped when memory runs out, and what a job's says (the most is 1000).
OOM_SCORE, EXPENDABLE = Path("/proc/self/oom_score_adj"), "800"


@dataclass(frozen=True)
class Death:
    """How a horse ended."""

    status: int
    """As `os.waitstatus_to_exitcode` has it: the exit status, or minus the signal."""
    peak_bytes: int
    """The largest resident memory that it had."""
    starved: bool
    """Whether the system stopped a process for its memory meanwhile."""

    @property
    def out_of_memory(self) -> bool:
        """Whether it was, as far as can be known, stopped for its memory."""
        return self.starved and self.status == -signal.SIGKILL

    def __str__(self) -> str:
        """In words."""
        if self.status >= 0:
            return f"exit status {self.status}"
        return signal.Signals(-self.status).name


class Horse:
    """A process that runs `work` and exits with its return value."""

    def __init__(self, work: Callable[[], int]) -> None:
        self._starved_before = _count_starved()
        self._alive, write_end = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _run(work, parent)
        # Its death closes the last write end, so that the read end wakes us, on every system.
        os.close(write_end)
        # Both sides do this, so that kill() cannot come before it.
        _lead_group(self.pid)

    def wait(self, timeout_s: float) -> Death | None:
        """How it ended; None where it has not within `timeout_s`."""
        ended, _, _ = select.select([self._alive], [], [], max(0.0, timeout_s))
        return self.bury() if ended else None

    def kill(self) -> Death:
        """Stop it and whatever it started, at once."""
        # Unless buried it is a zombie at least, so that the number is still its own; macOS refuses to signal those.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        return self.bury()

    def bury(self) -> Death:
        """Wait for its end."""
        _, status, usage = os.wait4(self.pid, 0)
        os.close(self._alive)
        return Death(
            status=os.waitstatus_to_exitcode(status),
            peak_bytes=usage.ru_maxrss * 1024,
            starved=_count_starved() > self._starved_before,
        )


def freeze_memory() -> None:
    """Keep the garbage collector of every horse from touching, and so copying, what was loaded before the fork."""
    gc.collect()
    gc.freeze()


def _run(work: Callable[[], int], parent: int) -> NoReturn:
    """The horse's whole life. It never returns into the code of the worker that was forked."""
    status = 1
    try:
        _lead_group(0)
        _die_with(parent)
        _go_first()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        random.seed()
        status = work()
    except BaseException:  # noqa: BLE001 - the last line of defence: without it the fork would run on as a second worker
        structlog.get_logger().exception("process_fault")
    finally:
        os._exit(status)


def _lead_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended already
        os.setpgid(pid, pid)


def _die_with(parent: int) -> None:
    """An orphan would compute for nobody, beside the run that replaces it."""
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _go_first() -> None:
    """When memory runs out, the system is to stop the job's process, and not its worker or the API beside it."""
    with contextlib.suppress(OSError):
        OOM_SCORE.write_text(EXPENDABLE)


def _count_starved() -> int:
    try:
        lines = VMSTAT.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


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
