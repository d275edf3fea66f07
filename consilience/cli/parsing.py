"""Parsing of command-line values into the values of the contract.

Examples: metrics and maps (`cka:debiased=false`, `low_rank:rank=32`), search methods (`IVF1024,Flat:effort=32`), layers
(`a=4,6`), memory sizes (`2GB`), and files of ids, groups and relevance judgments.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any, get_args

from consilience.contract.base import Request
from consilience.contract.maps import MAPS
from consilience.contract.metrics import METRICS
from consilience.contract.pointers import describe_unknown
from consilience.contract.search import QUERIES_MIN, Approximate, ExactBuilder
from consilience.errors import InvalidRequest, UnreadableFile
from consilience.formats.columns import read_column

#: Value of --builder that chooses an approximate index by the number of rows.
APPROXIMATE = "approximate"
_INDEX_OPTIONS = tuple(name for name in Approximate.model_fields if name != "index")


def parse_builder(word: str) -> str | dict[str, Any]:
    """Parse --builder: the name of an exact search method, or a FAISS index-factory string with options.

    Raises
    ------
    InvalidRequest
        An option of the index is unknown or has no number.
    """
    if word in get_args(ExactBuilder):
        return word
    index, _, options = word.partition(":")
    chosen = dict(_parse_index_option(part) for part in filter(None, options.split(",")))
    return {"index": "auto" if index == APPROXIMATE else index, **chosen}


def _parse_index_option(part: str) -> tuple[str, int]:
    option, _, text = part.partition("=")
    if option not in _INDEX_OPTIONS or not text.isdecimal():
        raise InvalidRequest(
            f"The options of an index are {', '.join(_INDEX_OPTIONS)}, each with a number, for example effort=32; "
            f"got {part!r}.",
            value=part,
        )
    return option, int(text)


Labels = tuple[str, ...] | None
Files = tuple[Path | None, Path | None]


@dataclass(frozen=True)
class SideLabels:
    """Ids and groups of the rows of A and of B; None for each file that is not given."""

    ids: tuple[Labels, Labels] = (None, None)
    groups: tuple[Labels, Labels] = (None, None)


def read_side_labels(*, ids: Files, groups: Files) -> SideLabels:
    """Read the files of ids and groups of both sides; errors name the option."""
    (ids_a, ids_b), (groups_a, groups_b) = ids, groups
    return SideLabels(
        ids=(read_optional_column(ids_a, "ids_a"), read_optional_column(ids_b, "ids_b")),
        groups=(read_optional_column(groups_a, "groups_a"), read_optional_column(groups_b, "groups_b")),
    )


def read_optional_column(file: Path | None, name: str) -> Labels:
    """Read one label per row from a file; None without a file."""
    return None if file is None else read_column(file, name)


#: Ids of the relevant documents of each query.
Qrels = dict[str, list[str]]


def read_qrels(path: Path) -> Qrels:
    """Read relevance judgments: the ids of the relevant documents of each query.

    The file is a JSON object, `{query: [document, ...]}` or `{query: {document: relevance}}`, or has one judgment per line,
    `query 0 document relevance` (TREC) or `query document relevance` (BEIR). A document whose relevance is 0 or less is not
    relevant.

    Raises
    ------
    UnreadableFile, InvalidRequest
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{path} cannot be read: {error}.", value=path) from error
    return _parse_json_qrels(text, path) if text.lstrip().startswith("{") else _parse_trec_qrels(text, path)


def _parse_json_qrels(text: str, path: Path) -> Qrels:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise UnreadableFile(f"{path} is not valid JSON: {error}.", value=path) from error
    qrels: Qrels = {}
    for query, documents in content.items():
        if isinstance(documents, dict):
            qrels[query] = [item for item, relevance in documents.items() if _parse_relevance(relevance, path) > 0]
        elif isinstance(documents, list):
            qrels[query] = [str(item) for item in documents]
        else:
            raise InvalidRequest(
                f"{path} has no list of documents for query {query!r}.",
                value=documents,
                hint='Write {"query": ["document"]}.',
            )
    return qrels


def _parse_trec_qrels(text: str, path: Path) -> Qrels:
    qrels: defaultdict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(text.splitlines(), 1):
        columns = line.split()
        if not columns or (number == 1 and columns[-1] == "score"):  # BEIR's header
            continue
        if len(columns) not in (3, 4):
            raise UnreadableFile(
                f"Line {number} of {path} has {len(columns)} columns; a relevance judgment has 3 or 4.",
                value=line,
                hint="Write `query 0 document relevance` (TREC) or `query document relevance` (BEIR).",
            )
        if _parse_relevance(columns[-1], path) > 0:
            qrels[columns[0]].append(columns[-2])
    return dict(qrels)


