"""Model identifiers: parsing and validation.

This module needs no library that runs models.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Literal, get_args
from urllib.parse import parse_qsl

from pydantic import AfterValidator, Field

from consilience.contract.datasets import ViewKind
from consilience.errors import InvalidRequest, ModelNotAllowed

#: hf: hidden states of a transformer. st: sentence-transformers. timm: a vision model. endpoint: an embedding server that the
#: operator configured. baseline: a model without weights. local: a folder of the operator; its content determines the model.
ModelKind = Literal["hf", "st", "timm", "endpoint", "baseline", "local"]
#: Pooling of the vectors of tokens or patches into one vector. auto: the method that the model was made for.
Pooling = Literal["auto", "mean", "cls", "last"]

IDENTIFIER_LENGTH = 256
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_HUB = rf"{_PART}(?:/{_PART})?(?:@{_PART}(?:/{_PART})*)?"
_PATTERNS: dict[ModelKind, re.Pattern[str]] = {
    "hf": re.compile(_HUB),
    "st": re.compile(_HUB),
    "timm": re.compile(_HUB),
    "endpoint": re.compile(_PART),
    "baseline": re.compile(r"(?:tfidf-svd|random|pixels)(?:\?[a-z]+=\d+(?:&[a-z]+=\d+)*)?"),
    "local": re.compile(r"/?[^/\x00-\x1f\x7f]+(?:/[^/\x00-\x1f\x7f]+)*"),
}
_SHOULD_BE: dict[ModelKind, str] = {
    "hf": "a name such as sentence-transformers/all-MiniLM-L6-v2, optionally followed by @ and a revision",
    "st": "a name such as sentence-transformers/all-MiniLM-L6-v2, optionally followed by @ and a revision",
    "timm": "a name such as vit_base_patch16_224.augreg2_in21k_ft_in1k, optionally followed by @ and a revision",
    "endpoint": "the name of a server that the operator configured",
    "baseline": "tfidf-svd, random or pixels, optionally followed by options such as ?dim=64&seed=1",
    "local": "a path without the parts . and ..",
}
#: Options of each baseline: smallest, largest and default value.
BASELINE_OPTIONS: dict[str, dict[str, tuple[int, int, int]]] = {
    "tfidf-svd": {"dim": (1, 4096, 256), "seed": (0, 2**32 - 1, 0)},
    "random": {"dim": (1, 65_536, 256), "seed": (0, 2**32 - 1, 0)},
    "pixels": {"size": (1, 224, 16)},
}
_TEXTS: frozenset[ViewKind] = frozenset({"text", "code"})
_IMAGES: frozenset[ViewKind] = frozenset({"image"})
_POOLINGS: dict[ModelKind, tuple[Pooling, ...]] = {
    "hf": get_args(Pooling),
    "timm": ("auto", "mean", "cls"),
    "local": get_args(Pooling),
}


@dataclass(frozen=True)
class ModelName:
    """Parts of a model identifier.

    Attributes
    ----------
    kind : library or server that runs the model
    name : name without kind, revision and options
    revision : revision of a model of the hub, which follows the @
    options : options of a baseline, with defaults filled in
    """

    kind: ModelKind
    name: str
    revision: str | None = None
    options: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        """Return the identifier without revision and options, which patterns of the operator match."""
        return f"{self.kind}:{self.name}"

    @property
    def kinds(self) -> frozenset[ViewKind] | None:
        """Kinds of views that the model can embed; None if only its folder determines them."""
        if self.kind == "local":
            return None
        if self.kind == "baseline":
            return {"random": _TEXTS | _IMAGES, "pixels": _IMAGES, "tfidf-svd": _TEXTS}[self.name]
        return _IMAGES if self.kind == "timm" else _TEXTS


def parse_model(identifier: str) -> ModelName:
    """Parse a model identifier.

    Raises
    ------
    InvalidRequest
        The identifier is not valid; the hint has an example.
    """
    kind, colon, rest = identifier.partition(":")
    pattern = _PATTERNS.get(kind)  # type: ignore[call-overload]  # the kind may be unknown
    if not colon or pattern is None:
        short = identifier[:IDENTIFIER_LENGTH]
        raise InvalidRequest(
            f"There is no model kind {kind[:IDENTIFIER_LENGTH]!r}, as in {short!r}; allowed: {', '.join(_PATTERNS)}."
            if colon
            else f"The model identifier {short!r} is not of the form KIND:NAME.",
            value=identifier,
            hint=f"Use one of the kinds {', '.join(_PATTERNS)}, for example hf:sentence-transformers/all-MiniLM-L6-v2.",
        )
    known: ModelKind = kind  # type: ignore[assignment]  # it has a pattern
    strange = known == "local" and {".", ".."} & set(rest.split("/"))
    if len(identifier) > IDENTIFIER_LENGTH or not pattern.fullmatch(rest) or ".." in rest.split("/") or strange:
        raise InvalidRequest(
            f"The model identifier is not valid: after {kind}: it must have {_SHOULD_BE[known]}.",
            value=identifier,
            limit=IDENTIFIER_LENGTH,
        )
    if known == "baseline":
        return _parse_baseline(identifier, rest)
    if known in {"endpoint", "local"}:
        return ModelName(known, rest)
    name, _, revision = rest.partition("@")
    return ModelName(known, name, revision or None)


def _parse_baseline(identifier: str, rest: str) -> ModelName:
    name, _, query = rest.partition("?")
    allowed = BASELINE_OPTIONS[name]
    options = {option: default for option, (_, _, default) in allowed.items()}
    for option, text in parse_qsl(query):
        low, high, _ = allowed.get(option, (0, -1, 0))
        if not low <= int(text[:16]) <= high:
            ranges = ", ".join(f"{word} from {low} to {high}" for word, (low, high, _) in allowed.items())
            raise InvalidRequest(
                f"The options of the baseline {name} are not valid; allowed: {ranges}.", value=identifier, limit=ranges
            )
        options[option] = int(text)
    return ModelName("baseline", name, options=tuple(options.items()))


def check_model(identifier: str, allowed: Collection[str]) -> ModelName:
    """Parse a model identifier and check that the operator allows it.

    Parameters
    ----------
    identifier : str
        Identifier in the request.
    allowed : collection of str
        Patterns with ``*`` and ``?``; one that fits the identifier, or what it is without revision and options, will do.

    Raises
    ------
    InvalidRequest
        It is no identifier.
    ModelNotAllowed
        No pattern fits.
    """
    name = parse_model(identifier)
    if not any(fnmatchcase(word, pattern) for word in (identifier, str(name)) for pattern in allowed):
        raise ModelNotAllowed(
            f"The operator does not allow the model {name}.",
            value=identifier,
            limit=list(allowed),
            hint="Use a model that matches one of these patterns, or ask the operator to add it to CONSILIENCE_MODELS.",
        )
    return name


def check_pattern(pattern: str) -> str:
    """Validate a pattern of `check_model`; ValueError if it cannot match any identifier."""
    if pattern != "*" and (pattern.partition(":")[0] not in _PATTERNS or pattern.endswith(":")):
        raise ValueError(
            f"the pattern {pattern!r} matches no model; write, for example, hf:sentence-transformers/*, or * for all models"
        )
    return pattern


def check_pooling(name: ModelName, pooling: Pooling) -> None:
    """Raise InvalidRequest if the model does not support the pooling."""
    poolings = _POOLINGS.get(name.kind, ("auto",))
    if pooling not in poolings:
        raise InvalidRequest(
            f"The model {name} does not support the pooling {pooling!r}; allowed: {', '.join(poolings)}.",
            value=pooling,
            limit=list(poolings),
        )


def _check(identifier: str) -> str:
    try:
        parse_model(identifier)
    except InvalidRequest as error:
        raise ValueError(f"{error}") from error
    return identifier


ModelIdentifier = Annotated[
    str,
    Field(
        min_length=1,
        max_length=IDENTIFIER_LENGTH,
        examples=["hf:sentence-transformers/all-MiniLM-L6-v2", "baseline:tfidf-svd", "endpoint:tei"],
        description="Model identifier KIND:NAME. The kinds are hf, st, timm, endpoint, baseline and local.",
    ),
    AfterValidator(_check),
]
