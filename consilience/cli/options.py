"""Options and arguments that several commands share, and groups of options as dataclasses."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from typer import Argument, Option

from consilience.cli.parsing import (
    SideLabels,
    parse_builder,
    parse_bytes,
    parse_estimate,
    parse_gallery_sizes,
    parse_layers,
    parse_metric,
    read_side_labels,
    with_default_k,
)
from consilience.client.operations import options_of
from consilience.contract import alignments as contract
from consilience.contract.alignments import ScoringOptions
from consilience.errors import InputError


def check_writable(out: Path | None) -> Path | None:
    """Return the path; InputError if the file or its folders cannot be written, as far as permissions tell."""
    if out is not None:
        nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
        if nearest != out and not nearest.is_dir():
            raise InputError(
                f"{out} cannot be written: {nearest} is not a folder.", value=out, hint="Name another file."
            )
        if not os.access(nearest, os.W_OK):
            raise InputError(f"{out} cannot be written: {nearest} is read-only.", value=out, hint="Name another file.")
    return out


def create_parent_folders(out: Path) -> Path:
    """Create the missing parent folders of a file and return its path; InputError if that fails."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}.", value=out) from error
    return out


Command = Callable[..., None]


def with_option_groups(command: Command) -> Command:
    """Replace each dataclass parameter of a command by one option per field.

    Typer reads the options of a command from its signature, so the signature is rewritten; when the command runs, each
    dataclass is built from the values of its options. Every field has a default. Two options of one name raise ValueError.
    """
    parameters = signature(command).parameters.values()
    groups = {each.name: group for each in parameters if (group := _option_group(each)) is not None}

    @wraps(command)
    def run(**values: Any) -> None:
        built = {
            name: group(**{each.name: values.pop(each.name) for each in fields(group)})
            for name, group in groups.items()
        }
        command(**values, **built)

    vars(run)["__signature__"] = Signature([option for each in parameters for option in _options(each)])
    return run


def _option_group(parameter: Parameter) -> type | None:
    kind = parameter.annotation
    return kind if isinstance(kind, type) and is_dataclass(kind) else None


def _options(parameter: Parameter) -> Iterator[Parameter]:
    if (group := _option_group(parameter)) is None:
        yield parameter
        return
    annotations = get_type_hints(group, include_extras=True)
    for each in fields(group):
        yield Parameter(each.name, Parameter.KEYWORD_ONLY, default=each.default, annotation=annotations[each.name])


def output_file_option(description: str) -> Any:
    """Option of a file to write; the command stops before any computation if the file cannot be written."""
    return Option(metavar="FILE", dir_okay=False, callback=check_writable, help=description)


SERVER_VARIABLE = "CONSILIENCE_SERVER"

SideA = Annotated[
    str,
    Argument(
        metavar="A",
        help="First embedding set: an npy, npz, safetensors, json, parquet or arrow file. With --server also an id.",
    ),
]
SideB = Annotated[
    str,
    Argument(metavar="B", help="Second embedding set: the same items in the same order, or matched by --pairing id."),
]
OptionalSideB = Annotated[
    str | None,
    Argument(
        metavar="B",
        help="Second embedding set: the same items in the same order, or matched by --pairing id. Not used with "
        "--reference.",
    ),
]
Reference = Annotated[
    str | None,
    Option(
        metavar="NAME|ID",
        help="Reference set of the service to use instead of B: A is compared with each member and gets a rank.",
    ),
]
Metrics = Annotated[
    list[str] | None,
    Option(
        "--metric",
        metavar="NAME[:OPTION=VALUE,...]",
        help="Metric to compute; `consilience metrics` lists all metrics. Repeatable.",
    ),
]
K = Annotated[
    list[int] | None,
    Option("--k", min=1, help="Number of nearest neighbours, for every metric that has a k. Repeatable."),
]
Profile = Annotated[contract.Profile, Option(help="Preprocessing of the rows.")]
Aggregate = Annotated[contract.Aggregate, Option(help="Reduction of the grid of layer pairs to one value.")]
Concat = Annotated[bool, Option("--concat", help="Add the concatenation of all layers as one more layer.")]
Correction = Annotated[
    Literal["none", "holm", "benjamini_hochberg"], Option(help="Correction of the p-values over all scores.")
]
Layers = Annotated[
    list[str] | None,
    Option(metavar="last|all|NAME,...", help="Layers to compare, of both sides; write a=... or b=... for one side."),
]
NullMethod = Annotated[
    Literal["auto", "analytic", "permutation", "none"],
    Option("--null", help="Method of the null distribution, which gives the chance level and the p-value."),
]
Permutations = Annotated[int, Option(help="Number of permutations for the permutation null.")]
Seed = Annotated[int, Option(help="Seed of all random choices.")]
MemoryBudget = Annotated[
    str | None,
    Option(metavar="SIZE", help="Peak memory to use, for example 2GB; rows that do not fit are read in blocks."),
]
DryRun = Annotated[bool, Option("--dry-run", help="Print the estimated time and memory, and compute nothing.")]
Out = Annotated[Path | None, output_file_option("JSON file to write the document to.")]
Json = Annotated[bool, Option("--json", help="Print the document as JSON on standard output.")]
JsonLines = Annotated[bool, Option("--json", help="Print one JSON document per line on standard output.")]
Pairing = Annotated[
    Literal["row", "id"], Option(help="Matching of rows: `row` by position, `id` by the item ids of both sides.")
]
Builder = Annotated[
    str,
    Option(
        metavar="auto|faiss|symmetric|verified_bf16|INDEX[:effort=N]",
        help="Method of the neighbour search: an exact method, or a FAISS index such as IVF1024,Flat; `approximate` "
        "chooses an index.",
    ),
]
Estimate = Annotated[
    str,
    Option(
        metavar="all|ROWS|HALF_WIDTH",
        help="Number of query rows or, below 1, the target half-width of the confidence interval.",
    ),
]
GallerySizes = Annotated[
    str | None,
    Option(metavar="auto|ROWS,...", help="Also score nested random galleries of these sizes."),
]
Device = Annotated[
    str,
    Option(metavar="auto|cpu|cuda[:N]", help="Device for the computation on this machine: auto, cpu, cuda or cuda:N."),
]


