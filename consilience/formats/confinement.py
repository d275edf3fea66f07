"""What a process gives up before it reads a stranger's bytes."""

import mmap
import os
import resource
import sys
import time
from pathlib import Path

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


def release(data: mmap.mmap) -> None:
    """Let go of the pages that were read: they would count as ours although the system has them anyway."""
    data.madvise(mmap.MADV_DONTNEED)


def confine(file_bytes: int, unpacked_bytes: int) -> None:
    """Before a file is read: memory and time by its size and by what it may unpack to."""
    memory = min(MEMORY_LARGEST_BYTES, MEMORY_BYTES + MEMORY_PER_FILE_BYTE * file_bytes)
    give_up(memory, CPU_S + unpacked_bytes // CPU_BYTES_PER_S)


def give_up(memory_bytes: int, cpu_s: int) -> None:
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
