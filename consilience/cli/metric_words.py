"""Metrics as words of the command line: `cka`, `cka:debiased=false`, `mutual_knn:k=5,k=10`."""

import json
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from consilience.contract.metric import Metric
from consilience.contract.metrics import METRICS
from consilience.errors import InvalidRequest


def parse_metric(word: str) -> dict[str, Any]:
    """The metric as the contract writes it; InvalidRequest names an unknown metric or option and those there are.

    An option given twice is a list.
    """
    name, _, options = word.partition(":")
    kind = METRICS.get(name)
    if kind is None:
        raise _unknown("metric", name, METRICS)
    choice: dict[str, Any] = {"metric": name}
    for part in filter(None, options.split(",")):
        option, value = _parse_option(kind, part)
        choice[option] = [*_many(choice[option]), value] if option in choice else value
    return choice


def with_k(choice: dict[str, Any], k: list[int] | None) -> dict[str, Any]:
    """The metric with this k, where it has one and none was given with its name."""
    if k and "k" in METRICS[choice["metric"]].model_fields:
        return {"k": k, **choice}
    return choice


def _parse_option(kind: type[Metric], part: str) -> tuple[str, Any]:
    option, equals, text = part.partition("=")
    allowed = [name for name in kind.model_fields if name != "metric"]
    if option not in allowed:
        raise _unknown(f"option of {kind.model_fields['metric'].default}", option, allowed)
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
