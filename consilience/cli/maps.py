"""`consilience map fit|apply|report`: maps from one space to another."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from consilience.cli.columns import Columns, read_columns
from consilience.cli.consoles import remarks, results, warn
from consilience.cli.map_service import apply_there, fetch_map, fit_there, report_there
from consilience.cli.map_tables import map_table
from consilience.cli.metric_words import parse_map
from consilience.cli.options import ColumnFile, Json, Pairing, Seed, Server, SideA, SideB, Timeout
from consilience.cli.progress import progress_bar
from consilience.client.options import map_options_of
from consilience.contract.maps import MapDocument, MapOptions, MapPreparation
from consilience.errors import InvalidRequest, MissingExtra

app = typer.Typer(help="Maps from one embedding space to another.", no_args_is_help=True)

Kind = Annotated[
    str,
    typer.Option(
        metavar="NAME[:OPTION=VALUE,...]", help="procrustes, ridge, low_rank:rank=64, relative:anchors=256 or mlp."
    ),
]
AnyMap = Annotated[
    str, typer.Argument(metavar="MAP", help="What `fit` wrote; with --server the id of a map, or a file.")
]
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
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", dir_okay=False, help="Write the map (safetensors) here; with --server not needed."
        ),
    ] = None,
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
    server: Server = None,
    timeout: Timeout = None,
) -> None:
    """Fit a map from A's space to B's on some rows, judge it on the others, and write it to a file."""
    if server is None and out is None:
        raise InvalidRequest("Nothing says where the map goes.", hint="Name a file with --out.")
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
    if server is not None:
        stored = fit_there(server, (a, b), options, columns, (model_a, model_b), timeout)
        if out is not None:
            fetch_map(server, stored.id, out)
        _show(stored.card, as_json=as_json)
        remarks().print(f"Kept as {stored.id}", soft_wrap=True)
    elif out is not None:
        _show(_fit_here(Path(a), Path(b), options, columns, (model_a, model_b), out), as_json=as_json)
    if out is not None:
        remarks().print(f"Written to {out}", soft_wrap=True)


def _fit_here(  # noqa: PLR0917 - what the command has read, in its order
    a: Path, b: Path, options: MapOptions, columns: Columns, models: tuple[str | None, str | None], out: Path
) -> MapDocument:
    with _here(), progress_bar("reading") as report:
        from consilience.mapping import fit  # noqa: PLC0415 -- numpy and faiss, only for those who map here

        found = fit(a, b, options, ids=columns.ids, groups=columns.groups, models=models, report=report)
        found.save(out)
    return found.card


@app.command("apply")
def apply_map(
    map_word: AnyMap,
    vectors: Annotated[str, typer.Argument(metavar="VECTORS", help="A file of vectors; with --server also an id.")],
    *,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Write the translations (npy) here.")
    ] = None,
    layer: Layer = "last",
    model: OwnModel = None,
    server: Server = None,
    timeout: Timeout = None,
) -> None:
    """Translate vectors into the space that the map leads to.

    A file's become a file, float32, one row each; with --server a set becomes a new set, whose id is printed.
    """
    if server is not None:
        if out is not None:
            raise InvalidRequest("A service keeps the translations as a set.", hint="Leave out --out, or --server.")
        made = apply_there(server, map_word, vectors, layer, model, timeout)
        typer.echo(made.embedding.id)
        return
    if out is None:
        raise InvalidRequest("Nothing says where the translations go.", hint="Name a file with --out.")
    with _here():
        from consilience.mapping import apply_to_file  # noqa: PLC0415 -- as above

        n, dim = apply_to_file(map_word, vectors, out, layer=layer, model=model)
    remarks().print(f"{n} vectors of {dim} dimensions written to {out}", soft_wrap=True)


@app.command("report")
def report_map(map_word: AnyMap, *, as_json: Json = False, server: Server = None) -> None:
    """Print a map's card: what it was fitted on, and how well it does on rows that it has not seen."""
    if server is not None:
        _show(report_there(server, map_word), as_json=as_json)
        return
    with _here():
        from consilience.mapping import load  # noqa: PLC0415 -- as above

        card = load(map_word).card
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
