"""Supervisor that keeps processes running until it is stopped, and then stops them in order."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from consilience.errors import StartupError
from consilience.standalone import die_with_parent

#: Exit status of the service's programs for an invalid setting, after which a restart does not help.
MISCONFIGURED_STATUS = 2
#: Seconds after which a process counts as started successfully.
MIN_UPTIME_S = 5.0
PAUSE_FIRST_S = 0.25
PAUSE_LONGEST_S = 10.0


class Child:
    """Program that is restarted whenever it exits: at once if it had started successfully, otherwise after growing delays.

    Attributes
    ----------
    name : str
        Name of the program in messages.
    failed_starts : int
        Number of consecutive exits right after the start.
    misconfigured : bool
        True if the program reported an invalid setting, so that a restart does not help.
    """

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self.name = name
        self.failed_starts = 0
        self.misconfigured = False
        self._argv = argv
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._start_at = 0.0

    @property
    def alive(self) -> bool:
        """True if the program was started and has not been reaped."""
        return self._process is not None

    @property
    def restart_due(self) -> bool:
        """True if the program has exited and the delay of its restart is over."""
        return self._process is None and time.monotonic() >= self._start_at

    def start(self) -> None:
        """Start the program in its own process group, so that Ctrl-C reaches only this process. It dies with this process."""
        # The program is tied to the thread that calls this, which must be the main thread.
        bare_python = [sys.executable, "-I", "-S", str(Path(die_with_parent.__file__)), str(os.getpid())]
        self._process = subprocess.Popen(  # noqa: S603 -- our own programs, no shell
            [*bare_python, *self._argv],
            env=self._env,
            stdin=subprocess.DEVNULL,
            # Standard output is reserved for messages to the user.
            stdout=sys.stderr,
            start_new_session=True,
        )
        self._started_at = time.monotonic()

    def reap(self) -> str | None:
        """Return how the program exited, or None if it is running. After an exit, schedule the restart."""
        if self._process is None or self._process.poll() is None:
            return None
        ending = _describe(self._process.returncode)
        self.misconfigured = self._process.returncode == MISCONFIGURED_STATUS
        self._process = None
        now = time.monotonic()
        sound = now - self._started_at >= MIN_UPTIME_S
        self.failed_starts = 0 if sound else self.failed_starts + 1
        pause = 0.0 if self.failed_starts <= 1 else PAUSE_FIRST_S * 2.0 ** (self.failed_starts - 2)
        self._start_at = now + min(pause, PAUSE_LONGEST_S)
        return ending

    def terminate(self) -> None:
        """Send SIGTERM to the program."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """Kill the process group of the program, and wait for its exit."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def _describe(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
SIGNALS = STOP_SIGNALS | {signal.SIGCHLD}
#: Maximum seconds between two checks of the children.
TICK_S = 0.1
#: Number of consecutive failed starts after which the supervisor gives up.
FAILED_STARTS_LIMIT = 3


class Stopped(Exception):
    """A signal requested the end."""


class Supervisor:
    """Starts children, restarts those that exit, and stops all. Use it in the main thread, within `block_signals`.

    Parameters
    ----------
    announce : callable
        Called with messages for the user.
    grace_s : float
        Seconds that each group of children may take to stop before it is killed.
    """

    def __init__(self, announce: Callable[[str], None], grace_s: float = 10.0) -> None:
        self._announce = announce
        self._grace_s = grace_s
        self._groups: list[list[Child]] = []

    def add(self, *children: Child) -> None:
        """Start a group of children. Groups are stopped in reverse order."""
        self._groups.append(list(children))
        for child in children:
            child.start()

    def wait_until(self, ready: Callable[[], bool], name: str, timeout_s: float) -> None:
        """Supervise the children until `ready`.

        Raises StartupError if a child fails to start repeatedly or after `timeout_s` seconds, and Stopped on a signal.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            self._restart_dead(starting=True)
            for child in self._children():
                if child.misconfigured or child.failed_starts >= FAILED_STARTS_LIMIT:
                    raise StartupError(f"{child.name} does not start.", hint="See its messages above.")
            if time.monotonic() >= deadline:
                raise StartupError(f"{name} is not ready after {timeout_s:g} s.", hint="See the messages above.")

    def watch(self) -> None:
        """Supervise the children until a signal requests the end, which raises Stopped."""
        while True:
            self._restart_dead()

    def stop(self) -> None:
        """Stop all groups, the last one first. A second signal kills them at once."""
        for group in reversed(self._groups):
            self._stop_group(group)

    def _restart_dead(self, *, starting: bool = False) -> None:
        """Wait for a signal or a tick, then restart exited children, but not misconfigured ones while `starting`."""
        received = signal.sigtimedwait(SIGNALS, TICK_S)
        if received is not None and received.si_signo in STOP_SIGNALS:
            raise Stopped
        for child in self._children():
            ending = child.reap()
            if starting and child.misconfigured:
                continue
            if ending:
                self._announce(f"{child.name} exited ({ending}). It is being restarted.")
            if child.restart_due:
                child.start()

    def _stop_group(self, group: Sequence[Child]) -> None:
        deadline = time.monotonic() + self._grace_s
        for child in group:
            child.terminate()
        while any(child.alive for child in group) and time.monotonic() < deadline:
            received = signal.sigtimedwait(SIGNALS, TICK_S)
            if received is not None and received.si_signo in STOP_SIGNALS:
                break
            for child in group:
                child.reap()
        for child in group:
            child.kill()

    def _children(self) -> list[Child]:
        return [child for group in self._groups for child in group]


@contextmanager
def block_signals() -> Iterator[None]:
    """Block signals until the supervisor receives them, so that no handler interrupts it.

    `die_with_parent` resets the signal mask of children.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
