"""Sandboxed processes that read untrusted bytes.

The first half runs inside the process and drops its privileges. The second half starts such a process, exchanges messages
with it through a pipe, and turns its exit into an error about the file.
"""

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

#: Memory allowed beyond that of the loaded libraries: for any file, and more for larger files, whose batches are larger.
MEMORY_BYTES = 96 * 1024 * 1024
MEMORY_LARGEST_BYTES = 640 * 1024 * 1024
MEMORY_PER_FILE_BYTE = 4
#: Largest piece of a response: a row of vectors, or the labels of some thousand rows.
PIECE_LIMIT_BYTES = 20 * 1024 * 1024
#: Seconds of processor time for any file, and number of unpacked bytes that add one more second.
CPU_S = 5
CPU_BYTES_PER_S = 16 * 1024 * 1024


def map_file(descriptor: int) -> mmap.mmap:
    """Map a file read-only into memory and close its descriptor."""
    try:
        return mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)


def release_pages(data: mmap.mmap) -> None:
    """Release the pages that were read, so that they do not count as memory of this process."""
    data.madvise(mmap.MADV_DONTNEED)


def restrict_for_file(file_bytes: int, unpacked_bytes: int) -> None:
    """Drop all privileges, with limits of memory and time that fit the file's size and unpacked size."""
    memory = min(MEMORY_LARGEST_BYTES, MEMORY_BYTES + MEMORY_PER_FILE_BYTE * file_bytes)
    restrict_process(memory, CPU_S + unpacked_bytes // CPU_BYTES_PER_S)


def restrict_process(memory_bytes: int, cpu_s: int) -> None:
    """Forbid new files and sockets, writing and core dumps; limit additional memory and processor time."""
    seconds = int(time.process_time()) + cpu_s
    used = _address_space()
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NOFILE, 0)
    _limit(resource.RLIMIT_CPU, seconds)
    if sys.platform == "linux":  # other systems cannot limit the address space
        _limit(resource.RLIMIT_AS, used + memory_bytes)


def _limit(what: int, value: int) -> None:
    _, most = resource.getrlimit(what)
    value = value if most == resource.RLIM_INFINITY else min(value, most)
    # The soft limit of processor time sends a signal that tells the reason; so the hard limit is one second later.
    later = value + 1 if what == resource.RLIMIT_CPU and most == resource.RLIM_INFINITY else value
    resource.setrlimit(what, (value, later))


def _address_space() -> int:
    """Return the size of this process's address space, including the mapped file."""
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE


#: Seconds to wait for a message of the process; its processor time has a lower limit.
TIMEOUT_S = 120.0
#: Environment variables that the process inherits; the others may contain secrets.
_INHERITED_VARIABLES = ("PATH", "LD_LIBRARY_PATH")
_OWN_VARIABLES = {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}


class SandboxedProcess:
    """A running program that has dropped all privileges.

    Parameters
    ----------
    channel : Connection
        The parent's end of the pipe.
    process : Popen
        The process.
    timeout_s : float
        Seconds to wait for one message.
    """

    def __init__(self, channel: Connection, process: subprocess.Popen[bytes], timeout_s: float) -> None:
        self._channel, self._process, self._timeout_s = channel, process, timeout_s

    @classmethod
    def start(
        cls,
        program: str,
        arguments: Sequence[str],
        *,
        descriptors: Sequence[int] = (),
        variables: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Self:
        """Start `python -m program CHANNEL ARGUMENTS` and wait until it has dropped its privileges.

        The program sends one message when it is ready. Raises Unavailable if it does not start.
        """
        ours, theirs = Pipe()
        with theirs:
            command = [sys.executable, "-P", "-m", program, str(theirs.fileno()), *arguments]
            process = _spawn(command, (theirs.fileno(), *descriptors), variables or {})
        if not ours.poll(TIMEOUT_S) or not _receive_or_empty(ours):
            process.kill()
            ours.close()
            raise Unavailable("The process that reads uploaded files did not start.", value=f"status {process.wait()}")
        return cls(ours, process, timeout_s)

    def close(self) -> None:
        """Stop the process immediately."""
        self._channel.close()
        self._process.kill()
        self._process.wait()

    def send(self, data: bytes) -> None:
        """Send a message. Raises the error of `_exit_error` if the process has ended."""
        try:
            self._channel.send_bytes(data)
        except OSError:
            raise self._exit_error() from None

    def receive(self) -> bytes:
        """Receive a message. Raises TooLarge after the timeout, and the error of `_exit_error` if the process has ended."""
        if not self._channel.poll(self._timeout_s):
            raise TooLarge(f"Reading the file took longer than {self._timeout_s:g} s.", limit=self._timeout_s)
        try:
            return self._channel.recv_bytes(PIECE_LIMIT_BYTES)
        except (EOFError, OSError):
            raise self._exit_error() from None

    def _exit_error(self) -> ConsilienceError:
        """Return the error about the file that the exit status of the process stands for."""
        try:
            status = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:  # alive, but it sent an invalid message
            status = 0
        hint = "The file is damaged or malicious: write it again with a current library."
        if status == -signal.SIGXCPU:
            return TooLarge("Reading the file took too much processor time.", hint=hint)
        if status == -signal.SIGKILL:
            return TooLarge("Reading the file took too much memory.", hint=hint)
        ended = f"signal {-status}" if status < 0 else f"status {status}"
        return UnreadableFile("The file made the process that reads it crash.", value=ended, hint=hint)


def _spawn(command: list[str], passed: tuple[int, ...], variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    environment = {name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ}
    # The process must find the same packages, also in a checkout; `-P` keeps the current folder off its path.
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
        raise Unavailable("The process that reads uploaded files cannot be started.", value=error) from error


def _receive_or_empty(channel: Connection) -> bytes:
    try:
        return channel.recv_bytes(PIECE_LIMIT_BYTES)
    except (EOFError, OSError):
        return b""
