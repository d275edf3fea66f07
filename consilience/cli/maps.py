"""`consilience map fit|apply|report`: maps from one space to another."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from consilience.cli.columns import read_columns
from consilience.cli.consoles import remarks, results, warn
from consilience.cli.map_tables import map_table
from consilience.cli.metric_words import parse_map
from consilience.cli.options import ColumnFile, Json, Pairing, Seed, SideA, SideB
from consilience.cli.progress import progress_bar
from consilience.client.options import map_options_of
from consilience.contract.maps import MapDocument, MapPreparation
from consilience.errors import MissingExtra

app = typer.Typer(help="Maps from one embedding space to another.", no_args_is_help=True)

Kind = Annotated[
    str,
    typer.Option(
        metavar="NAME[:OPTION=VALUE,...]", help="procrustes, ridge, low_rank:rank=64, relative:anchors=256 or mlp."
    ),
]
MapFile = Annotated[Path, typer.Argument(metavar="MAP", exists=True, dir_okay=False, help="What `fit` wrote.")]
Layer = Annotated[str, typer.Option(help="The layer that is mapped: last, or its name.")]
Preparation = Annotated[MapPreparation, typer.Option(help="l2: rows are scaled to length 1 first.")]
TestShare = Annotated[float, typer.Option(help="Share of the rows that the map never sees and is judged by.")]
Queries = Annotated[int, typer.Option(min=1, help="Held-out rows that look for their own, at most.")]
Model = Annotated[str | None, typer.Option(metavar="NAME", help="Whose vectors they are; kept in the card.")]
OwnModel = Annotated[str | None, typer.Option(metavar="NAME", help="Whose vectors they are; the map must be of it.")]


@app.command("fit")
def fit_map(
    a: SideA,
    b: SideB,
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", dir_okay=False, help="Write the map (safetensors) here.")],
    kind: Kind = "ridge",
    layer_a: Layer = "last",
    layer_b: Layer = "last",
    preparation: Preparation = "l2",
    pairing: Pairing = "row",
    test_share: TestShare = 0.2,
    queries: Queries = 4096,
    seed: Seed = 0,
    ids_a: ColumnFile = None,
    ids_b: ColumnFile = None,
    groups_a: ColumnFile = None,
    groups_b: ColumnFile = None,
    model_a: Model = None,
    model_b: Model = None,
    as_json: Json = False,
) -> None:
    """Fit a map from A's space to B's on some rows, judge it on the others, and write it to a file."""
    options = map_options_of(
        None,
        {
            "map": parse_map(kind),
            "layers": {"a": layer_a, "b": layer_b},
            "preparation": preparation,
            "pairing": pairing,
            "test_share": test_share,
            "queries": queries,
            "seed": seed,
        },
    )
    columns = read_columns(ids=(ids_a, ids_b), groups=(groups_a, groups_b))
    with _here(), progress_bar("reading") as report:
        from consilience.mapping import fit  # noqa: PLC0415 -- numpy and faiss, only for those who map here

        found = fit(
            Path(a),
            Path(b),
            options,
            ids=columns.ids,
            groups=columns.groups,
            models=(model_a, model_b),
            report=report,
        )
        found.save(out)
    _show(found.card, as_json=as_json)
    remarks().print(f"Written to {out}", soft_wrap=True)


@app.command("apply")
def apply_map(
    map_file: MapFile,
    vectors: Annotated[Path, typer.Argument(metavar="VECTORS", exists=True, dir_okay=False, help="A file of vectors.")],
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", dir_okay=False, help="Write the translations (npy) here.")],
    layer: Layer = "last",
    model: OwnModel = None,
) -> None:
    """Translate the vectors of a file into the space that the map leads to: float32, one row each."""
    with _here():
        from consilience.mapping import apply_to_file  # noqa: PLC0415 -- as above

        n, dim = apply_to_file(map_file, vectors, out, layer=layer, model=model)
    remarks().print(f"{n} vectors of {dim} dimensions written to {out}", soft_wrap=True)


@app.command("report")
def report_map(map_file: MapFile, *, as_json: Json = False) -> None:
    """Print a map's card: what it was fitted on, and how well it does on rows that it has not seen."""
    with _here():
        from consilience.mapping import load  # noqa: PLC0415 -- as above

        card = load(map_file).card
    _show(card, as_json=as_json)


def _show(card: MapDocument, *, as_json: bool) -> None:
    if as_json:
        typer.echo(card.model_dump_json(by_alias=True, indent=2))
    else:
        results().print(map_table(card))
    for warning in card.warnings:
        warn(warning)


@contextmanager
def _here() -> Iterator[None]:
    """Says what to install where a package is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"Mapping in this process needs {error.name}.",
            value=error.name,
            hint="Run: pip install 'consilience[compute]'.",
        ) from error
