"""What the operator decides about workers, read once from the environment (`CONSILIENCE_...`)."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from consilience.errors import StartupError

PREFIX = "CONSILIENCE_"
#: Variables whose value is never shown, not even in an error.
SECRET_FIELDS = frozenset({"redis_url", "database_url"})

Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """A worker's settings: frozen, each with its unit in its name."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", use_attribute_docstrings=True)

    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    database_url: SecretStr | None = None
    """None: a SQLite file in the data folder."""
    data_dir: Path = Path("consilience-data")
    queue: str = "align"
    workers: Count = 1
    """How many workers share this machine's cores; each job has its share of threads."""
    job_timeout_s: Seconds = 3600.0
    """No job runs longer here, whatever its message allows."""
    max_crashes: Count = 3
    """A job whose process died this often has failed."""
    beat_s: Seconds = 1.0
    """How often a worker shows that it is alive, and asks whether its job was canceled."""
    lease_s: Seconds = 6.0
    """After so long without the database a worker stops its job: by then another may have it."""
    stop_grace_s: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 5.0
    """A worker that is asked to stop lets its job finish for this long, then hands it back."""
    schema_timeout_s: Seconds = 60.0
    """How long a worker waits for the service to migrate the database."""

    @property
    def database(self) -> str:
        """The database's URL, with its password."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir.resolve() / 'consilience.db'}"

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
    """The settings that the environment gives; StartupError names each variable that is wrong, never a secret."""
    try:
        return Settings()
    except ValidationError as error:
        faults = [
            _explain(str(fault["loc"][0]), fault["msg"])
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise StartupError("; ".join(faults) + ".") from None  # the cause would print secrets


def _explain(field: str, message: str) -> str:
    variable = PREFIX + field.upper()
    value = "(secret)" if field in SECRET_FIELDS else repr(os.environ.get(variable))
    return f"{variable}={value}: {message}"
