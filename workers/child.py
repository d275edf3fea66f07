"""Child process that runs one job, and its monitor in the parent process.

Each job has a process of its own, since native code (BLAS, FAISS) can be stopped in no other way and a crash then ends one
job instead of the worker. The process is forked, so that all imports are there already. Hence the parent may import the
numeric libraries but must never run them: a fork after a FAISS search hangs in its own first search.
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

from consilience.stores.leases import HeartbeatReply, Leases
from consilience.stores.queue import Message
from workers.attempts import UNAVAILABLE

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
#: File in which Linux counts the processes that were killed because memory ran out.
VMSTAT = Path("/proc/vmstat")
#: File with the priority of a process for the out-of-memory killer, and the priority of child processes (the maximum is 1000).
OOM_SCORE, CHILD_OOM_SCORE = Path("/proc/self/oom_score_adj"), "800"


@dataclass(frozen=True)
class ProcessExit:
    """Exit of a child process."""

    status: int
    """Exit status, or minus the number of the signal, as returned by `os.waitstatus_to_exitcode`."""
    peak_bytes: int
    """Peak resident memory in bytes."""
    oom_killed: bool
    """True if the system killed a process for lack of memory meanwhile."""

    @property
    def out_of_memory(self) -> bool:
        """True if the process was probably killed because memory ran out."""
        return self.oom_killed and self.status == -signal.SIGKILL

    def __str__(self) -> str:
        """Describe the exit."""
        if self.status >= 0:
            return f"exit status {self.status}"
        return signal.Signals(-self.status).name


class ChildProcess:
    """Process that runs `work` and exits with its return value."""

    def __init__(self, work: Callable[[], int]) -> None:
        self._oom_kills_before = _count_oom_kills()
        self._alive, write_end = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _run(work, parent)
        # When the child exits, the last write end closes and the read end becomes readable, on every system.
        os.close(write_end)
        # Both processes do this, so that kill() cannot come before it.
        _lead_group(self.pid)

    def wait(self, timeout_s: float) -> ProcessExit | None:
        """Wait for the exit for at most `timeout_s` seconds. Return None if the process is still running."""
        ended, _, _ = select.select([self._alive], [], [], max(0.0, timeout_s))
        return self.reap() if ended else None

    def kill(self) -> ProcessExit:
        """Kill the process and all processes that it started."""
        # Until it is reaped it is at least a zombie and keeps its process id; macOS refuses to signal zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        return self.reap()

    def reap(self) -> ProcessExit:
        """Wait for the exit."""
        _, status, usage = os.wait4(self.pid, 0)
        os.close(self._alive)
        return ProcessExit(
            status=os.waitstatus_to_exitcode(status),
            peak_bytes=usage.ru_maxrss * 1024,
            oom_killed=_count_oom_kills() > self._oom_kills_before,
        )


def freeze_memory() -> None:
    """Exclude all objects from garbage collection, so that child processes do not copy their memory pages."""
    gc.collect()
    gc.freeze()


def _run(work: Callable[[], int], parent: int) -> NoReturn:
    """Run `work` in the child process and exit. It never returns into the code of the worker."""
    status = 1
    try:
        _lead_group(0)
        _exit_with_parent(parent)
        _prefer_for_oom_kill()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        random.seed()
        status = work()
    except BaseException:  # noqa: BLE001 - otherwise the child would continue as a second worker
        structlog.get_logger().exception("process_fault")
    finally:
        os._exit(status)


def _lead_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # the process has exited already
        os.setpgid(pid, pid)


def _exit_with_parent(parent: int) -> None:
    """Kill this process when its parent dies, since the job will run again elsewhere."""
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the line above
        os._exit(1)


def _prefer_for_oom_kill() -> None:
    """Let the system kill this process first when memory runs out, instead of the worker or the API."""
    with contextlib.suppress(OSError):
        OOM_SCORE.write_text(CHILD_OOM_SCORE)


def _count_oom_kills() -> int:
    try:
        lines = VMSTAT.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


class RunDecision(Enum):
    """Decision if a run may continue, and the reason if not."""

    CONTINUE = auto()
    CANCEL = auto()
    """The user requested cancellation."""
    FENCED = auto()
    """Another run has the job, or the job has ended."""
    TIMED_OUT = auto()
    """The run exceeded its time limit."""
    DATABASE_LOST = auto()
    """The database did not respond for so long that the lease may have expired."""
    HAND_BACK = auto()
    """The worker is stopping."""


class RunMonitor:
    """Monitors one run: extends its lease and enforces its time limit.

    Parameters
    ----------
    leases, message
        Store of the leases, and the message of the run.
    timeout_s : float
        Time limit of the run.
    beat_s, lease_s : float
        Interval of heartbeats, and duration of the lease without one.
    """

    def __init__(self, leases: Leases, message: Message, *, timeout_s: float, beat_s: float, lease_s: float) -> None:
        self._leases, self._message = leases, message
        self._beat_s, self._lease_s = beat_s, lease_s
        started = time.monotonic()
        self._deadline = started + timeout_s
        self._next_beat = started + beat_s
        self._lease_ends = started + lease_s

    def seconds_to_next_check(self, stop_at: float) -> float:
        """Return the seconds until `decide` should be called again, at most one heartbeat interval."""
        return min(self._next_beat, self._deadline, stop_at) - time.monotonic()

    def decide(self, stop_at: float) -> RunDecision:
        """Extend the lease if it is time. Decide if the run may continue."""
        now = time.monotonic()
        if now >= self._deadline:
            return RunDecision.TIMED_OUT
        if now >= stop_at:
            return RunDecision.HAND_BACK
        if now < self._next_beat:
            return RunDecision.CONTINUE
        self._next_beat = now + self._beat_s
        return self._beat(now)

    def _beat(self, now: float) -> RunDecision:
        try:
            beat = self._leases.heartbeat(*self._message)
        except UNAVAILABLE as error:
            structlog.get_logger().warning("heartbeat_failed", job=self._message[0], cause=error.value or error.detail)
            return RunDecision.DATABASE_LOST if time.monotonic() >= self._lease_ends else RunDecision.CONTINUE
        self._lease_ends = now + self._lease_s
        return _DECISIONS[beat]


_DECISIONS: dict[HeartbeatReply, RunDecision] = {
    HeartbeatReply.CONTINUE: RunDecision.CONTINUE,
    HeartbeatReply.CANCEL: RunDecision.CANCEL,
    HeartbeatReply.FENCED: RunDecision.FENCED,
}
