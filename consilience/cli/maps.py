"""`consilience map fit|apply|report`: maps from one space to another."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Group, RenderableType
from rich.text import Text
from typer import Option

from consilience.cli.errors import packages_of
from consilience.cli.options import (
    Json,
    LabelFiles,
    Output,
    Pairing,
    Seed,
    Server,
    Service,
    SideA,
    SideB,
    Timeout,
    file_to_write,
    make_folders,
    unfold,
)
from consilience.cli.output import emit, figure, new_table, remarks, show, write
from consilience.cli.parsing import Columns, parse_map
from consilience.cli.remote import await_document, connect, progress_bar, work_here
from consilience.cli.score import require_source, store
from consilience.client.operations import options_of
from consilience.client.sync import Client, PendingJob
from consilience.contract.base import Document
from consilience.contract.maps import MapDocument, MapOptions, MapPreparation, MeanShare, StoredMap, TranslationDocument
from consilience.errors import InputError, InvalidRequest

Kind = Annotated[
    str,
    Option(metavar="NAME[:OPTION=VALUE,...]", help="procrustes, ridge, low_rank:rank=64, relative:anchors=256 or mlp."),
]
Layer = Annotated[str, Option(help="The layer that is mapped: last, or its name.")]
Model = Annotated[str | None, Option(metavar="NAME", help="Whose vectors they are; kept in the card.")]


@dataclass(frozen=True)
class Fitting:
    """Which map, from what, and how it is judged."""

    kind: Kind = "ridge"
    layer_a: Layer = "last"
    layer_b: Layer = "last"
    preparation: Annotated[MapPreparation, Option(help="l2: rows are scaled to length 1 first.")] = "l2"
    pairing: Pairing = "row"
    test_share: Annotated[float, Option(help="Share of the rows that the map never sees and is judged by.")] = 0.2
    queries: Annotated[int, Option(min=1, help="Held-out rows that look for their own, at most.")] = 4096
    seed: Seed = 0

    def read(self) -> MapOptions:
        """The contract's options; InvalidRequest says which word cannot be used."""
        fields = {
            "map": parse_map(self.kind),
            "layers": {"a": self.layer_a, "b": self.layer_b},
            "preparation": self.preparation,
            "pairing": self.pairing,
            "test_share": self.test_share,
            "queries": self.queries,
            "seed": self.seed,
        }
        return options_of(MapOptions, None, fields)


@dataclass(frozen=True)
class Models:
    """What a file does not say of its rows."""

    model_a: Model = None
    model_b: Model = None

    @property
    def names(self) -> tuple[str | None, str | None]:
        """Of a and of b."""
        return self.model_a, self.model_b


MAP_ID = re.compile(r"map_[0-9a-f]{32}")
Outcome = TypeVar("Outcome", bound=Document)
ModelNames = tuple[str | None, str | None]


def fit_there(  # noqa: PLR0917 - what the command has read, in its order
    server: str,
    sides: tuple[str, str],
    options: MapOptions,
    columns: Columns,
    models: ModelNames,
    timeout_s: float | None,
) -> StoredMap:
    """The map of two files or stored sets, fitted by a job and kept by the service."""
    for side in sides:
        require_source(side, server)
    with connect(server) as client:
        a, b = (store(client, *each) for each in zip(sides, columns.ids, columns.groups, models, strict=True))
        return _wait(client, client.fit_map(a, b, options), StoredMap, timeout_s)


def fetch_map(server: str, map_id: str, out: Path) -> None:
    """Write a map that the service keeps to a file."""
    with connect(server) as client:
        content = client.map_file(map_id)
    write(out, content)


def apply_there(  # noqa: PLR0917 - as above
    server: str, map_word: str, vectors: str, layer: str, model: str | None, timeout_s: float | None
) -> TranslationDocument:
    """A new set of the translations of a file or a stored set."""
    require_source(vectors, server)
    with connect(server) as client:
        pending = client.translate_set(_find(client, map_word), vectors, layer=layer, model=model)
        return _wait(client, pending, TranslationDocument, timeout_s)


