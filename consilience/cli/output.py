"""Output of the commands: numbers, tables and messages on the terminal, and documents as JSON or in files.

Results go to standard output; progress, warnings and errors go to standard error. Tables fit a terminal of 80 columns.
"""

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
from consilience.cli.options import OutputOptions, create_parent_folders
from consilience.contract.base import Document
from consilience.contract.datasets import Dataset
from consilience.contract.jobs import Job
from consilience.contract.metrics import METRICS, Catalogue, MetricDescription
from consilience.contract.scores import GalleryPoint, Interval, NeighboursRecord, NullDistribution, Score, ScoreDocument
from consilience.errors import InputError, InvalidRequest


class _ResultConsole(Console):
    """Console that ignores a closed pipe, such as one to `head`: the command goes on and ends with its own exit status."""

    def on_broken_pipe(self) -> None:
        """Discard further output; files are still written and the exit status stays the same."""
        null_device = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null_device, self.file.fileno())
        os.close(null_device)


def standard_output() -> Console:
    """Console for results."""
    return _ResultConsole()


def write(text: str) -> None:
    """Write text to standard output without wrapping its lines."""
    standard_output().out(text, highlight=False)


def standard_error() -> Console:
    """Console for progress, warnings and errors."""
    return Console(stderr=True)


def print_warning(message: str) -> None:
    """Print a warning."""
    standard_error().print(Text.assemble(("warning: ", "yellow"), message), soft_wrap=True)


def print_error(message: str) -> None:
    """Print an error."""
    standard_error().print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)


#: Smallest p-value that a closed form reports.
P_VALUE_MIN = 1e-12
MISSING = "-"


def format_number(value: float | None) -> str:
    """Format a number with four decimals: more would claim a precision that no sample has."""
    # Adding zero turns the minus zero of a rounded number into zero.
    return MISSING if value is None else f"{round(value, 4) + 0.0:.4f}"


def format_p_value(null: NullDistribution) -> str:
    """Format a p-value, with `<` or `<=` if it is an upper bound."""
    if null.p_value is None:
        return MISSING
    if null.p_is_bound and null.p_value <= P_VALUE_MIN:
        return f"< {P_VALUE_MIN:.0e}"
    text = f"{null.p_value:.2g}"
    return f"<= {text}" if null.p_is_bound else text


def format_interval(interval: Interval | None) -> str:
    """Format the ends of an interval."""
    return MISSING if interval is None else f"[{interval.low:.3f}, {interval.high:.3f}]"


def metric_label(name: str, options: Mapping[str, Any]) -> str:
    """Label of a metric: its name, its k, and the options that differ from the defaults."""
    kind = METRICS.get(name)
    defaults = kind.model_validate({"metric": name}).options() if kind else {}
    shown = {key: value for key, value in options.items() if key == "k" or defaults.get(key, value) != value}
    return " ".join([name, *(f"{key}={_format_option(value)}" for key, value in shown.items())])


def layer_pair_label(score: Score) -> str:
    """Label of the best pair of layers."""
    return MISSING if score.layer_a is None else f"{score.layer_a} / {score.layer_b}"


