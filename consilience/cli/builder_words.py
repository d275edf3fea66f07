"""Builders of neighbour graphs as words of the command line: `faiss`, `IVF1024,Flat`, `IVF1024,Flat:effort=32`."""

from typing import Any, get_args

from consilience.contract.search import Approximate, ExactBuilder
from consilience.errors import InvalidRequest

#: Stands for the index that suits the number of rows.
APPROXIMATE = "approximate"
_OPTIONS = tuple(name for name in Approximate.model_fields if name != "index")


def parse_builder(word: str) -> str | dict[str, Any]:
    """The builder as the contract writes it: any word that is none of the exact builders' is an index-factory string."""
    if word in get_args(ExactBuilder):
        return word
    index, _, options = word.partition(":")
    chosen = dict(_parse_option(part) for part in filter(None, options.split(",")))
    return {"index": "auto" if index == APPROXIMATE else index, **chosen}


def _parse_option(part: str) -> tuple[str, int]:
    option, _, text = part.partition("=")
    if option not in _OPTIONS or not text.isdecimal():
        raise InvalidRequest(
            f"There is no {part!r} of an index.",
            value=part,
            hint=f"Write one of {', '.join(_OPTIONS)}, =, and a number.",
        )
    return option, int(text)
