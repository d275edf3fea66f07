"""Keeps a set of processes running until it is told to stop, then stops them in order."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from consilience.errors import StartupError
from consilience.standalone.child import Child

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
