"""How a document leaves the command."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite, nan
from pathlib import Path
from typing import Any, TypeVar

import typer
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from consilience.cli.errors import ExitStatus
from consilience.cli.options import Output, make_folders
from consilience.contract.base import Document
from consilience.contract.datasets import Dataset
from consilience.contract.jobs import Job
from consilience.contract.metrics import METRICS, Catalogue, MetricCard
from consilience.contract.scores import GalleryPoint, Interval, NeighboursRecord, Null, Score, ScoreDocument
from consilience.errors import InputError, InvalidRequest


class _Results(Console):
    """A console whose reader may leave, as `head` does: what is left is not said, and the command ends as it would have."""

    def on_broken_pipe(self) -> None:
        """Say no more: a reader that has left changes no verdict, and files are still to be written."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


def results() -> Console:
    """For what was asked for."""
    return _Results()


def emit(text: str) -> None:
    """What was asked for, as it is: no line of it is broken."""
    results().out(text, highlight=False)


def remarks() -> Console:
    """For progress, warnings and errors."""
    return Console(stderr=True)


def warn(message: str) -> None:
    """One warning."""
    remarks().print(Text.assemble(("warning: ", "yellow"), message), soft_wrap=True)


def complain(message: str) -> None:
    """One error."""
    remarks().print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)


#: The least p-value that a closed form reports.
P_FLOOR = 1e-12
ABSENT = "-"


def figure(value: float | None) -> str:
    """Four decimals: more would claim a precision that no sample has."""
    # Adding zero turns the minus zero of a rounded figure into zero.
    return ABSENT if value is None else f"{round(value, 4) + 0.0:.4f}"


def p_value(null: Null) -> str:
    """With `<` or `<=` where it is a bound."""
    if null.p_value is None:
        return ABSENT
    if null.p_is_bound and null.p_value <= P_FLOOR:
        return f"< {P_FLOOR:.0e}"
    text = f"{null.p_value:.2g}"
    return f"<= {text}" if null.p_is_bound else text


def interval(found: Interval | None) -> str:
    """Low and high."""
    return ABSENT if found is None else f"[{found.low:.3f}, {found.high:.3f}]"


def metric_label(name: str, options: Mapping[str, Any]) -> str:
    """The name, its k, and the options that are not the default."""
    kind = METRICS.get(name)
    usual = kind.model_validate({"metric": name}).options() if kind else {}
    told = {key: value for key, value in options.items() if key == "k" or usual.get(key, value) != value}
    return " ".join([name, *(f"{key}={_word(value)}" for key, value in told.items())])


def layers_label(score: Score) -> str:
    """The best pair of layers."""
    return ABSENT if score.layer_a is None else f"{score.layer_a} / {score.layer_b}"


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


#: Characters of the longest bar.
BAR_WIDTH = 30


def curve_table(score: Score) -> RenderableType:
    """One line a gallery: its rows, the score there, its interval where some rows alone asked, and a bar from 0."""
    points = score.gallery_curve or ()
    title = f"{metric_label(score.metric, score.options)} by gallery size"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for column in ("rows", "value", "interval"):
        table.add_column(column, justify="right")
    table.add_column("")
    longest = max((abs(point.value) for point in points), default=0.0)
    for point in points:
        table.add_row(str(point.n), Text(figure(point.value), "bold"), _interval(point), _bar(point.value, longest))
    return table


def _interval(point: GalleryPoint) -> str:
    return ABSENT if point.low == point.high else f"[{point.low:.3f}, {point.high:.3f}]"


def _bar(value: float, longest: float) -> Text:
    length = round(BAR_WIDTH * max(0.0, value) / longest) if longest > 0 else 0
    return Text("━" * length, "cyan")


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


