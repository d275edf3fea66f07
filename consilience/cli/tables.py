"""Documents as tables that fit a terminal of 80 columns."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from consilience.cli.curve import curve_table
from consilience.cli.numbers import ABSENT, figure, interval, layers_label, metric_label, p_value
from consilience.contract.datasets import Dataset
from consilience.contract.jobs import Job
from consilience.contract.metrics import Catalogue, MetricCard
from consilience.contract.scores import NeighboursRecord, Score, ScoreDocument


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
