"""`consilience map fit|apply|report`: maps from one space to another."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Group, RenderableType
from rich.text import Text
from typer import Option

from consilience.cli.errors import require_extra
from consilience.cli.options import (
    Json,
    OutputOptions,
    Pairing,
    Seed,
    Server,
    ServiceOptions,
    SideA,
    SideB,
    SideLabelFiles,
    Timeout,
    create_parent_folders,
    output_file_option,
    with_option_groups,
)
from consilience.cli.output import (
    format_number,
    new_table,
    output_document,
    print_written,
    standard_error,
    write,
    write_file,
)
from consilience.cli.parsing import SideLabels, parse_map
from consilience.cli.remote import connect, local_work, progress_bar, wait_for_document
from consilience.cli.score import check_source, upload_with_labels
from consilience.client.operations import options_of
from consilience.client.sync import Client, PendingJob
from consilience.contract.base import Document
from consilience.contract.maps import MapDocument, MapOptions, MapPreparation, MeanShare, StoredMap, TranslationDocument
from consilience.errors import InputError, InvalidRequest

Kind = Annotated[
    str,
    Option(
        metavar="NAME[:OPTION=VALUE,...]",
        help="Kind of map with its options: procrustes, ridge, low_rank:rank=64, relative:anchors=256 or mlp.",
    ),
]
Model = Annotated[
    str | None, Option(metavar="NAME", help="Name of the model that made the vectors; stored in the model card.")
]


@dataclass(frozen=True)
class MapFitOptions:
    """Kind of map, the rows that it is fitted on, and its evaluation."""

    kind: Kind = "ridge"
    layer_a: Annotated[str, Option(help="Layer of A: `last` or a name.")] = "last"
    layer_b: Annotated[str, Option(help="Layer of B: `last` or a name.")] = "last"
    preparation: Annotated[
        MapPreparation, Option(help="Preprocessing of the rows: l2 scales each row to length 1.")
    ] = "l2"
    pairing: Pairing = "row"
    test_share: Annotated[float, Option(help="Share of the rows that is held out to evaluate the map.")] = 0.2
    max_queries: Annotated[int, Option(min=1, help="Maximum number of held-out rows used as queries.")] = 4096
    seed: Seed = 0

    def read(self) -> MapOptions:
        """Build the map options of the contract; InvalidRequest names the option of an invalid value."""
        fields = {
            "map": parse_map(self.kind),
            "layers": {"a": self.layer_a, "b": self.layer_b},
            "preparation": self.preparation,
            "pairing": self.pairing,
            "test_share": self.test_share,
            "max_queries": self.max_queries,
            "seed": self.seed,
        }
        return options_of(MapOptions, None, fields)


@dataclass(frozen=True)
class ModelNameOptions:
    """Names of the models that made the vectors of A and of B."""

    model_a: Model = None
    model_b: Model = None

    @property
    def names(self) -> tuple[str | None, str | None]:
        """Names of the models of A and of B."""
        return self.model_a, self.model_b


MAP_ID = re.compile(r"map_[0-9a-f]{32}")
Outcome = TypeVar("Outcome", bound=Document)
ModelNames = tuple[str | None, str | None]


def fit_on_service(  # noqa: PLR0917 - the arguments of the command, in their order
    server: str,
    sides: tuple[str, str],
    options: MapOptions,
    columns: SideLabels,
    models: ModelNames,
    timeout_s: float | None,
) -> StoredMap:
    """Have the service fit and store a map of two files or stored sets."""
    for side in sides:
        check_source(side, server)
    with connect(server) as client:
        a, b = (
            upload_with_labels(client, *each) for each in zip(sides, columns.ids, columns.groups, models, strict=True)
        )
        return _wait(client, client.fit_map(a, b, options), StoredMap, timeout_s)


def download_map(server: str, map_id: str, out: Path) -> None:
    """Download a stored map to a file."""
    with connect(server) as client:
        content = client.map_file(map_id)
    write_file(out, content)


def apply_on_service(  # noqa: PLR0917 - as above
    server: str, map_word: str, vectors: str, layer: str, model: str | None, timeout_s: float | None
) -> TranslationDocument:
    """Have the service translate a file or a stored set, and store the result as a new set."""
    check_source(vectors, server)
    with connect(server) as client:
        pending = client.translate_set(_map_id(client, map_word), vectors, layer=layer, model=model)
        return _wait(client, pending, TranslationDocument, timeout_s)


def fetch_map_document(server: str, map_id: str) -> MapDocument:
    """Fetch the model card of a stored map."""
    if not MAP_ID.fullmatch(map_id):
        raise InputError(
            f"With --server, MAP must be the id of a map; got {map_id!r}.",
            value=map_id,
            hint="Leave out --server for the model card of a file.",
        )
    with connect(server) as client:
        return client.map(map_id).model_card


def check_map_file(map_word: str) -> None:
    """Raise InputError for the id of a stored map, which needs a service."""
    if MAP_ID.fullmatch(map_word) and not Path(map_word).is_file():
        raise InputError(
            f"{map_word} is the id of a stored map.", value=map_word, hint="Name its service with --server URL."
        )


def _map_id(client: Client, map_word: str) -> str:
    """Return the id of a map; a file is uploaded first."""
    if MAP_ID.fullmatch(map_word):
        return map_word
    if not Path(map_word).is_file():
        raise InputError(f"MAP must be a file or the id of a map; got {map_word!r}.", value=map_word)
    return client.upload_map(map_word).id


def _wait(client: Client, pending: PendingJob[Outcome], outcome: type[Outcome], timeout_s: float | None) -> Outcome:
    with progress_bar("waiting") as report:
        return wait_for_document(client, pending.id, outcome, report, timeout_s)


def map_table(card: MapDocument) -> RenderableType:
    """Table of the results of a map on held-out rows, beside the best linear map and chance."""
    own, linear, chance = card.evaluation, card.best_linear.evaluation, card.chance
    table = new_table(
        "held-out rows", "map", "interval", f"best linear ({card.best_linear.kind})", "chance", left=("held-out rows",)
    )
    table.add_row("cosine", _bold(own.cosine), "", format_number(linear.cosine), format_number(chance.cosine))
    table.add_row("r2", _bold(own.r2), "", format_number(linear.r2), format_number(chance.r2))
    for name, arrow in (("forward", "a to b"), ("backward", "b to a")):
        ours, theirs = getattr(own, name), getattr(linear, name)
        ranks = Text(f"{ours.mean_rank:.1f}", "bold"), "", f"{theirs.mean_rank:.1f}", f"{chance.mean_rank:.1f}"
        table.add_row(f"mean rank, {arrow}", *ranks)
        table.add_row(f"mrr, {arrow}", *_estimate(ours.mrr), format_number(theirs.mrr.value), format_number(chance.mrr))
        for k, share in ours.recall.items():
            others = format_number(theirs.recall[k].value), format_number(chance.recall[k])
            table.add_row(f"recall@{k}, {arrow}", *_estimate(share), *others)
    return Group(Text(_heading(card), "bold"), Text(_fit_summary(card)), table)


def _heading(card: MapDocument) -> str:
    return f"{card.map.kind} map, {_side(card, 'a')} to {_side(card, 'b')}"


def _side(card: MapDocument, name: str) -> str:
    side = getattr(card, name)
    return f"{side.model or side.name} ({side.dim})"


def _fit_summary(card: MapDocument) -> str:
    fitted = ", ".join(f"{name} {value:g}" for name, value in card.fitted.model_dump(exclude_none=True).items())
    queries = card.evaluation.forward.queries
    rows = f"{card.n_train} training rows, {card.n_test} held-out rows, {queries} queries"
    return f"{rows}; {fitted}" if fitted else rows


def _bold(value: float | None) -> Text:
    return Text(format_number(value), "bold")


def _estimate(share: MeanShare) -> tuple[Text, str]:
    return _bold(share.value), f"[{share.low:.3f}, {share.high:.3f}]"


app = typer.Typer(help="Fit, apply and describe maps from one embedding space to another.", no_args_is_help=True)

MapArgument = Annotated[
    str, typer.Argument(metavar="MAP", help="Map file that `map fit` wrote; with --server the id of a map, or a file.")
]
MapOutput = Annotated[
    Path | None,
    output_file_option("Safetensors file to write the map to; optional with --server."),
]


@app.command("fit")
@with_option_groups
def fit_map(
    a: SideA,
    b: SideB,
    *,
    out: MapOutput = None,
    fitting: MapFitOptions,
    labels: SideLabelFiles,
    models: ModelNameOptions,
    as_json: Json = False,
    service: ServiceOptions,
) -> None:
    """Fit a map from the space of A to the space of B, evaluate it on held-out rows, and write it to a file."""
    if service.server is None and out is None:
        raise InvalidRequest("The output file is missing.", hint="Name it with --out FILE.")
    options, columns = fitting.read(), labels.read()
    if service.server is not None:
        stored = fit_on_service(service.server, (a, b), options, columns, models.names, service.timeout)
        _print_card(stored.model_card, as_json=as_json)
        standard_error().print(f"Stored the map as {stored.id}", soft_wrap=True)
        if out is not None:
            download_map(service.server, stored.id, out)
    elif out is not None:
        card = _fit_locally(a, b, options, columns, models.names, out, service.timeout)
        _print_card(card, as_json=as_json)
        print_written(out)


def _fit_locally(  # noqa: PLR0917 - the arguments of the command, in their order
    a: str, b: str, options: MapOptions, columns: SideLabels, models: ModelNames, out: Path, timeout_s: float | None
) -> MapDocument:
    for side in (a, b):
        check_source(side, None)
    with require_extra("compute", "Mapping in this process"), local_work("reading", timeout_s) as report:
        from consilience.maps.api import fit_map as fit  # noqa: PLC0415 -- numpy and faiss load only for local work

        fitted = fit(Path(a), Path(b), options, ids=columns.ids, groups=columns.groups, models=models, report=report)
        fitted.save(create_parent_folders(out))
    return fitted.card


@app.command("apply")
def apply_map(
    map_word: MapArgument,
    vectors: Annotated[
        str, typer.Argument(metavar="VECTORS", help="Vectors to translate: a file; with --server also an id.")
    ],
    *,
    out: Annotated[Path | None, output_file_option("npy file to write the vectors to; not with --server.")] = None,
    layer: Annotated[str, Option(help="Layer of VECTORS to translate: `last` or a name.")] = "last",
    model: Annotated[
        str | None,
        Option(metavar="NAME", help="Name of the model that made VECTORS; an error if the map is for another model."),
    ] = None,
    server: Server = None,
    timeout: Timeout = None,
) -> None:
    """Translate vectors into the target space of a map.

    The result is an npy file of float32 rows. With --server, the result is stored as a new set and its id is printed.
    """
    if server is not None:
        if out is not None:
            raise InvalidRequest(
                "--out cannot be used with --server: the service stores the result as a set.",
                hint="Leave out --out or --server.",
            )
        translation = apply_on_service(server, map_word, vectors, layer, model, timeout)
        write(translation.embedding.id)
        return
    if out is None:
        raise InvalidRequest("The output file is missing.", hint="Name it with --out FILE.")
    check_map_file(map_word)
    check_source(vectors, None)
    with require_extra("compute", "Mapping in this process"), local_work("translating", timeout):
        from consilience.maps.api import apply_map_to_file  # noqa: PLC0415 -- as above

        n, dim = apply_map_to_file(map_word, vectors, create_parent_folders(out), layer=layer, model=model)
    standard_error().print(f"Wrote {n} vectors of {dim} dimensions to {out}", soft_wrap=True)


@app.command("report")
def report_map(map_word: MapArgument, *, as_json: Json = False, server: Server = None) -> None:
    """Print the model card of a map: its training data and its results on held-out rows."""
    if server is not None:
        _print_card(fetch_map_document(server, map_word), as_json=as_json)
        return
    check_map_file(map_word)
    with require_extra("compute", "Mapping in this process"):
        from consilience.maps.api import load_map  # noqa: PLC0415 -- as above

        card = load_map(map_word).card
    _print_card(card, as_json=as_json)


def _print_card(card: MapDocument, *, as_json: bool) -> None:
    output_document(card, map_table, card.warnings, OutputOptions(as_json=as_json))
