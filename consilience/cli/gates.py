"""Gates of a pipeline: a bar as it is written, and the table and status that say whether all were reached."""

from collections.abc import Iterable
from math import isfinite, nan

import typer
from rich.console import RenderableType
from rich.text import Text

from consilience.cli.consoles import remarks, results
from consilience.cli.statuses import ExitStatus
from consilience.errors import InvalidRequest


def split_bar(word: str, example: str) -> tuple[str, float]:
    """What `NAME=NUMBER` is about, and the number; the name may hold a `=` of its own.

    Raises
    ------
    InvalidRequest
        It is none; the hint shows the example.
    """
    name, equals, text = word.rpartition("=")
    try:
        value = float(text)
    except ValueError:
        value = nan
    if not equals or not isfinite(value):
        raise InvalidRequest(f"{word!r} is no bar.", value=word, hint=f"Write NAME=NUMBER, such as {example}.")
    return name, value


def verdict_word(*, passed: bool) -> Text:
    """As a table says it."""
    return Text("passed", "green") if passed else Text("failed", "bold red")


def close_gate(table: RenderableType, passed: Iterable[bool], *, as_json: bool) -> None:
    """Show what became of the bars, beside a document that is alone on standard output; status 1 where one was missed."""
    (remarks() if as_json else results()).print(table)
    if not all(passed):
        raise typer.Exit(ExitStatus.BELOW_BAR)