FOR_PAIRING = " Used with --pairing id."
FOR_GROUPS = " Rows of one group belong together, for example captions of one image."


def label_file_option(description: str, *, note: str = "") -> Any:
    """Option of a file with one label per row."""
    text = f"{description}, one per row: a JSON list or a text file.{note}"
    return Option(metavar="FILE", exists=True, dir_okay=False, help=text)


Server = Annotated[
    str | None,
    Option(metavar="URL", envvar=SERVER_VARIABLE, help="Service that computes instead of this process."),
]
Timeout = Annotated[
    float | None, Option(metavar="SECONDS", min=0.0, help="Time limit; the command then ends with exit status 5.")
]
NameFilter = Annotated[str | None, Option("--name", help="List only entries with this name.")]
Limit = Annotated[int, Option(min=1, max=100, help="Maximum number of entries to list.")]


@dataclass(frozen=True)
class MetricOptions:
    """Metrics, the layers and rows that they compare, and the null distribution."""

    metric: Metrics = None
    k: K = None
    profile: Profile = "l2"
    layers: Layers = None
    aggregate: Aggregate = "max"
    concat: Concat = False
    null: NullMethod = "auto"
    permutations: Permutations = 200


@dataclass(frozen=True)
class SearchOptions:
    """Matching of the rows, and the search for their neighbours."""

    seed: Seed = 0
    pairing: Pairing = "row"
    builder: Builder = "auto"
    estimate: Estimate = "all"


@dataclass(frozen=True)
class SideLabelFiles:
    """Files of ids and groups of both sides."""

    ids_a: Annotated[Path | None, label_file_option("Item ids of A", note=FOR_PAIRING)] = None
    ids_b: Annotated[Path | None, label_file_option("Item ids of B", note=FOR_PAIRING)] = None
    groups_a: Annotated[Path | None, label_file_option("Group labels of A", note=FOR_GROUPS)] = None
    groups_b: Annotated[Path | None, label_file_option("Group labels of B", note=FOR_GROUPS)] = None

    def read(self) -> SideLabels:
        """Read the files; errors name the option."""
        return read_side_labels(ids=(self.ids_a, self.ids_b), groups=(self.groups_a, self.groups_b))


@dataclass(frozen=True)
class OutputOptions:
    """Destination and form of the document."""

    out: Out = None
    as_json: Json = False


@dataclass(frozen=True)
class ServiceOptions:
    """Service that computes, and the time limit."""

    server: Server = None
    timeout: Timeout = None


def read_scoring_options(
    metrics: MetricOptions,
    search: SearchOptions,
    *,
    correction: str = "none",
    gallery_sizes: str | None = None,
    memory_budget: str | None = None,
    default_metrics: Sequence[dict[str, Any]] | None = None,
) -> ScoringOptions:
    """Build the scoring options of the contract from the command line.

    Parameters
    ----------
    default_metrics
        Metrics to use if --metric is not given; None uses the defaults of the contract.

    Raises
    ------
    InvalidRequest
        A value is not valid; the message names the option.
    """
    named = [parse_metric(word) for word in metrics.metric or ()]
    chosen = named or default_metrics or [parse_metric(metric.metric) for metric in ScoringOptions().metrics]
    fields = {
        "metrics": [with_default_k(choice, metrics.k) for choice in chosen],
        "layers": parse_layers(metrics.layers or ["last"]),
        "preparation": metrics.profile,
        "null": {"method": metrics.null, "permutations": metrics.permutations, "correction": correction},
        "aggregate": metrics.aggregate,
        "concat": metrics.concat,
        "seed": search.seed,
        "pairing": search.pairing,
        "builder": parse_builder(search.builder),
        "estimate": parse_estimate(search.estimate),
        "gallery_sizes": parse_gallery_sizes(gallery_sizes),
        "memory_budget_bytes": None if memory_budget is None else parse_bytes(memory_budget),
    }
    return options_of(ScoringOptions, None, fields)
