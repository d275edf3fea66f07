"""Settings that all processes of the service share, read from environment variables `CONSILIENCE_...`.

Each program adds its own settings in a subclass and reads them once, when it starts.
"""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from consilience.contract.models import check_pattern
from consilience.errors import StartupError
from consilience.memory import find_job_memory

PREFIX = "CONSILIENCE_"
#: Settings whose value is never shown, not even in an error.
SECRET_FIELDS = frozenset({"redis_url", "database_url", "webhook_secret", "model_endpoints"})

Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


def split_words(value: object) -> object:
    """Split a list that is separated by commas or blanks."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _check_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(check_pattern, patterns))


class SharedSettings(BaseSettings):
    """Settings of the stores and of jobs. They are immutable, and each name states its unit."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", use_attribute_docstrings=True, allow_inf_nan=False
    )

    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    database_url: SecretStr | None = None
    """URL of the database. Default: a SQLite file in the data folder."""
    data_dir: Path = Path("consilience-data")
    graph_cache_bytes: Annotated[int, Field(ge=0)] = 8 * 2**30
    """Maximum size of the cache of neighbour graphs, in bytes. 0 turns the cache off."""
    job_timeout_s: Seconds = 3600.0
    """Time limit of a job. A request whose plan exceeds the limit is rejected."""
    job_memory_limit_bytes: Count | None = None
    """Maximum memory that a job may plan with. Default: half of the memory of this machine or container."""
    job_flops_limit: Annotated[float, Field(gt=0.0)] = 1e15
    owner_bytes_limit: Count = 2**40
    """Maximum size of all sets, datasets and maps of one owner of API keys, in bytes. Content that several of them share counts
    for each."""
    models: Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_words), AfterValidator(_check_patterns)] = ("*",)
    """Patterns of the models that requests may name."""
    max_crashes: Count = 3
    """Number of crashes after which a job fails."""
    lease_s: Seconds = 6.0
    """Time without a heartbeat after which a worker loses its job."""

    @property
    def job_memory_bytes(self) -> int:
        """Maximum memory that a job may plan with, in bytes."""
        return self.job_memory_limit_bytes or find_job_memory()

    @property
    def database(self) -> str:
        """URL of the database, including its password."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir.resolve() / 'consilience.db'}"


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


SettingsT = TypeVar("SettingsT", bound=SharedSettings)


def read_environment(kind: type[SettingsT]) -> SettingsT:
    """Read settings from the environment.

    Raises
    ------
    StartupError
        A variable is invalid. The message names each one and its value, except for secrets.
    """
    try:
        return kind()
    except ValidationError as error:
        problems = [
            _explain(tuple(problem["loc"]), problem["msg"])
            for problem in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise StartupError("; ".join(problems) + ".") from None  # the cause would show secrets


def _explain(location: tuple[int | str, ...], message: str) -> str:
    if not location:
        return message.removeprefix("Value error, ")
    field = str(location[0]).lower().removeprefix(PREFIX.lower())
    variable = PREFIX + field.upper()
    value = "(secret)" if field in SECRET_FIELDS else repr(os.environ.get(variable))
    return f"{variable}={value}: {message}"
