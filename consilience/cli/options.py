"""The options that `score` and `check` share, and what they mean in the contract."""

import re
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from consilience.cli.builder_words import parse_builder
from consilience.cli.metric_words import parse_metric, with_k
from consilience.client.options import options_of
from consilience.contract import jobs as contract
from consilience.contract.jobs import ScoringOptions
from consilience.contract.search import QUERIES_MIN
from consilience.errors import InvalidRequest

SERVER_VARIABLE = "CONSILIENCE_SERVER"

SideA = Annotated[
    str, Argument(metavar="A", help="A file (npy, npz, safetensors, json, parquet, arrow); with --server also an id.")
]
SideB = Annotated[str, Argument(metavar="B", help="The other side: the same items in the same order, or with ids.")]
OtherSide = Annotated[
    str | None,
    Argument(metavar="[B]", help="The other side: the same items in the same order, or with ids. Or --reference."),
]
Reference = Annotated[
    str | None,
    Option(metavar="NAME|ID", help="In place of B: each member of a reference set of the service; A gets a rank."),
]
Metrics = Annotated[
    list[str] | None,
    Option("--metric", metavar="NAME[:OPTION=VALUE,...]", help="Repeatable. `consilience metrics` lists them."),
]
K = Annotated[list[int] | None, Option("--k", min=1, help="Neighbours, for every metric that has a k. Repeatable.")]
Profile = Annotated[contract.Profile, Option(help="What is done to the rows first.")]
Aggregate = Annotated[contract.Aggregate, Option(help="How a grid of layer pairs becomes one number.")]
Concat = Annotated[bool, Option("--concat", help="Add all layers side by side as one more layer.")]
Correction = Annotated[
    Literal["none", "holm", "benjamini_hochberg"], Option(help="Of the p-values for the number of scores.")
]
Layers = Annotated[
    list[str] | None,
    Option(metavar="last|all|NAME,...", help="Layers that take part; a=... and b=... choose for one side."),
]
NullMethod = Annotated[
    Literal["auto", "analytic", "permutation", "none"], Option("--null", help="How the chance level is found.")
]
Draws = Annotated[int, Option(help="Draws of a permutation null.")]
Seed = Annotated[int, Option(help="Seed of everything random.")]
MemoryBudget = Annotated[
    str | None,
    Option(metavar="SIZE", help="Peak memory to plan with, such as 2GB; rows that do not fit are read by blocks."),
]
DryRun = Annotated[bool, Option("--dry-run", help="Say what it would cost, and do nothing.")]
Out = Annotated[Path | None, Option(metavar="FILE", dir_okay=False, help="Write the score document (JSON) here.")]
Json = Annotated[bool, Option("--json", help="Print the score document alone; everything else to standard error.")]
Pairing = Annotated[Literal["row", "id"], Option(help="Row i is row i, or rows of the same id belong together.")]
Builder = Annotated[
    str,
    Option(
        metavar="auto|faiss|symmetric|certified_bf16|INDEX[:effort=N]",
        help="How neighbours are searched: exactly, or by an index of FAISS (IVF1024,Flat; `approximate` picks one).",
    ),
]
Estimate = Annotated[
    str,
    Option(
        metavar="all|ROWS|HALF_WIDTH",
        help="How many rows ask for neighbours; a number below 1: as many as make every interval so narrow each way.",
    ),
]
GallerySizes = Annotated[
    str | None,
    Option(metavar="auto|ROWS,...", help="Also score galleries of fewer rows, drawn at random, each inside the next."),
]
Device = Annotated[
    str,
    Option(
        metavar="auto|cpu|cuda[:N]",
        help="What multiplies here for neighbours; auto: a graphics card where there is one and it pays.",
    ),
]
ColumnFile = Annotated[
    Path | None,
    Option(metavar="FILE", exists=True, dir_okay=False, help="One a row: a JSON list, or one a line."),
]
Server = Annotated[
    str | None,
    Option(metavar="URL", envvar=SERVER_VARIABLE, help="Let this service do it, instead of this process."),
]
Timeout = Annotated[float | None, Option(metavar="SECONDS", min=0.0, help="Give up waiting after so long: status 5.")]


def read_options(
    metrics: list[dict[str, Any]],
    *,
    k: list[int] | None,
    profile: str,
    layers: list[str] | None,
    null: str,
    draws: int,
    seed: int,
    pairing: str = "row",
    builder: str = "auto",
    estimate: str = "all",
    gallery_sizes: str | None = None,
    memory_budget: str | None = None,
    aggregate: str = "max",
    concat: bool = False,
    correction: str = "none",
) -> ScoringOptions:
    """The contract's options; InvalidRequest says which word cannot be used."""
    chosen = metrics or [parse_metric(metric.metric) for metric in ScoringOptions().metrics]
    fields = {
        "metrics": [with_k(choice, k) for choice in chosen],
        "layers": parse_layers(layers or ["last"]),
        "preparation": profile,
        "null": {"method": null, "draws": draws, "correction": correction},
        "aggregate": aggregate,
        "concat": concat,
        "seed": seed,
        "pairing": pairing,
        "builder": parse_builder(builder),
        "estimate": parse_estimate(estimate),
        "gallery_sizes": parse_sizes(gallery_sizes),
        "memory_budget_bytes": None if memory_budget is None else parse_bytes(memory_budget),
    }
    return options_of(None, fields)


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
