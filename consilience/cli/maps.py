"""`consilience map fit|apply|report`: maps from one space to another."""

from pathlib import Path
from typing import Annotated

import typer

from consilience.cli.columns import Columns
from consilience.cli.consoles import emit, remarks
from consilience.cli.extras import packages_of
from consilience.cli.groups import LabelFiles, Output, Service
from consilience.cli.local_work import work_here
from consilience.cli.map_options import Fitting, Layer, Models
from consilience.cli.map_service import apply_there, fetch_map, fit_there, report_there, require_map
from consilience.cli.map_tables import map_table
from consilience.cli.options import Json, Server, SideA, SideB, Timeout, file_to_write
from consilience.cli.output import show
from consilience.cli.places import make_folders
from consilience.cli.scoring import require_source
from consilience.cli.unfolding import unfold
from consilience.contract.maps import MapDocument, MapOptions
from consilience.errors import InvalidRequest

app = typer.Typer(help="Maps from one embedding space to another.", no_args_is_help=True)

Names = tuple[str | None, str | None]
AnyMap = Annotated[
    str, typer.Argument(metavar="MAP", help="What `fit` wrote; with --server the id of a map, or a file.")
]
MapFile = Annotated[
    Path | None,
    file_to_write("Write the map (safetensors) here; with --server not needed."),
]
OwnModel = Annotated[str | None, typer.Option(metavar="NAME", help="Whose vectors they are; the map must be of it.")]


@app.command("fit")
@unfold
def fit_map(
    a: SideA,
    b: SideB,
    *,
    out: MapFile = None,
    fitting: Fitting,
    labels: LabelFiles,
    models: Models,
    as_json: Json = False,
    service: Service,
) -> None:
    """Fit a map from A's space to B's on some rows, judge it on the others, and write it to a file."""
    if service.server is None and out is None:
        raise InvalidRequest("Nothing says where the map goes.", hint="Name a file with --out.")
    options, columns = fitting.read(), labels.read()
    if service.server is not None:
        stored = fit_there(service.server, (a, b), options, columns, models.names, service.timeout)
        _show(stored.card, as_json=as_json)
        remarks().print(f"Kept as {stored.id}", soft_wrap=True)
        if out is not None:
            fetch_map(service.server, stored.id, out)
    elif out is not None:
        _show(_fit_here(a, b, options, columns, models.names, out, service.timeout), as_json=as_json)
        remarks().print(f"Written to {out}", soft_wrap=True)


def _fit_here(  # noqa: PLR0917 - what the command has read, in its order
    a: str, b: str, options: MapOptions, columns: Columns, models: Names, out: Path, timeout_s: float | None
) -> MapDocument:
    for side in (a, b):
        require_source(side, None)
    with packages_of("compute", "Mapping in this process"), work_here("reading", timeout_s) as report:
        from consilience.mapping import fit  # noqa: PLC0415 -- numpy and faiss, only for those who map here

        found = fit(Path(a), Path(b), options, ids=columns.ids, groups=columns.groups, models=models, report=report)
        found.save(make_folders(out))
    return found.card


@app.command("apply")
def apply_map(
    map_word: AnyMap,
    vectors: Annotated[str, typer.Argument(metavar="VECTORS", help="A file of vectors; with --server also an id.")],
    *,
    out: Annotated[Path | None, file_to_write("Write the translations (npy) here.")] = None,
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
        emit(made.embedding.id)
        return
    if out is None:
        raise InvalidRequest("Nothing says where the translations go.", hint="Name a file with --out.")
    require_map(map_word)
    require_source(vectors, None)
    with packages_of("compute", "Mapping in this process"), work_here("translating", timeout):
        from consilience.mapping import apply_to_file  # noqa: PLC0415 -- as above

        n, dim = apply_to_file(map_word, vectors, make_folders(out), layer=layer, model=model)
    remarks().print(f"{n} vectors of {dim} dimensions written to {out}", soft_wrap=True)


@app.command("report")
def report_map(map_word: AnyMap, *, as_json: Json = False, server: Server = None) -> None:
    """Print a map's card: what it was fitted on, and how well it does on rows that it has not seen."""
    if server is not None:
        _show(report_there(server, map_word), as_json=as_json)
        return
    require_map(map_word)
    with packages_of("compute", "Mapping in this process"):
        from consilience.mapping import load  # noqa: PLC0415 -- as above

        card = load(map_word).card
    _show(card, as_json=as_json)


def _show(card: MapDocument, *, as_json: bool) -> None:
    show(card, map_table, card.warnings, Output(as_json=as_json))
