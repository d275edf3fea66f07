"""What the operator decides about workers, read once from the environment (`CONSILIENCE_...`)."""

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
from consilience.settings import PREFIX, Count, Seconds, Surroundings, is_loopback, read_environment

VARIABLE = f"{PREFIX}MODEL_FOLDERS"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _without_password(url: HttpUrl) -> HttpUrl:
    if url.username or url.password:
        raise ValueError("a key goes into `api_key`, not into the URL")
    return url


class EndpointSettings(BaseModel):
    """A server with an OpenAI-compatible API, as the operator writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[HttpUrl, AfterValidator(_without_password)]
    """Where its API begins, with the /v1."""
    model: Annotated[str, Field(min_length=1, max_length=256)]
    """What it calls the model."""
    api_key: SecretStr | None = None
    batch: Annotated[int, Field(ge=1, le=2048)] = 64
    """Texts of one request."""
    timeout_s: Seconds = 60.0
    """For one answer."""
    patience_s: Seconds = 60.0
    """How long a busy server is asked again."""

    def as_rule(self) -> Endpoint:
        """What the loader needs."""
        key = self.api_key.get_secret_value() if self.api_key else None
        return Endpoint(str(self.url), self.model, key, self.batch, self.timeout_s, self.patience_s)


def split_entries(value: object) -> object:
    """Folders with commas between; blanks belong to their names."""
    return [entry.strip() for entry in value.split(",") if entry.strip()] if isinstance(value, str) else value


def parse_folders(entries: tuple[str, ...]) -> tuple[tuple[Path, ...], dict[str, Path]]:
    """The folders that hold models, and those that are one, by its name; ValueError for what is none."""
    folders, named = [], {}
    for entry in entries:
        name, equals, path = entry.rpartition("=")
        folder = Path(path)
        if not folder.is_absolute() or not folder.is_dir():
            raise ValueError(f"{VARIABLE}: {path!r} is no folder here with an absolute path")
        if equals:
            named[_check_name(name)] = folder
        else:
            folders.append(folder)
    return tuple(folders), named


def _check_name(name: str) -> str:
    try:
        parsed = parse_model(f"hf:{name}")
    except InvalidRequest as error:
        raise ValueError(f"{VARIABLE}: {name!r} is no name of a model, such as acme/tiny") from error
    if parsed.revision:
        raise ValueError(f"{VARIABLE}: {name!r} has a revision, which a folder has not")
    return name


def parse_endpoints(value: object) -> object:
    """The endpoints from JSON; ValueError says what is wrong without quoting it: there are keys in it."""
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except ValueError as error:
            raise ValueError(f"no JSON: {error}") from None
    if isinstance(value, dict):
        _check_names(value)
    return value


def _check_names(endpoints: dict[Any, object]) -> None:
    for name in endpoints:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError("the name of an endpoint is letters, digits and . _ -, and begins with a letter or digit")


#: The files of a certificate, as settings call them.
CERTIFICATE = ("ca_file", "cert_file", "key_file")


class Settings(Surroundings):
    """A worker's settings: frozen, each with its unit in its name."""

    queue: QueueName = "align"
    """Which jobs it takes: `extract` are those that run a model."""
    workers: Count = 1
    """How many workers share this machine's cores; each job has its share of threads."""
    beat_s: Seconds = 1.0
    """How often a worker shows that it is alive, and asks whether its job was canceled."""
    stop_grace_s: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 5.0
    """A worker that is asked to stop lets its job finish for this long, then hands it back."""
    schema_timeout_s: Seconds = 60.0
    """How long a worker waits for the service to migrate the database."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d{1,2})?)$")] = "auto"
    """What multiplies for neighbour graphs; auto: a card where there is one and it pays, cuda: a card or nothing."""
    model_folders: Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_entries)] = ()
    """Folders of models, each a subfolder, and `NAME=FOLDER` for a folder that is one model."""
    model_downloads: bool = False
    """Fetch models that are not on this machine from the hub; never with HF_HUB_OFFLINE=1."""
    model_endpoints: Annotated[dict[str, EndpointSettings] | None, NoDecode, BeforeValidator(parse_endpoints)] = None
    """Servers of embeddings by their names, as JSON: `{"tei": {"url": "http://127.0.0.1:8080/v1", "model": "..."}}`."""
    cluster_url: str | None = None
    """A Dask scheduler (`tls://host:port`); None: a job computes everything itself."""
    cluster_ca_file: FilePath | None = None
    cluster_cert_file: FilePath | None = None
    cluster_key_file: FilePath | None = None

    @model_validator(mode="after")
    def _allow_models_safely(self) -> Self:
        """Whoever may name any model could fill the disk with downloads; and folders must be there."""
        if self.model_downloads and "*" in self.models:
            raise ValueError(
                f"{PREFIX}MODEL_DOWNLOADS=true fetches whatever {PREFIX}MODELS allows, and that is everything: "
                f"set {PREFIX}MODELS=hf:sentence-transformers/* or the like too"
            )
        parse_folders(self.model_folders)
        return self

    @model_validator(mode="after")
    def _reach_the_cluster_safely(self) -> Self:
        """Dask's messages are code: beyond this machine both ends must show who they are."""
        if self.cluster_url is None:
            return self
        url = urlsplit(self.cluster_url)
        shown = f"{PREFIX}CLUSTER_URL={self.cluster_url!r}"
        if url.scheme == "tls":
            missing = [name for name in CERTIFICATE if getattr(self, f"cluster_{name}") is None]
            if missing:
                names = ", ".join(f"{PREFIX}CLUSTER_{name.upper()}" for name in missing)
                raise ValueError(f"{shown} needs certificates: set {names} too")
        elif url.scheme != "tcp":
            raise ValueError(f"{shown} is neither tls://host:port nor tcp://127.0.0.1:port")
        elif not is_loopback(url.hostname or ""):
            raise ValueError(
                f"{shown} is not a loopback address, and whoever reaches a scheduler without TLS can run code: use tls://"
            )
        return self

    @property
    def cluster(self) -> ClusterAddress | None:
        """Where the parts of a job run, where it is not the job's own process."""
        if self.cluster_url is None:
            return None
        files = [getattr(self, f"cluster_{name}") for name in CERTIFICATE]
        return ClusterAddress(self.cluster_url, Certificate(*files) if self.cluster_url.startswith("tls:") else None)

    @property
    def rules(self) -> ModelRules:
        """Which models may be run, and where they are."""
        folders, named = parse_folders(self.model_folders)
        endpoints = {name: endpoint.as_rule() for name, endpoint in (self.model_endpoints or {}).items()}
        return ModelRules(self.models, folders, {**find_packaged_models(), **named}, self.model_downloads, endpoints)

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
