"""What the operator decides about workers, read once from the environment (`CONSILIENCE_...`)."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field

from consilience.surroundings import Count, Seconds, Surroundings, read_environment


class Settings(Surroundings):
    """A worker's settings: frozen, each with its unit in its name."""

    queue: str = "align"
    workers: Count = 1
    """How many workers share this machine's cores; each job has its share of threads."""
    beat_s: Seconds = 1.0
    """How often a worker shows that it is alive, and asks whether its job was canceled."""
    stop_grace_s: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 5.0
    """A worker that is asked to stop lets its job finish for this long, then hands it back."""
    schema_timeout_s: Seconds = 60.0
    """How long a worker waits for the service to migrate the database."""

    @property
    def threads(self) -> int:
        """Threads of one job: this machine's cores, shared by its workers."""
        return max(1, count_cores() // self.workers)


def count_cores(quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """The cores that this process may use: those of its affinity, or fewer under a container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text().split()
        return min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no container, or `max`: no quota
        return cores


def read_settings() -> Settings:
    """The settings that the environment gives; StartupError names each variable that is wrong."""
    return read_environment(Settings)
