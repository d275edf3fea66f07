"""Models and questions of a study as words of the command line."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consilience.client.sources import EMBEDDING_ID, name_of
from consilience.errors import InputError, InvalidRequest

#: What each kind of question can be told after its key, and which of it are lists or numbers.
TREND = ("of", "against", "value", "covariates", "bins", "level")
FACTOR = ("of", "within", "value", "alternative", "independent")
_LABELLED = re.compile(r"([A-Za-z0-9][A-Za-z0-9 ._:@+-]*)=(.+)", re.DOTALL)


def parse_models(words: Sequence[str]) -> dict[str, str]:
    """`LABEL=FILE`, or a file or an id alone, which is called by its name.

    Raises
    ------
    InvalidRequest
        Two are called the same.
    """
    models: dict[str, str] = {}
    for word in words:
        found = None if Path(word).exists() else _LABELLED.fullmatch(word)
        label, source = (found[1], found[2]) if found else (_label(word), word)
        if label in models:
            raise InvalidRequest(
                f"Two models are called {label}.", value=label, hint=f"Write another label before one: NAME={source}."
            )
        models[label] = source
    return models


def _label(word: str) -> str:
    return word if re.fullmatch(EMBEDDING_ID, word) else name_of(word)


def parse_trend(word: str) -> dict[str, Any]:
    """`params`, `params:of=columns,bins=4`, `loss:against=dinov2,covariates=width`."""
    choice = _parse(word, TREND)
    if "covariates" in choice:
        choice["covariates"] = _many(choice["covariates"])
    return choice


def parse_factor(word: str) -> dict[str, Any]:
    """`words`, `words:within=model,alternative=either`."""
    return _parse(word, FACTOR)


def parse_difference(word: str) -> dict[str, str]:
    """`FIRST,SECOND,REFERENCE`."""
    names = word.split(",")
    if len(names) != 3:
        raise InvalidRequest(f"{word!r} is no difference.", value=word, hint="Write FIRST,SECOND,REFERENCE.")
    return dict(zip(("first", "second", "reference"), names, strict=True))


def _parse(word: str, allowed: Sequence[str]) -> dict[str, Any]:
    key, _, options = word.partition(":")
    choice: dict[str, Any] = {"by": key}
    for part in filter(None, options.split(",")):
        name, equals, text = part.partition("=")
        if name not in allowed or not equals:
            raise InvalidRequest(
                f"There is no option {name!r} here.",
                value=part,
                hint=f"There are: {', '.join(allowed)}, each with =VALUE.",
            )
        choice[name] = [*_many(choice[name]), _value(text)] if name in choice else _value(text)
    return choice


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def read_metadata(file: Path | None) -> dict[str, Mapping[str, Any]]:
    """A JSON object with an object for each label.

    Raises
    ------
    InputError
        The file cannot be read as that.
    """
    if file is None:
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as JSON: {error}.", value=file) from error
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise InputError(f"{file} is no object of objects.", value=file, hint='Write {"LABEL": {"params": 1e9}, ...}.')
    return found
