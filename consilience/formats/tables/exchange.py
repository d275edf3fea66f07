"""The process that reads a table, seen from outside: questions go in, pieces of bytes come out.

An answer is any number of pieces, an empty one, and a JSON document: null, or the error that ended it.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from importlib.util import find_spec
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Self

from consilience import errors
from consilience.errors import ConsilienceError, MissingExtra, TooLarge, Unavailable, UnreadableFile
from consilience.formats.tables.confinement import PIECE_LIMIT_BYTES

#: Seconds that the process may be silent; its processor time is limited more tightly.
PATIENCE_S = 120.0
_PROGRAM = "consilience.formats.tables.process"
#: All that it gets of our environment, which has secrets in it.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH")
_OWN_VARIABLES = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
_ERRORS: dict[str, type[ConsilienceError]] = {
    kind.code: kind
    for kind in (
        errors.InvalidRequest,
        errors.InvalidShape,
        errors.NonFiniteValues,
        errors.TooLarge,
        errors.UnreadableFile,
        errors.UnsupportedDtype,
        errors.UnsupportedFormat,
    )
}


class TableReader:
    """A process that reads one table; started when it is first asked, gone when the context ends.

    Parameters
    ----------
    kind : str
        ``parquet``, ``arrow-file`` or ``arrow-stream``.
    descriptor : int
        The open file.
    unpacked_limit : int
        Bytes that the file may hold once unpacked.
    """

    def __init__(self, kind: str, descriptor: int, unpacked_limit: int) -> None:
        self._words = (kind, str(unpacked_limit))
        self._descriptor = descriptor
        self._running: tuple[Connection, subprocess.Popen[bytes]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the process, whatever it is doing."""
        if self._running is not None:
            channel, process = self._running
            self._running = None
            channel.close()
            process.kill()
            process.wait()

    def ask(self, **question: object) -> Generator[bytes, None, None]:
        """The pieces of the answer.

        Raises the error that the process found in the file, UnreadableFile where the file made it crash,
        TooLarge where it took too much memory or time, Unavailable where it cannot be started, MissingExtra.
        """
        answered = False
        try:
            if self._running is None:
                self._running = self._start()
            self._send(json.dumps(question).encode())
            while piece := self._receive():
                yield piece
            error = json.loads(self._receive())
            answered = True
        finally:
            if not answered:  # nobody waits for the rest; the next question gets a new process
                self.close()
        if error is not None:
            raise _revive(error)

    def _start(self) -> tuple[Connection, subprocess.Popen[bytes]]:
        if find_spec("pyarrow") is None:
            raise MissingExtra("Parquet and Arrow need pyarrow.", hint="Run: pip install 'consilience[parquet]'.")
        ours, theirs = Pipe()
        with theirs:
            process = self._spawn(theirs.fileno())
        # It says one word when it has loaded its library and given up its rights.
        if not ours.poll(PATIENCE_S) or not _hear(ours):
            process.kill()
            raise Unavailable("The process that reads tables did not start.", value=f"status {process.wait()}")
        return ours, process

    def _spawn(self, channel: int) -> subprocess.Popen[bytes]:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        # It must find what we found, also in a checkout; `-P` keeps it from looking in the current folder.
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)  # noqa: PTH100 - text in, text out
        command = [sys.executable, "-P", "-m", _PROGRAM, str(channel), str(self._descriptor), *self._words]
        try:
            return subprocess.Popen(  # noqa: S603 - our own program, no shell
                command,
                env={**environment, **_OWN_VARIABLES, "PYTHONPATH": path},
                pass_fds=(channel, self._descriptor),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise Unavailable("The process that reads tables cannot be started.", value=error) from error

    def _send(self, question: bytes) -> None:
        channel, process = self._connection
        try:
            channel.send_bytes(question)
        except OSError:
            raise _death(process) from None

    def _receive(self) -> bytes:
        channel, process = self._connection
        if not channel.poll(PATIENCE_S):
            raise TooLarge(f"The file took its reader longer than {PATIENCE_S:g} s.", limit=PATIENCE_S)
        try:
            return channel.recv_bytes(PIECE_LIMIT_BYTES)
        except (EOFError, OSError):
            raise _death(process) from None

    @property
    def _connection(self) -> tuple[Connection, subprocess.Popen[bytes]]:
        assert self._running is not None  # noqa: S101 - between start and close
        return self._running


def _hear(channel: Connection) -> bytes:
    try:
        return channel.recv_bytes(PIECE_LIMIT_BYTES)
    except (EOFError, OSError):
        return b""


def _death(process: subprocess.Popen[bytes]) -> ConsilienceError:
    """What the end of the process says about the file."""
    try:
        status = process.wait(timeout=1.0)
    except subprocess.TimeoutExpired:  # alive, but it broke the rules of the exchange
        status = 0
    hint = "The file is damaged, or made to harm: write it again with a current library."
    if status == -signal.SIGXCPU:
        return TooLarge("The file took its reader too much processor time.", hint=hint)
    if status == -signal.SIGKILL:
        return TooLarge("The file took its reader too much memory.", hint=hint)
    ended = f"signal {-status}" if status < 0 else f"status {status}"
    return UnreadableFile("The file made its reader crash.", value=ended, hint=hint)


def _revive(document: dict[str, Any]) -> ConsilienceError:
    """The error that the other process described."""
    kind = _ERRORS.get(document.pop("code"), UnreadableFile)
    return kind(document.pop("detail"), **document)