def _parse_relevance(relevance: object, path: Path) -> float:
    try:
        return float(str(relevance))
    except ValueError:
        raise UnreadableFile(
            f"{path} has the relevance {relevance!r}; a relevance must be a number.", value=relevance
        ) from None


def parse_metric(word: str) -> dict[str, Any]:
    """Parse a metric, such as `mutual_knn:k=5,k=10`; an option that is repeated becomes a list.

    Raises
    ------
    InvalidRequest
        The metric or one of its options is unknown.
    """
    return _parse_choice(word, "metric", "metric", METRICS)


def parse_map(word: str) -> dict[str, Any]:
    """Parse a kind of map, such as `low_rank:rank=32`. Raises InvalidRequest as `parse_metric` does."""
    return _parse_choice(word, "map", "kind", MAPS)


def _parse_choice(word: str, noun: str, tag: str, kinds: Mapping[str, type[Request]]) -> dict[str, Any]:
    name, _, options = word.partition(":")
    kind = kinds.get(name)
    if kind is None:
        raise InvalidRequest(describe_unknown(noun, name, list(kinds)), value=name)
    allowed = [field for field in kind.model_fields if field != tag]
    return {tag: name, **parse_options(options, allowed, owner=name)}


def parse_options(words: str, allowed: Sequence[str], *, owner: str) -> dict[str, Any]:
    """Parse `OPTION=VALUE,...`; an option that is repeated becomes a list.

    Raises
    ------
    InvalidRequest
        An option is not allowed, or has no value; the message names the `owner` of the options.
    """
    options: dict[str, Any] = {}
    for part in filter(None, words.split(",")):
        option, equals, text = part.partition("=")
        if option not in allowed:
            raise InvalidRequest(describe_unknown(f"{owner} option", option, allowed), value=option)
        if not equals:
            raise InvalidRequest(
                f"Option {option} of {owner} needs a value.", value=part, hint=f"Write {option}=VALUE."
            )
        value = _parse_value(text)
        options[option] = [*as_list(options[option]), value] if option in options else value
    return options


def _parse_value(text: str) -> Any:
    """Parse a JSON value; text that is not JSON stays a string."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def as_list(value: Any) -> list[Any]:
    """Wrap a single value in a list."""
    return value if isinstance(value, list) else [value]


def with_default_k(choice: dict[str, Any], k: list[int] | None) -> dict[str, Any]:
    """Add --k to a metric that has a k and sets none itself."""
    if k and "k" in METRICS[choice["metric"]].model_fields:
        return {"k": k, **choice}
    return choice


def parse_estimate(word: str) -> str | dict[str, float]:
    """Parse --estimate: `all`, a number of query rows, or, below 1, a half-width."""
    if word == "all":
        return word
    try:
        number = float(word)
    except ValueError:
        number = nan
    if 0 < number < 1:
        return {"half_width": number}
    if number >= QUERIES_MIN and number.is_integer():
        return {"queries": int(number)}
    raise InvalidRequest(
        f"--estimate must be `all`, a number of query rows (at least {QUERIES_MIN}) or a half-width between 0 and 1; "
        f"got {word!r}.",
        value=word,
    )


def parse_gallery_sizes(word: str | None) -> str | list[int] | None:
    """Parse --gallery-sizes: `auto`, or numbers of rows."""
    if word is None or word == "auto":
        return word
    if not all(size.strip().isdecimal() for size in word.split(",")):
        raise InvalidRequest(
            f"--gallery-sizes must be `auto` or numbers of rows, for example 1000,3000,10000; got {word!r}.", value=word
        )
    return [int(size) for size in word.split(",")]


def parse_bytes(word: str) -> int:
    """Parse --memory-budget: a number of bytes with an optional unit, such as 512MB, 2GB or 1.5GiB."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i)?B?", word.strip(), re.IGNORECASE)
    if match is None or (match[3] and not match[2]):
        raise InvalidRequest(
            f"--memory-budget must be a number with a unit, for example 512MB, 2GB or 1.5GiB; got {word!r}.", value=word
        )
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** " KMGT".index(match[2].upper() or " "))


def parse_layers(words: list[str]) -> dict[str, str | list[str]]:
    """Parse --layers: `last`, `all` or names, for both sides, or for one side after `a=` or `b=`; later values win."""
    layers: dict[str, str | list[str]] = {"a": "last", "b": "last"}
    for word in words:
        side, equals, text = word.partition("=")
        sides = side if equals and side in layers else "ab"
        names = text if equals and side in layers else word
        if not names:
            raise InvalidRequest(f"--layers needs `last`, `all` or names, for example 4,6; got {word!r}.", value=word)
        layers |= dict.fromkeys(sides, names if names in ("last", "all") else names.split(","))
    return layers
