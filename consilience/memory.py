"""Memory that this process may use."""

import os
from functools import cache
from pathlib import Path

#: Files that hold the memory limit of a container, by control groups version 2 and 1.
LIMIT_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
#: Default share of the memory that one job may plan with. The rest is for file caches, other processes and errors of the plan.
JOB_MEMORY_SHARE = 0.5


def find_memory(limit_files: tuple[Path, ...] = LIMIT_FILES) -> int:
    """Return the memory of this machine in bytes, or the limit of its container if that is lower."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in limit_files:
        try:
            memory = min(memory, int(file.read_text()))
        except (OSError, ValueError):  # no container, or `max`: no limit
            continue
    return memory


@cache
def find_job_memory() -> int:
    """Return the default memory of a job in bytes: half of the available memory when the process first needs it."""
    return int(JOB_MEMORY_SHARE * find_memory())
