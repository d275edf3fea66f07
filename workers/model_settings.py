"""How the operator writes down where models are: folders, and servers of embeddings."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl, SecretStr

from consilience.contract.models import parse_model
from consilience.errors import InvalidRequest
from consilience.models.rules import Endpoint
from consilience.surroundings import PREFIX, Seconds

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
