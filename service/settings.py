"""Settings of the API and of deliveries, read once from environment variables `CONSILIENCE_...`."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, IPvAnyNetwork, SecretStr
from pydantic_settings import NoDecode

from consilience.settings import Count, Seconds, SharedSettings, read_environment, split_words
from service.deliveries.http import Destinations, parse_secret

#: Maximum size of a message to the process that decodes images.
IMAGE_BYTES_MAX = 19 * 2**20
HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")


def _check_secrets(secrets: SecretStr | None) -> SecretStr | None:
    """Validate every secret; an empty variable counts as not set."""
    words = secrets.get_secret_value().split() if secrets else []
    for each in words:
        parse_secret(each)
    return secrets if words else None


def _check_hosts(names: tuple[str, ...]) -> tuple[str, ...]:
    """Validate the host names. A wildcard `*` is not allowed; an operator who needs it can create an API key."""
    for name in names:
        if not HOST.fullmatch(name):
            raise ValueError(f"{name!r} is not a host name; give a name without a port, such as scores.example.org")
    return tuple(name.lower().removesuffix(".") for name in names)


class DeliverySettings(SharedSettings):
    """Settings that the API and the delivery process share. Each name ends with its unit."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    webhook_secret: Annotated[SecretStr | None, AfterValidator(_check_secrets)] = None
    """Secrets that sign webhooks, newest first; each adds a signature. None: requests cannot have a webhook."""
    webhook_allow: Annotated[tuple[IPvAnyNetwork, ...], NoDecode, BeforeValidator(split_words)] = ()
    """Networks besides the public internet that webhooks can be sent to."""
    webhook_timeout_s: Seconds = 15.0
    """Maximum response time of a receiver, in seconds."""
    job_retention_days: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 90.0
    """Days after which a finished job is deleted; 0 keeps jobs forever."""
    collect_interval_s: Seconds = 600.0
    """Interval of garbage collection, in seconds."""

    @property
    def destinations(self) -> Destinations:
        """Destinations that webhooks can be sent to."""
        return Destinations(self.webhook_allow)

    @property
    def webhook_keys(self) -> tuple[bytes, ...]:
        """Keys that sign webhooks."""
        return tuple(map(parse_secret, self.webhook_secret.get_secret_value().split())) if self.webhook_secret else ()


class ServiceSettings(DeliverySettings):
    """Settings of the service. Each name ends with its unit."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 chooses a free port, which the log contains."""
    require_keys: bool = False
    """Whether requests without an API key are refused even before the first key exists. After that, they are always refused."""
    allow_unauthenticated: bool = False
    """Whether a service without keys can listen on addresses other than loopback addresses."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_words), AfterValidator(_check_hosts)] = ()
    """Host names that requests without a key can use, besides addresses, localhost and names without a dot."""

    upload_limit_bytes: Count = 8 * 2**30
    inline_limit_bytes: Count = 8 * 2**20
    column_limit_bytes: Count = 64 * 2**20
    """Maximum size of the JSON list of `ids` or `groups`. Parsing takes up to ten times as much memory."""
    rows_limit: Count = 20_000_000
    dim_limit: Count = 65_536
    layers_limit: Count = 1024
    items_limit: Count = 500_000
    """Maximum number of items of a dataset. Their ids are in memory during the upload."""
    text_limit_bytes: Count = 2**20
    image_limit_bytes: Annotated[int, Field(gt=0, le=IMAGE_BYTES_MAX)] = 16 * 2**20
    image_pixels_limit: Count = 12_500_000
    """Maximum number of pixels of an image. Decoding an image of this size takes up to 250 MB."""
    study_cells_limit: Count = 10_000
    """Maximum number of model pairs of a study."""
    wait_limit_s: Seconds = 60.0
    queue_limit: Count = 10_000
    owner_queue_limit: Count = 1000
    """Maximum number of queued jobs of one owner of API keys."""
    rate_limit_per_minute: Count = 6000
    """Maximum number of requests per minute with one API key, in each API process."""
    upload_idle_limit_s: Seconds = 30.0
    """Seconds without data after which an upload is aborted."""
    connection_idle_limit_s: Seconds = 10.0
    """Seconds after which a connection is closed that has not sent the complete headers of a request."""
    concurrent_ingests: Count = 4
    """Number of uploads that are parsed at the same time."""
    shutdown_limit_s: Count = 3
    """Seconds that open requests have to finish when the service stops."""


def read_settings() -> ServiceSettings:
    """Read the settings from the environment; StartupError lists each variable that is not valid."""
    return read_environment(ServiceSettings)
