"""What the operator decides about the API, read once from the environment (`CONSILIENCE_...`)."""

from typing import Annotated, Literal

from pydantic import Field

from consilience.surroundings import Count, Seconds, Surroundings, read_environment


class Settings(Surroundings):
    """The service's settings: frozen, each with its unit in its name."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """0: any free port; the log says which."""
    require_keys: bool = False
    """Refuse requests without an API key also before the first key is made; afterwards they are refused anyway."""
    allow_unauthenticated: bool = False
    """Let a service without keys listen on other than loopback addresses."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    upload_limit_bytes: Count = 8 * 2**30
    inline_limit_bytes: Count = 8 * 2**20
    column_limit_bytes: Count = 64 * 2**20
    """The JSON list of a set's `ids` or `groups`: parsed in memory, at up to ten times its size."""
    rows_limit: Count = 20_000_000
    dim_limit: Count = 65_536
    layers_limit: Count = 1024
    job_flops_limit: Annotated[float, Field(gt=0.0)] = 1e15
    wait_limit_s: Seconds = 60.0
    queue_limit: Count = 10_000
    owner_queue_limit: Count = 1000
    """Jobs that wait of one owner of API keys."""
    owner_bytes_limit: Count = 2**40
    """Bytes that the sets of one owner of API keys may have; layers that sets share count for each."""
    rate_limit_per_minute: Count = 6000
    """Requests of one API key, in each API process."""
    upload_idle_limit_s: Seconds = 30.0
    """An upload that sends nothing for this long is given up."""
    connection_idle_limit_s: Seconds = 10.0
    """A connection that has not sent the whole head of a request for this long is closed."""
    concurrent_ingests: Count = 4
    """Uploads that are parsed at the same time; the rest wait for their turn."""
    shutdown_limit_s: Count = 3
    """Open requests have this long to finish when the service stops."""


def read_settings() -> Settings:
    """The settings that the environment gives; StartupError names each variable that is wrong."""
    return read_environment(Settings)