def report_there(server: str, map_id: str) -> MapDocument:
    """The card of a map that the service keeps."""
    if not MAP_ID.fullmatch(map_id):
        raise InputError(f"{map_id} is no id of a map.", value=map_id, hint="Leave out --server for a file's card.")
    with connect(server) as client:
        return client.map(map_id).card


def require_map(word: str) -> None:
    """Refuse the id of a map where there is no service to ask."""
    if MAP_ID.fullmatch(word) and not Path(word).is_file():
        raise InputError(f"{word} is an id of a stored map.", value=word, hint="Say which service with --server.")


def _find(client: Client, word: str) -> str:
    """The id of a map; a file is sent first."""
    if MAP_ID.fullmatch(word):
        return word
    if not Path(word).is_file():
        raise InputError(f"There is no file {word}, and it is no id of a map.", value=word)
    return client.upload_map(word).id


def _wait(client: Client, pending: PendingJob[Outcome], outcome: type[Outcome], timeout_s: float | None) -> Outcome:
    with progress_bar("waiting") as report:
        return await_document(client, pending.id, outcome, report, timeout_s)


def map_table(card: MapDocument) -> RenderableType:
    """What a map does on rows that it has not seen, beside the best linear map and chance."""
    own, linear, chance = card.evaluation, card.best_linear.evaluation, card.chance
    table = new_table(
        "held out", "map", "interval", f"best linear ({card.best_linear.kind})", "chance", left=("held out",)
    )
    table.add_row("cosine", _bold(own.cosine), "", figure(linear.cosine), figure(chance.cosine))
    table.add_row("r2", _bold(own.r2), "", figure(linear.r2), figure(chance.r2))
    for name, arrow in (("forward", "a to b"), ("backward", "b to a")):
        ours, theirs = getattr(own, name), getattr(linear, name)
        table.add_row(
            f"mean rank, {arrow}", *_rank(ours.mean_rank), f"{theirs.mean_rank:.1f}", f"{chance.mean_rank:.1f}"
        )
        table.add_row(f"mrr, {arrow}", *_estimate(ours.mrr), figure(theirs.mrr.value), figure(chance.mrr))
        for k, share in ours.recall.items():
            bar = figure(theirs.recall[k].value), figure(chance.recall[k])
            table.add_row(f"recall@{k}, {arrow}", *_estimate(share), *bar)
    return Group(Text(_heading(card), "bold"), Text(_fit(card)), table)


def _heading(card: MapDocument) -> str:
    return f"{card.map.kind} map, {_side(card, 'a')} to {_side(card, 'b')}"


def _side(card: MapDocument, name: str) -> str:
    side = getattr(card, name)
    return f"{side.model or side.name} ({side.dim})"


def _fit(card: MapDocument) -> str:
    found = ", ".join(f"{name} {value:g}" for name, value in card.fitted.model_dump(exclude_none=True).items())
    asked = card.evaluation.forward
    rows = f"{card.n_train} training rows, {card.n_test} held out, {asked.queries} of them asked"
    return f"{rows}; {found}" if found else rows


def _bold(value: float | None) -> Text:
    return Text(figure(value), "bold")


def _rank(value: float) -> tuple[Text, str]:
    return Text(f"{value:.1f}", "bold"), ""


def _estimate(share: MeanShare) -> tuple[Text, str]:
    return _bold(share.value), f"[{share.low:.3f}, {share.high:.3f}]"


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
        from consilience.maps.api import fit  # noqa: PLC0415 -- numpy and faiss, only for those who map here

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
        from consilience.maps.api import apply_to_file  # noqa: PLC0415 -- as above

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
        from consilience.maps.api import load  # noqa: PLC0415 -- as above

        card = load(map_word).card
    _show(card, as_json=as_json)


def _show(card: MapDocument, *, as_json: bool) -> None:
    show(card, map_table, card.warnings, Output(as_json=as_json))
