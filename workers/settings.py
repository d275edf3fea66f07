"""Settings of workers, read once from environment variables `CONSILIENCE_...`."""

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FilePath,
    HttpUrl,
    SecretStr,
    model_validator,
)
from pydantic_settings import NoDecode

from consilience.contract.jobs import QueueName
from consilience.contract.models import parse_model
from consilience.errors import InvalidRequest
from consilience.execution.addresses import Certificate, ClusterAddress
from consilience.models.rules import Endpoint, ModelRules, find_packaged_models
from consilience.settings import PREFIX, Count, Seconds, SharedSettings, is_loopback, read_environment

VARIABLE = f"{PREFIX}MODEL_FOLDERS"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _without_password(url: HttpUrl) -> HttpUrl:
    if url.username or url.password:
        raise ValueError("the URL must not contain a user name or password; set `api_key` instead")
    return url


class EndpointSettings(BaseModel):
    """Server with an OpenAI-compatible API, as given by the operator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[HttpUrl, AfterValidator(_without_password)]
    """Base URL of the API, including /v1."""
    model: Annotated[str, Field(min_length=1, max_length=256)]
    """Name of the model on the server."""
    api_key: SecretStr | None = None
    batch: Annotated[int, Field(ge=1, le=2048)] = 64
    """Number of texts per request."""
    timeout_s: Seconds = 60.0
    """Timeout of one request."""
    retry_timeout_s: Seconds = 60.0
    """Time for which requests to a busy server are repeated."""

    def as_rule(self) -> Endpoint:
        """Convert to the rule of the model loader."""
        key = self.api_key.get_secret_value() if self.api_key else None
        return Endpoint(str(self.url), self.model, key, self.batch, self.timeout_s, self.retry_timeout_s)


def split_entries(value: object) -> object:
    """Split a list of folders at commas. Blanks are part of the names."""
    return [entry.strip() for entry in value.split(",") if entry.strip()] if isinstance(value, str) else value


def parse_folders(entries: tuple[str, ...]) -> tuple[tuple[Path, ...], dict[str, Path]]:
    """Return the folders that contain models, and the folders of single models by name. Raise ValueError for invalid ones."""
    folders, named = [], {}
    for entry in entries:
        name, equals, path = entry.rpartition("=")
        folder = Path(path)
        if not folder.is_absolute() or not folder.is_dir():
            raise ValueError(f"{VARIABLE}: {path!r} is not the absolute path of an existing folder")
        if equals:
            named[_check_name(name)] = folder
        else:
            folders.append(folder)
    return tuple(folders), named


def _check_name(name: str) -> str:
    try:
        parsed = parse_model(f"hf:{name}")
    except InvalidRequest as error:
        raise ValueError(f"{VARIABLE}: {name!r} is not the name of a model, such as acme/tiny") from error
    if parsed.revision:
        raise ValueError(f"{VARIABLE}: {name!r} has a revision, which folders do not support")
    return name


def parse_endpoints(value: object) -> object:
    """Parse endpoints from JSON. Raise ValueError without quoting the value, which contains keys."""
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except ValueError as error:
            raise ValueError(f"the value is not JSON: {error}") from None
    if isinstance(value, dict):
        _check_names(value)
    return value


def _check_names(endpoints: dict[Any, object]) -> None:
    for name in endpoints:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(
                "names of endpoints must consist of letters, digits and . _ -, and start with a letter or digit"
            )


#: Names of the settings of certificate files.
CERTIFICATE = ("ca_file", "cert_file", "key_file")


class WorkerSettings(SharedSettings):
    """Settings of a worker. They are immutable, and each name states its unit."""

    queue: QueueName = "align"
    """Queue of the worker. Jobs that run a model are in `extract`."""
    workers: Count = 1
    """Number of workers that share the cores of this machine."""
    beat_s: Seconds = 1.0
    """Interval of heartbeats, which also detect that the job was canceled."""
    stop_grace_s: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 5.0
    """Time that a stopping worker lets its job finish before it hands the job back."""
    schema_timeout_s: Seconds = 60.0
    """Time that a worker waits for the service to migrate the database."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d{1,2})?)$")] = "auto"
    """Device for neighbour search: auto, cpu, cuda or cuda:N. `auto` uses a GPU if there is one and it is faster."""
    model_folders: Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_entries)] = ()
    """Folders whose subfolders are models, and `NAME=FOLDER` for the folder of a single model."""
    model_downloads: bool = False
    """Download missing models from the hub. HF_HUB_OFFLINE=1 turns this off."""
    model_endpoints: Annotated[dict[str, EndpointSettings] | None, NoDecode, BeforeValidator(parse_endpoints)] = None
    """Embedding servers by name, as JSON: `{"tei": {"url": "http://127.0.0.1:8080/v1", "model": "..."}}`."""
    cluster_url: str | None = None
    """URL of a Dask scheduler (`tls://host:port`). Default: jobs run in the worker alone."""
    cluster_ca_file: FilePath | None = None
    cluster_cert_file: FilePath | None = None
    cluster_key_file: FilePath | None = None

    @model_validator(mode="after")
    def _allow_models_safely(self) -> Self:
        """Refuse downloads of arbitrary models, which could fill the disk, and folders that do not exist."""
        if self.model_downloads and "*" in self.models:
            raise ValueError(
                f"{PREFIX}MODEL_DOWNLOADS=true downloads all models that {PREFIX}MODELS allows, which is any model: "
                f"restrict {PREFIX}MODELS, for example to hf:sentence-transformers/*"
            )
        parse_folders(self.model_folders)
        return self

    @model_validator(mode="after")
    def _reach_the_cluster_safely(self) -> Self:
        """Require TLS for clusters on other machines, since Dask's messages can run code."""
        if self.cluster_url is None:
            return self
        url = urlsplit(self.cluster_url)
        setting = f"{PREFIX}CLUSTER_URL={self.cluster_url!r}"
        if url.scheme == "tls":
            missing = [name for name in CERTIFICATE if getattr(self, f"cluster_{name}") is None]
            if missing:
                names = ", ".join(f"{PREFIX}CLUSTER_{name.upper()}" for name in missing)
                raise ValueError(f"{setting} requires certificates: set {names} too")
        elif url.scheme != "tcp":
            raise ValueError(f"{setting} must be tls://host:port or tcp://127.0.0.1:port")
        elif not is_loopback(url.hostname or ""):
            raise ValueError(
                f"{setting} is not a loopback address. Anyone who can connect to a scheduler without TLS can run code: use tls://"
            )
        return self

    @property
    def cluster(self) -> ClusterAddress | None:
        """Address of the cluster for long computations, or None."""
        if self.cluster_url is None:
            return None
        files = [getattr(self, f"cluster_{name}") for name in CERTIFICATE]
        return ClusterAddress(self.cluster_url, Certificate(*files) if self.cluster_url.startswith("tls:") else None)

    @property
    def rules(self) -> ModelRules:
        """Models that may be run, and their locations."""
        folders, named = parse_folders(self.model_folders)
        endpoints = {name: endpoint.as_rule() for name, endpoint in (self.model_endpoints or {}).items()}
        return ModelRules(self.models, folders, {**find_packaged_models(), **named}, self.model_downloads, endpoints)

    @property
    def threads(self) -> int:
        """Number of threads per job: the cores of this machine, shared by its workers."""
        return max(1, count_cores() // self.workers)


def count_cores(quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return the number of cores that this process may use, by its affinity and the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text().split()
        return min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no container, or `max`: no quota
        return cores


def read_settings() -> WorkerSettings:
    """Read the settings from the environment. Raise StartupError, which names each invalid variable."""
    return read_environment(WorkerSettings)
