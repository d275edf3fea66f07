"""`consilience extract MODEL DATASET --view VIEW`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from consilience.cli.errors import packages_of
from consilience.cli.options import Device, Json, Output, Server, Timeout, file_to_write
from consilience.cli.output import fact_table, remarks, show
from consilience.cli.remote import await_document, connect, progress_bar, work_here
from consilience.client.operations import options_of
from consilience.contract.extraction import ExtractedLayer, ExtractionDocument, ExtractionRequest
from consilience.contract.models import Pooling
from consilience.contract.records import SetRecord
from consilience.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consilience.execution.extraction import Making
    from consilience.formats.open_file import LayerHeader

Facts = dict[str, str]


def extract(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="KIND:NAME, such as hf:all-MiniLM-L6-v2.")],
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="stdlib-docs or scenes:n=64; with --server also ds_...")
    ],
    *,
    view: Annotated[str, typer.Option(help="Which view of the items: text, code, image, ...")],
    layers: Annotated[str, typer.Option(metavar="all|last|NAME,...", help="Layers of the model.")] = "all",
    pooling: Annotated[Pooling, typer.Option(help="How an item's vectors become one.")] = "auto",
    max_length: Annotated[int | None, typer.Option(min=1, help="Tokens that are read of a text.")] = None,
    out: Annotated[Path | None, file_to_write("Write the set here, as safetensors.")] = None,
    ids_out: Annotated[Path | None, file_to_write("Write the items' ids here, as a JSON list.")] = None,
    folders: Annotated[
        list[Path] | None,
        typer.Option(
            "--models", metavar="FOLDER", exists=True, file_okay=False, help="A folder of models. Repeatable."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="With --server: the set's label.")] = None,
    server: Server = None,
    timeout: Timeout = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Embed a dataset with a model: into a file here, or into a set of a service.

    A run that was interrupted is gone on with when it is asked for again.
    """
    chosen = layers if layers in {"all", "last"} else layers.split(",")
    wish = {"model": model, "dataset": dataset, "view": view, "layers": chosen, "pooling": pooling}
    request = options_of(ExtractionRequest, None, {**wish, "max_length": max_length, "name": name})
    if server is not None:
        _refuse_local({"--out": out, "--ids-out": ids_out, "--models": folders}, device)
        _show(_extract_there(request, server, timeout), as_json=as_json)
        return
    if out is None:
        raise InputError("Nobody is told where the set goes.", hint="Say --out FILE, or which service with --server.")
    making = _extract_here(request, out, ids_out, folders or [], device, timeout)
    _show_made(making, out, as_json=as_json)


def _refuse_local(options: "Mapping[str, object]", device: str) -> None:
    for word, value in (*options.items(), ("--device", None if device == "auto" else device)):
        if value:
            raise InputError(
                f"{word} is for what is embedded here; a service keeps the set.",
                value=str(value),
                hint=f"Leave out {word}, or --server.",
            )


def _extract_there(request: ExtractionRequest, server: str, timeout_s: float | None) -> ExtractionDocument:
    wish = request.model_dump(exclude={"webhook"})
    with connect(server) as client, progress_bar("waiting") as report:
        pending = client.extract(**wish)
        return await_document(client, pending.id, ExtractionDocument, report, timeout_s)


def _extract_here(  # noqa: PLR0917 - what the command has read, in its order
    request: ExtractionRequest,
    out: Path,
    ids_out: Path | None,
    folders: list[Path],
    device: str,
    timeout_s: float | None,
) -> "Making":
    with packages_of("compute,models", "Embedding in this process"):
        from consilience.execution.extraction import extract_to_file  # noqa: PLC0415 - loads numpy
    with work_here("loading", timeout_s) as report:
        return extract_to_file(request, out, ids_out=ids_out, folders=folders, device=device, report=report)


def _show_made(making: "Making", out: Path, *, as_json: bool) -> None:
    layers, pace = making.rows.layers, making.items_per_s
    show(
        making.record,
        lambda record: fact_table(_facts(record, making.rows.n, layers, pace)),
        making.warnings,
        Output(as_json=as_json),
    )
    remarks().print(f"Written to {out}", soft_wrap=True)


def _show(document: ExtractionDocument, *, as_json: bool) -> None:
    show(document, _card, document.warnings, Output(as_json=as_json))


def _card(document: ExtractionDocument) -> RenderableType:
    facts = {"set": document.embedding, "name": document.name, "cache": document.cache}
    return fact_table(facts | _facts(document.record, document.n, document.layers, document.items_per_s))


def _facts(
    record: SetRecord, n: int, layers: "Sequence[ExtractedLayer | LayerHeader]", items_per_s: float | None
) -> Facts:
    facts = {
        "model": record.model,
        "revision": record.revision or "",
        "dataset": f"{record.dataset}, {record.view}",
        "items": f"{n}",
        "layers": ", ".join(f"{layer.name} ({layer.dim}, {layer.dtype})" for layer in layers),
        "pooling": record.pooling,
        "device": record.device,
        "items a second": "" if items_per_s is None else f"{items_per_s:.1f}",
    }
    return {name: value for name, value in facts.items() if value}
