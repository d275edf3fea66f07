"""Keeps a set of processes running until it is told to stop, then stops them in order."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from consilience.errors import StartupError
from consilience.standalone import tether

#: The status by which our own programs say that no further start will help: a setting is wrong.
HOPELESS_STATUS = 2
#: A process that lived shorter than this was not really up.
SOUND_LIFE_S = 5.0
PAUSE_FIRST_S = 0.25
PAUSE_LONGEST_S = 10.0


class Child:
    """A program, started again whenever it has died: at once if it had been up, ever later if it had not.

    Attributes
    ----------
    name : str
        What people call it.
    false_starts : int
        How often in a row it died right after its start.
    hopeless : bool
        Whether it said that another start will not help.
    """

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self.name = name
        self.false_starts = 0
        self.hopeless = False
        self._argv = argv
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._start_at = 0.0

    @property
    def alive(self) -> bool:
        """Whether it has been started and not been found dead."""
        return self._process is not None

    @property
    def due(self) -> bool:
        """Whether it is dead and its pause is over."""
        return self._process is None and time.monotonic() >= self._start_at

    def start(self) -> None:
        """Start it, tied to this process and outside its process group, so that Ctrl-C reaches only the parent."""
        # The tie is to the thread that calls this, which must be the main thread.
        bare_python = [sys.executable, "-I", "-S", str(Path(tether.__file__)), str(os.getpid())]
        self._process = subprocess.Popen(  # noqa: S603 -- our own programs, no shell
            [*bare_python, *self._argv],
            env=self._env,
            stdin=subprocess.DEVNULL,
            # Standard output is for what the service tells its user.
            stdout=sys.stderr,
            start_new_session=True,
        )
        self._started_at = time.monotonic()

    def bury(self) -> str | None:
        """How it ended, if it has died since it was last asked; then it waits for its next start."""
        if self._process is None or self._process.poll() is None:
            return None
        ending = _describe(self._process.returncode)
        self.hopeless = self._process.returncode == HOPELESS_STATUS
        self._process = None
        now = time.monotonic()
        sound = now - self._started_at >= SOUND_LIFE_S
        self.false_starts = 0 if sound else self.false_starts + 1
        pause = 0.0 if self.false_starts <= 1 else PAUSE_FIRST_S * 2.0 ** (self.false_starts - 2)
        self._start_at = now + min(pause, PAUSE_LONGEST_S)
        return ending

    def terminate(self) -> None:
        """Ask it to stop."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """Stop it and what it started in its process group, and wait until it is gone."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def _describe(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
SIGNALS = STOP_SIGNALS | {signal.SIGCHLD}
#: Seconds between two looks where no signal comes.
TICK_S = 0.1
#: A child that has died this often right after its start will not come up.
FALSE_STARTS_LIMIT = 3


class Stopped(Exception):
    """A signal asked for the end."""


class Supervisor:
    """Starts children, restarts the dead, stops all. To be used in the main thread, inside `signals_held`.

    Parameters
    ----------
    announce : callable
        Told, in a sentence, what a user should know.
    grace_s : float
        Seconds that each group of children has to stop before it is killed.
    """

    def __init__(self, announce: Callable[[str], None], grace_s: float = 10.0) -> None:
        self._announce = announce
        self._grace_s = grace_s
        self._groups: list[list[Child]] = []

    def add(self, *children: Child) -> None:
        """Start a group of children; groups stop in the opposite order."""
        self._groups.append(list(children))
        for child in children:
            child.start()

    def wait_until(self, ready: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Watch over the children until `ready`.

        Raises StartupError when a child dies again and again or `timeout_s` seconds pass, Stopped on a signal.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            self._tend(starting=True)
            for child in self._children():
                if child.hopeless or child.false_starts >= FALSE_STARTS_LIMIT:
                    raise StartupError(f"{child.name} does not start.", hint="Its own messages are above.")
            if time.monotonic() >= deadline:
                raise StartupError(f"{what} is not ready after {timeout_s:g} s.", hint="Its messages are above.")

    def watch(self) -> None:
        """Watch over the children until a signal asks for the end, which raises Stopped."""
        while True:
            self._tend()

    def stop(self) -> None:
        """Stop every group, the last one first; a second signal kills at once."""
        for group in reversed(self._groups):
            self._stop_group(group)

    def _tend(self, *, starting: bool = False) -> None:
        """Wait for a signal or a tick, then see to the dead; while all start, those that see no hope stay dead."""
        received = signal.sigtimedwait(SIGNALS, TICK_S)
        if received is not None and received.si_signo in STOP_SIGNALS:
            raise Stopped
        for child in self._children():
            ending = child.bury()
            if starting and child.hopeless:
                continue
            if ending:
                self._announce(f"{child.name} has died ({ending}); it is started again.")
            if child.due:
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
                child.bury()
        for child in group:
            child.kill()

    def _children(self) -> list[Child]:
        return [child for group in self._groups for child in group]


@contextmanager
def signals_held() -> Iterator[None]:
    """Signals wait in the kernel until the supervisor asks for them: no handler interrupts anything half done.

    Children get the mask back to normal in `tether`.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
