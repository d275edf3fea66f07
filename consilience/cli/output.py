"""How a document leaves the command."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import RenderableType

from consilience.cli.consoles import emit, remarks, results, warn
from consilience.cli.groups import Output
from consilience.cli.numbers import metric_label
from consilience.cli.places import make_folders
from consilience.cli.tables import score_table
from consilience.contract.base import Document
from consilience.contract.scores import ScoreDocument
from consilience.errors import InputError, InvalidRequest

Model = TypeVar("Model", bound=Document)


def present(document: Model, table: Callable[[Model], RenderableType], *, as_json: bool) -> None:
    """To standard output: as a table, or alone as JSON."""
    if as_json:
        emit(to_json(document))
    else:
        results().print(table(document))


def to_json(document: Document) -> str:
    """As the service would answer it, for people to read."""
    return document.model_dump_json(by_alias=True, indent=2)


def show_scores(document: ScoreDocument, output: Output) -> None:
    """Scores, with their warnings."""
    show(document, score_table, _warnings(document), output)


def show(document: Model, table: Callable[[Model], RenderableType], warnings: Sequence[str], output: Output) -> None:
    """To standard output, its warnings beside; into a file too, where one is named."""
    present(document, table, as_json=output.as_json)
    for warning in warnings:
        warn(warning)
    if output.out is not None:
        write(output.out, to_json(document) + "\n")


def check_out(out: Path | None, suffixes: Sequence[str]) -> None:
    """Refuse a file whose form its name does not tell, before anything is computed."""
    if out is not None and out.suffix.lower() not in suffixes:
        raise InvalidRequest(
            f"What form {out.name} is to have cannot be told.", value=out, hint=f"End it in {', '.join(suffixes)}."
        )


def write(out: Path, content: str | bytes) -> None:
    """To a file; InputError where it cannot be written."""
    try:
        make_folders(out).write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}.", value=out) from error
    remarks().print(f"Written to {out}", soft_wrap=True)


def _warnings(document: ScoreDocument) -> list[str]:
    by_score = (
        f"{metric_label(score.metric, score.options)}: {warning}"
        for score in document.scores
        for warning in score.warnings
    )
    return [*document.warnings, *by_score]
