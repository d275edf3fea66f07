"""Options of a comparison as words of the command line: layers, sizes, how many rows ask."""

import re
from math import isfinite

from consilience.contract.search import QUERIES_MIN
from consilience.errors import InvalidRequest


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
