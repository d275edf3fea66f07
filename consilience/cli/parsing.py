"""Options of a comparison as words of the command line: layers, sizes, how many rows ask."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any, get_args

from consilience.contract.base import Request
from consilience.contract.maps import MAPS
from consilience.contract.metrics import METRICS
from consilience.contract.search import QUERIES_MIN, Approximate, ExactBuilder
from consilience.errors import InvalidRequest, UnreadableFile
from consilience.formats.columns import read_column

#: Stands for the index that suits the number of rows.
APPROXIMATE = "approximate"
_OPTIONS = tuple(name for name in Approximate.model_fields if name != "index")


def parse_builder(word: str) -> str | dict[str, Any]:
    """The builder as the contract writes it: any word that is none of the exact builders' is an index-factory string."""
    if word in get_args(ExactBuilder):
        return word
    index, _, options = word.partition(":")
    chosen = dict(_parse_index_option(part) for part in filter(None, options.split(",")))
    return {"index": "auto" if index == APPROXIMATE else index, **chosen}


def _parse_index_option(part: str) -> tuple[str, int]:
    option, _, text = part.partition("=")
    if option not in _OPTIONS or not text.isdecimal():
        raise InvalidRequest(
            f"There is no {part!r} of an index.",
            value=part,
            hint=f"Write one of {', '.join(_OPTIONS)}, =, and a number.",
        )
    return option, int(text)


Labels = tuple[str, ...] | None
Files = tuple[Path | None, Path | None]


@dataclass(frozen=True)
class Columns:
    """Ids and groups of a and of b, as far as they were given."""

    ids: tuple[Labels, Labels] = (None, None)
    groups: tuple[Labels, Labels] = (None, None)


def read_columns(*, ids: Files, groups: Files) -> Columns:
    """The columns of both sides; errors name the option's column."""
    return Columns(ids=_both(ids, "ids"), groups=_both(groups, "groups"))


def read_optional(file: Path | None, name: str) -> Labels:
    """One column, if there is a file."""
    return None if file is None else read_column(file, name)


def _both(files: Files, name: str) -> tuple[Labels, Labels]:
    return read_optional(files[0], f"{name}_a"), read_optional(files[1], f"{name}_b")


Judgements = dict[str, list[str]]


def read_judgements(path: Path) -> Judgements:
    """For each query the documents that answer it.

    A JSON object `{query: [document, ...]}` or `{query: {document: relevance}}`; or one judgement a line, `query 0 document
    relevance` (TREC) or `query document relevance` (BEIR), where a relevance of 0 or less is no answer.

    Raises
    ------
    UnreadableFile, InvalidRequest
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{path} cannot be read: {error}.", value=path) from error
    return _read_json(text, path) if text.lstrip().startswith("{") else _read_lines(text, path)


def _read_json(text: str, path: Path) -> Judgements:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UnreadableFile(f"{path} is no JSON: {error}.", value=path) from error
    judgements: Judgements = {}
    for query, answers in found.items():
        if isinstance(answers, dict):
            judgements[query] = [item for item, relevance in answers.items() if _relevance(relevance, path) > 0]
        elif isinstance(answers, list):
            judgements[query] = [str(item) for item in answers]
        else:
            raise InvalidRequest(
                f"The judgement of {query!r} is no list of documents.",
                value=answers,
                hint='Write {"query": ["document"]}.',
            )
    return judgements


def _read_lines(text: str, path: Path) -> Judgements:
    judgements: defaultdict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(text.splitlines(), 1):
        columns = line.split()
        if not columns or (number == 1 and columns[-1] == "score"):  # BEIR's heading
            continue
        if len(columns) not in (3, 4):
            raise UnreadableFile(
                f"Line {number} of {path} is no judgement.",
                value=line,
                hint="Write `query 0 document relevance` (TREC) or `query document relevance` (BEIR).",
            )
        if _relevance(columns[-1], path) > 0:
            judgements[columns[0]].append(columns[-2])
    return dict(judgements)


def _relevance(relevance: object, path: Path) -> float:
    try:
        return float(str(relevance))
    except ValueError:
        raise UnreadableFile(f"{path}: {relevance!r} is no relevance.", value=relevance) from None


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
        option, value = _parse_metric_option(name, allowed, part)
        choice[option] = [*_many(choice[option]), value] if option in choice else value
    return choice


def with_k(choice: dict[str, Any], k: list[int] | None) -> dict[str, Any]:
    """The metric with this k, where it has one and none was given with its name."""
    if k and "k" in METRICS[choice["metric"]].model_fields:
        return {"k": k, **choice}
    return choice


def _parse_metric_option(name: str, allowed: list[str], part: str) -> tuple[str, Any]:
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


def parse_estimate(word: str) -> str | dict[str, float]:
    """`all`, a number of rows, or a half width, which is below 1."""
    if word == "all":
        return word
    number = _number(word)
    if number is None or number <= 0 or (number >= 1 and not number.is_integer()):
        raise InvalidRequest(
            f"{word!r} says of no rows that they ask.",
            value=word,
            hint="Write all, 4096 (rows) or 0.005 (a half width).",
        )
    if 1 <= number < QUERIES_MIN:
        raise InvalidRequest(f"{word} rows are too few to ask.", value=word, hint=f"Let {QUERIES_MIN} ask, or more.")
    return {"half_width": number} if number < 1 else {"queries": int(number)}


def parse_sizes(word: str | None) -> str | list[int] | None:
    """`auto`, or numbers of rows."""
    if word is None or word == "auto":
        return word
    if not all(size.strip().isdecimal() for size in word.split(",")):
        raise InvalidRequest(f"{word!r} are no numbers of rows.", value=word, hint="Write auto, or 1000,3000,10000.")
    return [int(size) for size in word.split(",")]


def _number(word: str) -> float | None:
    try:
        number = float(word)
    except ValueError:
        return None
    return number if isfinite(number) else None


def parse_bytes(word: str) -> int:
    """Bytes from a number with a unit: 512MB, 2GB, 1.5GiB; without a unit they are bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", word.strip(), re.IGNORECASE)
    if found is None or (found[3] and not found[2]):
        raise InvalidRequest("This is no size.", value=word, hint="Write a number and a unit: 512MB, 2GB, 1.5GiB.")
    base = 1024 if found[3] else 1000
    return int(float(found[1]) * base ** " KMGT".index(found[2].upper() or " "))


def parse_layers(words: list[str]) -> dict[str, str | list[str]]:
    """`last`, `all` or names for both sides, or for one after `a=` or `b=`; what comes later wins."""
    chosen: dict[str, str | list[str]] = {"a": "last", "b": "last"}
    for word in words:
        side, equals, text = word.partition("=")
        sides = side if equals and side in chosen else "ab"
        names = text if equals and side in chosen else word
        if not names:
            raise InvalidRequest("No layer is named.", value=word, hint="Write last, all, or names: --layers 4,6.")
        chosen |= dict.fromkeys(sides, names if names in ("last", "all") else names.split(","))
    return chosen
