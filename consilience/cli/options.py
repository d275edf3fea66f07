"""The options that several commands share: each is said once, here."""

from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from consilience.cli.places import require_place
from consilience.contract import jobs as contract


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