def _format_option(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


#: Length of the longest bar, in characters.
BAR_LENGTH = 30


def gallery_curve_table(score: Score) -> RenderableType:
    """Table of the gallery-size curve: size, score, interval of an estimated score, and a bar from 0, one line per gallery."""
    points = score.gallery_curve or ()
    title = f"{metric_label(score.metric, score.options)} by gallery size"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for column in ("rows", "value", "interval"):
        table.add_column(column, justify="right")
    table.add_column("")
    longest = max((abs(point.value) for point in points), default=0.0)
    for point in points:
        table.add_row(
            str(point.n), Text(format_number(point.value), "bold"), _interval(point), _bar(point.value, longest)
        )
    return table


def _interval(point: GalleryPoint) -> str:
    return MISSING if point.low == point.high else f"[{point.low:.3f}, {point.high:.3f}]"


def _bar(value: float, longest: float) -> Text:
    length = round(BAR_LENGTH * max(0.0, value) / longest) if longest > 0 else 0
    return Text("━" * length, "cyan")


def parse_threshold(word: str, option: str, noun: str, example: str) -> tuple[str, float]:
    """Parse the value of a threshold option, NAME=NUMBER; the name may contain `=`.

    Parameters
    ----------
    option, noun, example
        Words of the error message: the option, what the name stands for, and a valid value.

    Raises
    ------
    InvalidRequest
        The value has another form.
    """
    name, equals, text = word.rpartition("=")
    try:
        value = float(text)
    except ValueError:
        value = nan
    if not equals or not isfinite(value):
        raise InvalidRequest(f"{option} needs {noun}=VALUE, for example {example}; got {word!r}.", value=word)
    return name, value


def passed_label(*, passed: bool) -> Text:
    """Label of a check in a table."""
    return Text("passed", "green") if passed else Text("failed", "bold red")


def report_thresholds(table: RenderableType, passed: Iterable[bool], *, as_json: bool) -> None:
    """Print the table of checks and end with status 1 if one failed.

    The table goes to standard error if standard output holds a JSON document.
    """
    (standard_error() if as_json else standard_output()).print(table)
    if not all(passed):
        raise typer.Exit(ExitStatus.BELOW_THRESHOLD)


def new_table(*columns: str, left: Sequence[str] = ()) -> Table:
    """Empty table; columns are aligned right, except those named in `left`."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right", overflow="fold")
    return table


def score_table(document: ScoreDocument) -> RenderableType:
    """Table of the scores with chance level, p-value, interval and layers."""
    table = new_table("metric", "value", "chance", "p-value", "interval", "layers", left=("metric",))
    for score in document.scores:
        table.add_row(
            metric_label(score.metric, score.options),
            score_value(score),
            format_number(score.null.mean),
            format_p_value(score.null),
            format_interval(score.interval),
            layer_pair_label(score),
        )
    curves = [gallery_curve_table(score) for score in document.scores if score.gallery_curve]
    return Group(_heading(document), table, *_undefined(document.scores), *_approximate(document.scores), *curves)


def job_table(jobs: Sequence[Job]) -> RenderableType:
    """Table of jobs."""
    table = new_table("job", "status", "created", left=("job", "status", "created"))
    for job in jobs:
        table.add_row(job.id, job.status, f"{job.created_at:%Y-%m-%d %H:%M:%S}")
    return table


def dataset_table(datasets: Sequence[Dataset]) -> RenderableType:
    """Table of datasets."""
    table = new_table("id", "name", "items", "views", left=("id", "name", "views"))
    for dataset in datasets:
        table.add_row(dataset.id, dataset.name, f"{dataset.n}", ", ".join(view.name for view in dataset.views))
    return table


def view_table(dataset: Dataset) -> RenderableType:
    """Table of the views of a dataset."""
    table = new_table("view", "kind", "bytes", left=("view", "kind"))
    for view in dataset.views:
        table.add_row(view.name, view.kind, f"{view.bytes}")
    return table


def metric_table(catalogue: Catalogue) -> RenderableType:
    """Table of the metrics with range and meaning."""
    table = new_table("metric", "range", "meaning", left=("metric", "range", "meaning"))
    for card in catalogue.data:
        table.add_row(card.name, _span(card), Text(card.summary))
    return table


def fact_table(facts: Mapping[str, str]) -> RenderableType:
    """Table of names and values without a header."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, value)
    return table


def metric_card(card: MetricDescription) -> RenderableType:
    """Full description of one metric."""
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


def score_value(score: Score) -> Text:
    """Format the value of a score, with the half-width of its interval if it is an estimate."""
    if score.status != "defined":
        return Text("undefined", "yellow")
    value = Text(format_number(score.value), "bold")
    if score.estimator == "estimated" and score.interval is not None:
        value.append(f" ±{format_number((score.interval.high - score.interval.low) / 2)}", "not bold")
    return value


def _heading(document: ScoreDocument) -> Text:
    a, b, profile = document.a, document.b, document.preparation.profile
    counts = {score.queries for score in document.scores if score.estimator == "estimated"}
    queries = "".join(f", {count} queries" for count in sorted(counts))
    return Text(f"{a.name} and {b.name}: {document.n} items{queries}, profile {profile}", "bold")


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


def _recall(search: NeighboursRecord) -> str:
    return f"{search.builder} found {search.recall:.2%} of the neighbours of {search.recall_queries} sampled rows."


def _span(card: MetricDescription) -> str:
    return f"{_bound(card.low)} to {_bound(card.high)}"


def _bound(value: float | None) -> str:
    return MISSING if value is None else f"{value:g}"


Model = TypeVar("Model", bound=Document)


def print_document(document: Model, table: Callable[[Model], RenderableType], *, as_json: bool) -> None:
    """Print a document to standard output, as a table or as JSON."""
    if as_json:
        write(document_json(document))
    else:
        standard_output().print(table(document))


def document_json(document: Document) -> str:
    """Return a document as indented JSON."""
    return document.model_dump_json(by_alias=True, indent=2)


def output_scores(document: ScoreDocument, output: OutputOptions) -> None:
    """Output a score document and its warnings."""
    output_document(document, score_table, _warnings(document), output)


def output_document(
    document: Model, table: Callable[[Model], RenderableType], warnings: Sequence[str], output: OutputOptions
) -> None:
    """Print a document and its warnings, and write it to the file of --out if there is one."""
    print_document(document, table, as_json=output.as_json)
    for warning in warnings:
        print_warning(warning)
    if output.out is not None:
        write_file(output.out, document_json(document) + "\n")


def check_suffix(out: Path | None, suffixes: Sequence[str]) -> None:
    """Raise InvalidRequest if the name of the output file has none of the suffixes."""
    if out is not None and out.suffix.lower() not in suffixes:
        raise InvalidRequest(
            f"--out needs a file name that ends in {', '.join(suffixes[:-1])} or {suffixes[-1]}; got {out.name!r}.",
            value=out,
        )


def write_file(out: Path, content: str | bytes) -> None:
    """Write a file and its missing folders; InputError if that fails."""
    try:
        create_parent_folders(out).write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}.", value=out) from error
    print_written(out)


def print_written(out: Path) -> None:
    """Print the name of the file that was written."""
    standard_error().print(f"Wrote {out}", soft_wrap=True)


def _warnings(document: ScoreDocument) -> list[str]:
    by_score = (
        f"{metric_label(score.metric, score.options)}: {warning}"
        for score in document.scores
        for warning in score.warnings
    )
    return [*document.warnings, *by_score]
