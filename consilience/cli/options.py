"""The options that several commands share: each is said once, here."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from typer import Argument, Option

from consilience.cli.parsing import (
    Columns,
    parse_builder,
    parse_bytes,
    parse_estimate,
    parse_layers,
    parse_metric,
    parse_sizes,
    read_columns,
    with_k,
)
from consilience.client.operations import options_of
from consilience.contract import alignments as contract
from consilience.contract.alignments import ScoringOptions
from consilience.errors import InputError


def require_place(out: Path | None) -> Path | None:
    """The file's path; InputError where it or its folders cannot be written, as far as can be told without writing."""
    if out is not None:
        nearest = next(place for place in (out, *out.absolute().parents) if place.exists())
        if nearest != out and not nearest.is_dir():
            raise InputError(f"{out} cannot be written: {nearest} is no folder.", value=out, hint="Name another file.")
        if not os.access(nearest, os.W_OK):
            raise InputError(f"{out} cannot be written: {nearest} is read-only.", value=out, hint="Name another file.")
    return out


def make_folders(out: Path) -> Path:
    """The file's path, the folders on the way to it made; InputError where they cannot be."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}.", value=out) from error
    return out


Command = Callable[..., None]


def unfold(command: Command) -> Command:
    """The command with one option for each field of its parameters that are dataclasses.

    Typer reads the options of a command from its signature, so that is what is written; when the command runs, each
    dataclass is made of what was given. Every field has a default; two options of one name are refused (ValueError).
    """
    declared = signature(command).parameters.values()
    groups = {each.name: group for each in declared if (group := _group(each)) is not None}

    @wraps(command)
    def run(**given: Any) -> None:
        made = {
            name: group(**{each.name: given.pop(each.name) for each in fields(group)}) for name, group in groups.items()
        }
        command(**given, **made)

    unfolded = (option for each in declared for option in _options(each))
    vars(run)["__signature__"] = Signature(list(unfolded))
    return run


def _group(parameter: Parameter) -> type | None:
    kind = parameter.annotation
    return kind if isinstance(kind, type) and is_dataclass(kind) else None


def _options(parameter: Parameter) -> Iterator[Parameter]:
    if (group := _group(parameter)) is None:
        yield parameter
        return
    kinds = get_type_hints(group, include_extras=True)
    for each in fields(group):
        yield Parameter(each.name, Parameter.KEYWORD_ONLY, default=each.default, annotation=kinds[each.name])


def file_to_write(told: str) -> Any:
    """The option of a file that the command writes: where it cannot be, the command ends before it computes anything."""
    return Option(metavar="FILE", dir_okay=False, callback=require_place, help=told)


SERVER_VARIABLE = "CONSILIENCE_SERVER"

SideA = Annotated[
    str, Argument(metavar="A", help="A file (npy, npz, safetensors, json, parquet, arrow); with --server also an id.")
]
SideB = Annotated[str, Argument(metavar="B", help="The other side: the same items in the same order, or with ids.")]
OtherSide = Annotated[
    str | None,
    Argument(metavar="B", help="The other side: the same items in the same order, or with ids. Or --reference."),
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
Out = Annotated[Path | None, file_to_write("Write the score document (JSON) here.")]
Json = Annotated[bool, Option("--json", help="Print the document alone, as JSON; everything else to standard error.")]
JsonLines = Annotated[bool, Option("--json", help="Print one JSON document a line; everything else to standard error.")]
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
OnlyName = Annotated[str | None, Option("--name", help="Only those with this name.")]
Limit = Annotated[int, Option(min=1, max=100, help="How many, at most.")]


@dataclass(frozen=True)
class Measures:
    """What is measured, of which layers, and against which chance."""

    metric: Metrics = None
    k: K = None
    profile: Profile = "l2"
    layers: Layers = None
    aggregate: Aggregate = "max"
    concat: Concat = False
    null: NullMethod = "auto"
    draws: Draws = 200


@dataclass(frozen=True)
class Search:
    """Which rows belong together, and how their neighbours are found."""

    seed: Seed = 0
    pairing: Pairing = "row"
    builder: Builder = "auto"
    estimate: Estimate = "all"


@dataclass(frozen=True)
class LabelFiles:
    """Files of ids and groups of both sides."""

    ids_a: ColumnFile = None
    ids_b: ColumnFile = None
    groups_a: ColumnFile = None
    groups_b: ColumnFile = None

    def read(self) -> Columns:
        """What the files hold; errors name the option."""
        return read_columns(ids=(self.ids_a, self.ids_b), groups=(self.groups_a, self.groups_b))


@dataclass(frozen=True)
class Output:
    """Where the document goes."""

    out: Out = None
    as_json: Json = False


@dataclass(frozen=True)
class Service:
    """Who does it, and how long that may take."""

    server: Server = None
    timeout: Timeout = None


def read_options(
    measures: Measures,
    search: Search,
    *,
    correction: str = "none",
    gallery_sizes: str | None = None,
    memory_budget: str | None = None,
    unnamed: Sequence[dict[str, Any]] | None = None,
) -> ScoringOptions:
    """The contract's options; InvalidRequest says which word cannot be used.

    Parameters
    ----------
    unnamed
        The metrics where none is named; without it the contract's own.
    """
    named = [parse_metric(word) for word in measures.metric or ()]
    chosen = named or unnamed or [parse_metric(metric.metric) for metric in ScoringOptions().metrics]
    fields = {
        "metrics": [with_k(choice, measures.k) for choice in chosen],
        "layers": parse_layers(measures.layers or ["last"]),
        "preparation": measures.profile,
        "null": {"method": measures.null, "draws": measures.draws, "correction": correction},
        "aggregate": measures.aggregate,
        "concat": measures.concat,
        "seed": search.seed,
        "pairing": search.pairing,
        "builder": parse_builder(search.builder),
        "estimate": parse_estimate(search.estimate),
        "gallery_sizes": parse_sizes(gallery_sizes),
        "memory_budget_bytes": None if memory_budget is None else parse_bytes(memory_budget),
    }
    return options_of(ScoringOptions, None, fields)
