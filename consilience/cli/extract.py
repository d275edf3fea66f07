"""`consilience extract MODEL DATASET --view VIEW`: embed a dataset with a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from consilience.cli.errors import require_extra
from consilience.cli.options import Device, Json, OutputOptions, Server, Timeout, output_file_option
from consilience.cli.output import fact_table, output_document, print_written
from consilience.cli.remote import connect, local_work, progress_bar, wait_for_document
from consilience.client.operations import options_of
from consilience.contract.extraction import ExtractedLayer, ExtractionDocument, ExtractionRequest
from consilience.contract.models import Pooling
from consilience.contract.records import SetRecord
from consilience.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consilience.execution.extraction import ExtractionRun
    from consilience.formats.open_file import LayerHeader

Facts = dict[str, str]


def extract(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model as KIND:NAME, for example hf:all-MiniLM-L6-v2.")],
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET", help="Built-in dataset such as stdlib-docs or scenes:n=64; with --server also an id."
        ),
    ],
    *,
    view: Annotated[str, typer.Option(help="View of the items to embed, for example text, code or image.")],
    layers: Annotated[str, typer.Option(metavar="all|last|NAME,...", help="Layers of the model to extract.")] = "all",
    pooling: Annotated[Pooling, typer.Option(help="Reduction of the vectors of an item to one.")] = "auto",
    max_length: Annotated[int | None, typer.Option(min=1, help="Maximum number of tokens to read of a text.")] = None,
    out: Annotated[
        Path | None, output_file_option("Safetensors file to write the set to; not used with --server.")
    ] = None,
    ids_out: Annotated[
        Path | None, output_file_option("JSON file to write the item ids to; not used with --server.")
    ] = None,
    folders: Annotated[
        list[Path] | None,
        typer.Option(
            "--models", metavar="FOLDER", exists=True, file_okay=False, help="Folder to search for models. Repeatable."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the stored set; only with --server.")] = None,
    server: Server = None,
    timeout: Timeout = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Embed a dataset with a model, and write the vectors to a file or store them on a service.

    An interrupted run resumes when you repeat the command.
    """
    chosen = layers if layers in {"all", "last"} else layers.split(",")
    fields = {"model": model, "dataset": dataset, "view": view, "layers": chosen, "pooling": pooling}
    request = options_of(ExtractionRequest, None, {**fields, "max_length": max_length, "name": name})
    if server is not None:
        _reject_local_options({"--out": out, "--ids-out": ids_out, "--models": folders}, device)
        _print_document(_extract_on_service(request, server, timeout), as_json=as_json)
        return
    if out is None:
        raise InputError("The output file is missing.", hint="Name it with --out FILE, or a service with --server URL.")
    run = _extract_locally(request, out, ids_out, folders or [], device, timeout)
    _print_run(run, out, as_json=as_json)


def _reject_local_options(options: "Mapping[str, object]", device: str) -> None:
    for option, value in (*options.items(), ("--device", None if device == "auto" else device)):
        if value:
            raise InputError(
                f"{option} cannot be used with --server: the service computes and stores the set.",
                hint=f"Leave out {option} or --server.",
            )


def _extract_on_service(request: ExtractionRequest, server: str, timeout_s: float | None) -> ExtractionDocument:
    fields = request.model_dump(exclude={"webhook"})
    with connect(server) as client, progress_bar("waiting") as report:
        pending = client.extract(**fields)
        return wait_for_document(client, pending.id, ExtractionDocument, report, timeout_s)


def _extract_locally(  # noqa: PLR0917 - the arguments of the command, in their order
    request: ExtractionRequest,
    out: Path,
    ids_out: Path | None,
    folders: list[Path],
    device: str,
    timeout_s: float | None,
) -> "ExtractionRun":
    with require_extra("compute,models", "Embedding in this process"):
        from consilience.execution.extraction import extract_to_file  # noqa: PLC0415 - loads numpy
    with local_work("loading", timeout_s) as report:
        return extract_to_file(request, out, ids_out=ids_out, folders=folders, device=device, report=report)


def _print_run(run: "ExtractionRun", out: Path, *, as_json: bool) -> None:
    layers, speed = run.rows.layers, run.items_per_s
    output_document(
        run.record,
        lambda record: fact_table(_facts(record, run.rows.n, layers, speed)),
        run.warnings,
        OutputOptions(as_json=as_json),
    )
    print_written(out)


def _print_document(document: ExtractionDocument, *, as_json: bool) -> None:
    output_document(document, _card, document.warnings, OutputOptions(as_json=as_json))


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
        "items per second": "" if items_per_s is None else f"{items_per_s:.1f}",
    }
    return {name: value for name, value in facts.items() if value}
