"""One process that is kept running."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

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
