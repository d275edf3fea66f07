"""What every process of the service reads from its environment (`CONSILIENCE_...`): where the stores are.

A process adds its own settings in a subclass and reads them once, at its start.
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
#: Variables whose value is never shown, not even in an error.
SECRET_FIELDS = frozenset({"redis_url", "database_url", "webhook_secret", "model_endpoints"})

Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


def split_words(value: object) -> object:
    """What a variable lists, with commas or blanks between."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _check_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(check_pattern, patterns))


class Surroundings(BaseSettings):
    """Where the stores are and how jobs are kept alive: frozen, each with its unit in its name."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", use_attribute_docstrings=True, allow_inf_nan=False
    )

    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    database_url: SecretStr | None = None
    """None: a SQLite file in the data folder."""
    data_dir: Path = Path("consilience-data")
    graph_cache_bytes: Annotated[int, Field(ge=0)] = 8 * 2**30
    """What the neighbour graphs that are kept may take together; 0: none is kept."""
    job_timeout_s: Seconds = 3600.0
    """No job runs longer; one that is planned to is refused."""
    job_memory_limit_bytes: Count | None = None
    """What a job may plan with at most. None: half of this machine's memory, or of its container's."""
    job_flops_limit: Annotated[float, Field(gt=0.0)] = 1e15
    owner_bytes_limit: Count = 2**40
    """Bytes that the sets, datasets and maps of one owner of API keys may have, uploaded or made by jobs; what they share
    counts for each."""
    models: Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_words), AfterValidator(_check_patterns)] = ("*",)
    """Patterns of the models that may be named."""
    max_crashes: Count = 3
    """A job whose process died this often has failed."""
    lease_s: Seconds = 6.0
    """A worker that is not heard for so long has lost its job, and stops it by then."""

    @property
    def job_memory_bytes(self) -> int:
        """What a job may plan with at most."""
        return self.job_memory_limit_bytes or find_job_memory()

    @property
    def database(self) -> str:
        """The database's URL, with its password."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir.resolve() / 'consilience.db'}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


Settings = TypeVar("Settings", bound=Surroundings)


def read_environment(kind: type[Settings]) -> Settings:
    """Read the settings that the environment gives.

    Raises
    ------
    StartupError
        Names each variable that is wrong and its value (never a secret's).
    """
    try:
        return kind()
    except ValidationError as error:
        faults = [
            _explain(tuple(fault["loc"]), fault["msg"])
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise StartupError("; ".join(faults) + ".") from None  # the cause would print secrets


def _explain(location: tuple[int | str, ...], message: str) -> str:
    if not location:
        return message.removeprefix("Value error, ")
    field = str(location[0]).lower().removeprefix(PREFIX.lower())
    variable = PREFIX + field.upper()
    value = "(secret)" if field in SECRET_FIELDS else repr(os.environ.get(variable))
    return f"{variable}={value}: {message}"
