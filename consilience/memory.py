"""How much memory this machine has, as far as this process may use it."""

import os
from pathlib import Path

#: Where a container's limit stands: of control groups version 2 and 1.
LIMIT_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
#: What one job may plan with by default, of all memory: the rest is for caches of files, for the other processes and for error.
JOB_SHARE = 0.5


def find_memory(limit_files: tuple[Path, ...] = LIMIT_FILES) -> int:
    """Bytes of memory: this machine's, or a container's limit where that is lower."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in limit_files:
        try:
            memory = min(memory, int(file.read_text()))
        except (OSError, ValueError):  # no container, or `max`: no limit
            continue
    return memory


def find_job_memory() -> int:
    """Bytes that a job may plan with where nobody says how many: half of the memory."""
    return int(JOB_SHARE * find_memory())
