"""What the operator decides about the API and deliveries, read once from the environment (`CONSILIENCE_...`)."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, IPvAnyNetwork, SecretStr
from pydantic_settings import NoDecode

from consilience.settings import Count, Seconds, SharedSettings, read_environment, split_words
from service.deliveries.http import Destinations, parse_secret

#: What fits into one message to the process that decodes.
IMAGE_BYTES_MAX = 19 * 2**20
HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")


def _check_secrets(secrets: SecretStr | None) -> SecretStr | None:
    """Each must be one; a variable that is set to nothing is not set."""
    words = secrets.get_secret_value().split() if secrets else []
    for each in words:
        parse_secret(each)
    return secrets if words else None


def _check_hosts(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names alone, and no `*`: whoever wants every name to do can make a key."""
    for name in names:
        if not HOST.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a host, such as scores.example.org, without a port")
    return tuple(name.lower().removesuffix(".") for name in names)


class DeliverySettings(SharedSettings):
    """What the API and deliveries must agree on: frozen, each with its unit in its name."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    webhook_secret: Annotated[SecretStr | None, AfterValidator(_check_secrets)] = None
    """Signs webhooks; several, the newest first, sign side by side. None: requests may not name a webhook."""
    webhook_allow: Annotated[tuple[IPvAnyNetwork, ...], NoDecode, BeforeValidator(split_words)] = ()
    """Networks besides the public internet that webhooks may go to."""
    webhook_timeout_s: Seconds = 15.0
    """A receiver answers in this time."""
    job_retention_days: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 90.0
    """A finished job is deleted after so long; 0: never."""
    collect_interval_s: Seconds = 600.0
    """How often expired jobs and blobs that nobody uses are looked for."""

    @property
    def destinations(self) -> Destinations:
        """Where webhooks may go."""
        return Destinations(self.webhook_allow)

    @property
    def webhook_keys(self) -> tuple[bytes, ...]:
        """The keys that sign webhooks."""
        return tuple(map(parse_secret, self.webhook_secret.get_secret_value().split())) if self.webhook_secret else ()


class ServiceSettings(DeliverySettings):
    """The service's settings: frozen, each with its unit in its name."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """0: any free port; the log says which."""
    require_keys: bool = False
    """Refuse requests without an API key also before the first key is made; afterwards they are refused anyway."""
    allow_unauthenticated: bool = False
    """Let a service without keys listen on other than loopback addresses."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_words), AfterValidator(_check_hosts)] = ()
    """Names by which those without a key may ask, besides addresses, localhost and names without a dot."""

    upload_limit_bytes: Count = 8 * 2**30
    inline_limit_bytes: Count = 8 * 2**20
    column_limit_bytes: Count = 64 * 2**20
    """The JSON list of a set's `ids` or `groups`: parsed in memory, at up to ten times its size."""
    rows_limit: Count = 20_000_000
    dim_limit: Count = 65_536
    layers_limit: Count = 1024
    items_limit: Count = 500_000
    """Items of a dataset: their ids are in memory while it is uploaded."""
    text_limit_bytes: Count = 2**20
    image_limit_bytes: Annotated[int, Field(gt=0, le=IMAGE_BYTES_MAX)] = 16 * 2**20
    image_pixels_limit: Count = 12_500_000
    """A larger picture is not decoded; one of this size takes up to 250 MB."""
    study_cells_limit: Count = 10_000
    """Pairs of models of one study."""
    wait_limit_s: Seconds = 60.0
    queue_limit: Count = 10_000
    owner_queue_limit: Count = 1000
    """Jobs that wait of one owner of API keys."""
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


def read_settings() -> ServiceSettings:
    """The settings that the environment gives; StartupError names each variable that is wrong."""
    return read_environment(ServiceSettings)
