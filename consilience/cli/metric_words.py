"""Metrics and maps as words of the command line: `cka`, `cka:debiased=false`, `mutual_knn:k=5,k=10`, `low_rank:rank=32`."""

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from consilience.contract.base import Request
from consilience.contract.maps import MAPS
from consilience.contract.metrics import METRICS
from consilience.errors import InvalidRequest


def parse_metric(word: str) -> dict[str, Any]:
    """The metric as the contract writes it; InvalidRequest names an unknown metric or option and those there are.

    An option given twice is a list.
    """
    return _parse_choice(word, "metric", "metric", METRICS)


def parse_map(word: str) -> dict[str, Any]:
    """The map as the contract writes it; InvalidRequest names an unknown kind or option and those there are."""
    return _parse_choice(word, "map", "kind", MAPS)


def _parse_choice(word: str, what: str, tag: str, kinds: Mapping[str, type[Request]]) -> dict[str, Any]:
    name, _, options = word.partition(":")
    kind = kinds.get(name)
    if kind is None:
        raise _unknown(what, name, kinds)
    allowed = [field for field in kind.model_fields if field != tag]
    choice: dict[str, Any] = {tag: name}
    for part in filter(None, options.split(",")):
        option, value = _parse_option(name, allowed, part)
        choice[option] = [*_many(choice[option]), value] if option in choice else value
    return choice


def with_k(choice: dict[str, Any], k: list[int] | None) -> dict[str, Any]:
    """The metric with this k, where it has one and none was given with its name."""
    if k and "k" in METRICS[choice["metric"]].model_fields:
        return {"k": k, **choice}
    return choice


def _parse_option(name: str, allowed: list[str], part: str) -> tuple[str, Any]:
    option, equals, text = part.partition("=")
    if option not in allowed:
        raise _unknown(f"option of {name}", option, allowed)
    if not equals:
        raise InvalidRequest(f"Option {option} needs a value.", value=part, hint=f"Write {option}=VALUE.")
    return option, _parse_value(text)


def _parse_value(text: str) -> Any:
    """`5` is a number and `false` is false; everything else is a word."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _unknown(what: str, name: str, allowed: Iterable[str]) -> InvalidRequest:
    names = list(allowed)
    close = get_close_matches(name, names, n=1)
    guess = f" Did you mean {close[0]}?" if close else ""
    return InvalidRequest(f"There is no {what} {name!r}.", value=name, hint=f"There are: {', '.join(names)}.{guess}")
