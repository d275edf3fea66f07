"""A process that reads a stranger's bytes, seen from outside: one of our programs, a pipe to it, and what its death means."""

import mmap
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

from consilience.errors import ConsilienceError, TooLarge, Unavailable, UnreadableFile

#: Bytes that may be taken beside what the libraries took: for any file, and more for a larger one, whose batches are.
MEMORY_BYTES = 96 * 1024 * 1024
MEMORY_LARGEST_BYTES = 640 * 1024 * 1024
MEMORY_PER_FILE_BYTE = 4
#: Bytes of one piece of an answer: a row of vectors, or the labels of some thousand rows.
PIECE_LIMIT_BYTES = 20 * 1024 * 1024
#: Seconds of processor time, for any file and for each byte that it may unpack to.
CPU_S = 5
CPU_BYTES_PER_S = 16 * 1024 * 1024


def map_file(descriptor: int) -> mmap.mmap:
    """The file's bytes, read-only; the descriptor is closed."""
    try:
        return mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)


def release_pages(data: mmap.mmap) -> None:
    """Let go of the pages that were read: they would count as ours although the system has them anyway."""
    data.madvise(mmap.MADV_DONTNEED)


def restrict_for_file(file_bytes: int, unpacked_bytes: int) -> None:
    """Before a file is read: memory and time by its size and by what it may unpack to."""
    memory = min(MEMORY_LARGEST_BYTES, MEMORY_BYTES + MEMORY_PER_FILE_BYTE * file_bytes)
    restrict_process(memory, CPU_S + unpacked_bytes // CPU_BYTES_PER_S)


def restrict_process(memory_bytes: int, cpu_s: int) -> None:
    """From here on: no new files or sockets, nothing written, so much more memory and processor time, no core dump."""
    seconds = int(time.process_time()) + cpu_s
    taken = _address_space()
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NOFILE, 0)
    _limit(resource.RLIMIT_CPU, seconds)
    if sys.platform == "linux":  # elsewhere the address space cannot be limited
        _limit(resource.RLIMIT_AS, taken + memory_bytes)


def _limit(what: int, value: int) -> None:
    _, most = resource.getrlimit(what)
    value = value if most == resource.RLIM_INFINITY else min(value, most)
    # At the soft limit of processor time comes a signal that tells why; so the hard one lies a second later.
    later = value + 1 if what == resource.RLIMIT_CPU and most == resource.RLIM_INFINITY else value
    resource.setrlimit(what, (value, later))


def _address_space() -> int:
    """Bytes of this process's address space, the mapped file included."""
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE


#: Seconds that the process may be silent; its processor time is limited more tightly.
TIMEOUT_S = 120.0
#: All that it gets of our environment, which has secrets in it.
_INHERITED_VARIABLES = ("PATH", "LD_LIBRARY_PATH")
_OWN_VARIABLES = {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}


class SandboxedProcess:
    """A running program that has given up every right.

    Parameters
    ----------
    channel : Connection
        Our end of the pipe.
    process : Popen
        The process.
    patience_s : float
        Seconds that it may take for one answer.
    """

    def __init__(self, channel: Connection, process: subprocess.Popen[bytes], patience_s: float) -> None:
        self._channel, self._process, self._patience_s = channel, process, patience_s

    @classmethod
    def start(
        cls,
        program: str,
        words: Sequence[str],
        *,
        descriptors: Sequence[int] = (),
        variables: Mapping[str, str] | None = None,
        patience_s: float = TIMEOUT_S,
    ) -> Self:
        """Start `python -m program CHANNEL WORDS`; Unavailable where that is not possible.

        It says one word when it has loaded its library and given up its rights.
        """
        ours, theirs = Pipe()
        with theirs:
            command = [sys.executable, "-P", "-m", program, str(theirs.fileno()), *words]
            process = _spawn(command, (theirs.fileno(), *descriptors), variables or {})
        if not ours.poll(TIMEOUT_S) or not _receive_or_empty(ours):
            process.kill()
            ours.close()
            raise Unavailable("The process that reads files did not start.", value=f"status {process.wait()}")
        return cls(ours, process, patience_s)

    def close(self) -> None:
        """Stop it, whatever it is doing."""
        self._channel.close()
        self._process.kill()
        self._process.wait()

    def send(self, data: bytes) -> None:
        """A question. Raises what its death means."""
        try:
            self._channel.send_bytes(data)
        except OSError:
            raise self._death() from None

    def receive(self) -> bytes:
        """The next piece of an answer. Raises what its death means, and TooLarge where none comes."""
        if not self._channel.poll(self._patience_s):
            raise TooLarge(f"The file took its reader longer than {self._patience_s:g} s.", limit=self._patience_s)
        try:
            return self._channel.recv_bytes(PIECE_LIMIT_BYTES)
        except (EOFError, OSError):
            raise self._death() from None

    def _death(self) -> ConsilienceError:
        """What the end of the process says about the file."""
        try:
            status = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:  # alive, but it broke the rules of the exchange
            status = 0
        hint = "The file is damaged, or made to harm: write it again with a current library."
        if status == -signal.SIGXCPU:
            return TooLarge("The file took its reader too much processor time.", hint=hint)
        if status == -signal.SIGKILL:
            return TooLarge("The file took its reader too much memory.", hint=hint)
        ended = f"signal {-status}" if status < 0 else f"status {status}"
        return UnreadableFile("The file made its reader crash.", value=ended, hint=hint)


def _spawn(command: list[str], passed: tuple[int, ...], variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    environment = {name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ}
    # It must find what we found, also in a checkout; `-P` keeps it from looking in the current folder.
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)  # noqa: PTH100 - text in, text out
    try:
        return subprocess.Popen(  # noqa: S603 - our own program, no shell
            command,
            env={**environment, **_OWN_VARIABLES, **variables, "PYTHONPATH": path},
            pass_fds=passed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        raise Unavailable("The process that reads files cannot be started.", value=error) from error


def _receive_or_empty(channel: Connection) -> bytes:
    try:
        return channel.recv_bytes(PIECE_LIMIT_BYTES)
    except (EOFError, OSError):
        return b""
