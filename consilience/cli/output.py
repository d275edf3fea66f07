"""How a score document leaves the command."""

from pathlib import Path

import typer

from consilience.cli.consoles import remarks, results, warn
from consilience.cli.numbers import metric_label
from consilience.cli.tables import score_table
from consilience.contract.scores import ScoreDocument
from consilience.errors import InputError


def show(document: ScoreDocument, *, as_json: bool, out: Path | None) -> None:
    """To standard output as a table, or alone as JSON; into a file too, where one is named."""
    text = document.model_dump_json(by_alias=True, indent=2)
    if as_json:
        typer.echo(text)
    else:
        results().print(score_table(document))
    for warning in _warnings(document):
        warn(warning)
    if out is not None:
        write(out, text + "\n")


def write(out: Path, text: str) -> None:
    """To a file; InputError where it cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
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