def new_table(*columns: str, left: Sequence[str] = ()) -> Table:
    """An empty table; figures are set right, the columns named in `left` left."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right", overflow="fold")
    return table


def score_table(document: ScoreDocument) -> RenderableType:
    """Every score with what it takes to read it."""
    table = new_table("metric", "value", "chance", "p-value", "interval", "layers", left=("metric",))
    for score in document.scores:
        table.add_row(
            metric_label(score.metric, score.options),
            value_text(score),
            figure(score.null.mean),
            p_value(score.null),
            interval(score.interval),
            layers_label(score),
        )
    curves = [curve_table(score) for score in document.scores if score.gallery_curve]
    return Group(_heading(document), table, *_undefined(document.scores), *_approximate(document.scores), *curves)


def job_table(jobs: Sequence[Job]) -> RenderableType:
    """Jobs, one a line."""
    table = new_table("job", "status", "created", left=("job", "status", "created"))
    for job in jobs:
        table.add_row(job.id, job.status, f"{job.created_at:%Y-%m-%d %H:%M:%S}")
    return table


def dataset_table(datasets: Sequence[Dataset]) -> RenderableType:
    """Datasets, one a line."""
    table = new_table("id", "name", "items", "views", left=("id", "name", "views"))
    for dataset in datasets:
        table.add_row(dataset.id, dataset.name, f"{dataset.n}", ", ".join(view.name for view in dataset.views))
    return table


def view_table(dataset: Dataset) -> RenderableType:
    """The views of a dataset, one a line."""
    table = new_table("view", "kind", "bytes", left=("view", "kind"))
    for view in dataset.views:
        table.add_row(view.name, view.kind, f"{view.bytes}")
    return table


def metric_table(catalogue: Catalogue) -> RenderableType:
    """The catalogue: each metric's range and what it says."""
    table = new_table("metric", "range", "what it says", left=("metric", "range", "what it says"))
    for card in catalogue.data:
        table.add_row(card.name, _span(card), Text(card.summary))
    return table


def fact_table(facts: Mapping[str, str]) -> RenderableType:
    """A few facts by their names."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, value)
    return table


def metric_card(card: MetricCard) -> RenderableType:
    """Everything that one metric declares about itself."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    facts = {
        "formula": card.formula,
        "range": f"{_span(card)}, a {card.direction}, {'' if card.symmetric else 'not '}symmetric",
        "at chance": card.chance,
        "null": ", ".join(card.nulls),
        "cost": card.cost,
        "source": card.reference,
    }
    for name, fact in facts.items():
        table.add_row(name, Text(fact))
    for name, schema in card.options.items():
        table.add_row(f"  {name}", Text(f"{schema.get('default')}  {schema.get('description', '')}".rstrip()))
    return Group(Text(f"{card.name}: {card.title}", "bold"), Text(card.summary), Text(), table)


def value_text(score: Score) -> Text:
    """The value, or that there is none; where some rows alone asked, with the half width of its interval."""
    if score.status != "defined":
        return Text("undefined", "yellow")
    value = Text(figure(score.value), "bold")
    if score.estimator == "estimated" and score.interval is not None:
        value.append(f" ±{figure((score.interval.high - score.interval.low) / 2)}", "not bold")
    return value


def _heading(document: ScoreDocument) -> Text:
    a, b, profile = document.a, document.b, document.preparation.profile
    asked = {score.queries for score in document.scores if score.estimator == "estimated"}
    some = "".join(f", {count} of them asked" for count in sorted(asked))
    return Text(f"{a.name} and {b.name}: {document.n} items{some}, profile {profile}", "bold")


def _undefined(scores: Sequence[Score]) -> list[Text]:
    return [
        Text(f"{metric_label(score.metric, score.options)} is undefined: {score.reason.detail}", "yellow")
        for score in scores
        if score.reason is not None
    ]


def _approximate(scores: Sequence[Score]) -> list[Text]:
    return [
        Text(f"{metric_label(score.metric, score.options)} is approximate: {_recall(score.neighbours)}", "yellow")
        for score in scores
        if score.estimator == "approximate" and score.neighbours is not None
    ]


def _recall(made: NeighboursRecord) -> str:
    return f"{made.builder} found {made.recall:.2%} of the neighbours (of {made.recall_queries} rows)."


def _span(card: MetricCard) -> str:
    return f"{_bound(card.low)} to {_bound(card.high)}"


def _bound(value: float | None) -> str:
    return ABSENT if value is None else f"{value:g}"


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
