"""What the operator decides, read once from the environment (`CONSILIENCE_...`)."""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from consilience.errors import StartupError

PREFIX = "CONSILIENCE_"
#: Variables whose value is never shown, not even in an error.
SECRET_FIELDS = frozenset({"redis_url", "database_url"})

Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The service's settings: frozen, each with its unit in its name."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", use_attribute_docstrings=True, allow_inf_nan=False
    )

    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    database_url: SecretStr | None = None
    """None: a SQLite file in the data folder."""
    data_dir: Path = Path("consilience-data")
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """0: any free port; the log says which."""
    allow_unauthenticated: bool = False
    """Let the service, which has no keys yet, listen on other than loopback addresses."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    upload_limit_bytes: Count = 8 * 2**30
    inline_limit_bytes: Count = 8 * 2**20
    rows_limit: Count = 20_000_000
    dim_limit: Count = 65_536
    layers_limit: Count = 1024
    job_timeout_s: Count = 3600
    job_memory_limit_bytes: Count = 64 * 2**30
    job_flops_limit: Annotated[float, Field(gt=0.0)] = 1e17
    wait_limit_s: Seconds = 60.0
    queue_limit: Count = 10_000
    upload_idle_limit_s: Seconds = 30.0
    """An upload that sends nothing for this long is given up."""
    concurrent_ingests: Count = 4
    """Uploads that are parsed at the same time; the rest wait for their turn."""
    shutdown_limit_s: Count = 3
    """Open requests have this long to finish when the service stops."""

    @model_validator(mode="after")
    def _stay_on_loopback(self) -> Self:
        if not (self.allow_unauthenticated or is_loopback(self.host)):
            raise ValueError(
                f"{PREFIX}HOST={self.host!r} is not a loopback address and the service has no keys; "
                f"set {PREFIX}ALLOW_UNAUTHENTICATED=true if everyone who reaches it may use it"
            )
        return self

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


def read_settings() -> Settings:
    """The settings that the environment gives.

    Raises
    ------
    StartupError
        Names each variable that is wrong and its value (never a secret's).
    """
    try:
        return Settings()
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
