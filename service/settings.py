"""What the operator decides about the API, read once from the environment (`CONSILIENCE_...`)."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from consilience.surroundings import PREFIX, Count, Seconds, Surroundings, is_loopback, read_environment


class Settings(Surroundings):
    """The service's settings: frozen, each with its unit in its name."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """0: any free port; the log says which."""
    allow_unauthenticated: bool = False
    """Let the service, which has no keys yet, listen on other than loopback addresses."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    upload_limit_bytes: Count = 8 * 2**30
    inline_limit_bytes: Count = 8 * 2**20
    column_limit_bytes: Count = 64 * 2**20
    """The JSON list of a set's `ids` or `groups`: parsed in memory, at up to ten times its size."""
    rows_limit: Count = 20_000_000
    dim_limit: Count = 65_536
    layers_limit: Count = 1024
    job_memory_limit_bytes: Count = 64 * 2**30
    job_flops_limit: Annotated[float, Field(gt=0.0)] = 1e15
    wait_limit_s: Seconds = 60.0
    queue_limit: Count = 10_000
    upload_idle_limit_s: Seconds = 30.0
    """An upload that sends nothing for this long is given up."""
    connection_idle_limit_s: Seconds = 10.0
    """A connection that has not sent the whole head of a request for this long is closed."""
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


def read_settings() -> Settings:
    """The settings that the environment gives; StartupError names each variable that is wrong."""
    return read_environment(Settings)
