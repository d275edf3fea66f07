"""Opening a model by its identifier. Loaders are imported on demand, because their libraries are large."""

from contextlib import suppress
from importlib import import_module
from typing import Any

from consilience.contract.models import ModelKind, ModelName, Pooling, check_model, check_pooling, parse_model
from consilience.errors import UnsupportedFormat
from consilience.models.base import EmbeddingModel, report_import_errors, require
from consilience.models.files import ModelSource, find_model_source, read_json
from consilience.models.rules import ModelRules, find_endpoint

#: The loader, and the modules that transformers imports at the first model, which takes seconds.
_TRANSFORMERS = (
    "consilience.models.transformer",
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
)
LIBRARIES: dict[ModelKind, tuple[str, ...]] = {
    "hf": _TRANSFORMERS,
    "local": _TRANSFORMERS,
    "st": ("consilience.models.sentence", *_TRANSFORMERS, "sentence_transformers"),
    "timm": ("consilience.models.vision", "timm"),
}


def open_model(
    identifier: str, rules: ModelRules, *, pooling: Pooling = "auto", max_length: int | None = None, device: str = "cpu"
) -> EmbeddingModel:
    """Open the model with the given identifier.

    Parameters
    ----------
    identifier : str
        Such as ``hf:sentence-transformers/all-MiniLM-L6-v2``.
    rules : ModelRules
        Models that the operator allows and provides.
    pooling : Pooling
        Way to combine the tokens of an item into one vector.
    max_length : int or None
        Largest number of tokens of a text; None: the model's own limit.
    device : str
        ``cpu`` or ``cuda:0``.

    Raises
    ------
    InvalidRequest
        The identifier is invalid, the model does not have the pooling, or max_length is out of range.
    ModelNotAllowed, UnknownModel
        The operator does not allow the model, or it was not found.
    UnsupportedFormat, UnreadableFile
        The weights are pickles, or the model's files are damaged.
    MissingExtra
        A library is not installed; the hint has the command to install it.
    Unavailable, EndpointFailed
        The hub or the embedding server does not respond.
    """
    name = check_model(identifier, rules.allowed)
    check_pooling(name, pooling)
    with report_import_errors(identifier):
        return _open(name, identifier, rules, pooling, max_length, device)


def _open(  # noqa: PLR0917 - the parts of the request
    name: ModelName, identifier: str, rules: ModelRules, pooling: Pooling, max_length: int | None, device: str
) -> EmbeddingModel:
    if name.kind == "baseline":
        return _open_baseline(name, identifier)
    if name.kind == "endpoint":
        from consilience.models.endpoint import open_endpoint  # noqa: PLC0415 - loads the HTTP client

        return open_endpoint(identifier, name.name, rules)
    source = find_model_source(name, identifier, rules)
    kind = _find_kind(source) if name.kind == "local" else name.kind
    check_pooling(ModelName(kind, name.name), pooling)
    return _open_folder(kind, source, pooling, max_length, device)


def _find_kind(source: ModelSource) -> ModelKind:
    """Return the kind of the library that loads a folder; sentence-transformers models are opened as `hf`, with all layers."""
    config = read_json(source.folder / "config.json", source.name)
    keys = config.keys() if isinstance(config, dict) else ()
    if "model_type" in keys:
        return "hf"
    if "architecture" in keys:
        return "timm"
    raise UnsupportedFormat(
        f"{source.name} is a model of an unknown kind.",
        value=source.name,
        hint="Its config.json needs the field `model_type` (transformers) or `architecture` (timm).",
    )


def _open_folder(
    kind: ModelKind, source: ModelSource, pooling: Pooling, max_length: int | None, device: str
) -> EmbeddingModel:
    if kind == "timm":
        require("vision", source.name, "torch", "timm", "PIL")
        from consilience.models.vision import VisionModel  # noqa: PLC0415 - loads torch and timm

        return VisionModel(source, pooling, device)
    if kind == "st":
        require("models", source.name, "torch", "transformers", "sentence_transformers")
        from consilience.models.sentence import SentenceModel  # noqa: PLC0415 - loads torch and sentence-transformers

        return SentenceModel(source, max_length, device)
    require("models", source.name, "torch", "transformers")
    from consilience.models.transformer import TransformerModel  # noqa: PLC0415 - loads torch and transformers

    return TransformerModel(source, pooling, max_length, device)


def _open_baseline(name: ModelName, identifier: str) -> EmbeddingModel:
    options = dict(name.options)
    if name.name == "random":
        from consilience.models.random_rows import RandomRowsModel  # noqa: PLC0415 - as the others

        return RandomRowsModel(identifier, **options)
    if name.name == "pixels":
        require("vision", str(name), "PIL")
        from consilience.models.pixels import PixelModel  # noqa: PLC0415 - loads Pillow

        return PixelModel(identifier, **options)
    require("models", str(name), "sklearn")
    from consilience.models.tfidf import TfidfSvdModel  # noqa: PLC0415 - loads scikit-learn

    return TfidfSvdModel(identifier, **options)


def load_libraries(identifier: str) -> None:
    """Import the libraries of a model if they are installed, without starting a thread or loading the model."""
    modules = LIBRARIES.get(parse_model(identifier).kind, ())
    with suppress(ImportError):
        if modules:
            import_module("consilience.models.torchvision_ops").patch_torchvision()
        for module in modules:
            import_module(module)


def fingerprint(identifier: str, rules: ModelRules) -> dict[str, Any]:
    """Return the values that determine a model's rows, without loading it. Errors as in `open_model`."""
    name = check_model(identifier, rules.allowed)
    if name.kind == "baseline":
        return {"model": str(name), "options": dict(name.options)}
    if name.kind == "endpoint":
        endpoint = find_endpoint(identifier, name.name, rules)
        return {"model": str(name), "url": endpoint.url, "name": endpoint.model}
    return {"kind": name.kind, "revision": find_model_source(name, identifier, rules).revision}
