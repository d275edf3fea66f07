"""`consilience check A B --min NAME=VALUE --max NAME=VALUE`: the gate of a pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from consilience.cli.options import (
    Correction,
    Device,
    LabelFiles,
    Measures,
    MemoryBudget,
    OtherSide,
    Output,
    Reference,
    Search,
    Service,
    SideA,
    read_options,
    unfold,
)
from consilience.cli.output import (
    close_gate,
    figure,
    metric_label,
    new_table,
    show_scores,
    split_bar,
    value_text,
    verdict_word,
)
from consilience.cli.parsing import parse_metric
from consilience.cli.score import find_service, obtain_scores, obtain_standings, show_standings
from consilience.contract.metric import Direction
from consilience.contract.metrics import METRICS
from consilience.contract.scores import Score, Standing
from consilience.errors import InvalidRequest

#: What a bar can be about: a score, or the mean of those against a reference set.
Judged = Score | Standing


@dataclass(frozen=True)
class Bar:
    """What the scores of one metric must reach: a similarity at least, a distance at most."""

    choice: dict[str, Any]
    value: float

    def concerns(self, score: Judged) -> bool:
        """Whether this score must reach it."""
        wanted = {name: value for name, value in self.choice.items() if name != "metric"}
        return score.metric == self.choice["metric"] and all(
            score.options.get(name) in (value if isinstance(value, list) else [value]) for name, value in wanted.items()
        )


@dataclass(frozen=True)
class Verdict:
    """A score against a bar. An undefined score reaches none."""

    score: Judged
    bar: float

    @property
    def passed(self) -> bool:
        """Whether the score reaches the bar."""
        if self.score.value is None:
            return False
        return self.score.value <= self.bar if self.score.direction == "distance" else self.score.value >= self.bar


def parse_bars(least: Sequence[str], most: Sequence[str]) -> list[Bar]:
    """All bars; InvalidRequest where there is none."""
    bars = [*(parse_bar(word) for word in least), *(parse_bar(word, "distance") for word in most)]
    if not bars:
        raise InvalidRequest("There is no bar.", hint="Say what must be reached: --min mutual_knn=0.3.")
    return bars


def parse_bar(word: str, direction: Direction = "similarity") -> Bar:
    """`mutual_knn=0.3`, or with options `cka:debiased=false=0.4`; for a metric of this direction."""
    metric, value = split_bar(word, "mutual_knn=0.3")
    choice = parse_metric(metric)
    found = METRICS[choice["metric"]].score_direction
    if found != direction:
        option = "--max" if found == "distance" else "--min"
        raise InvalidRequest(f"{choice['metric']} is a {found}: use {option}.", value=word)
    return Bar(choice, value)


def judge(scores: Sequence[Judged], bars: Sequence[Bar]) -> list[Verdict]:
    """Every score that a bar concerns, against it; InvalidRequest for a bar that concerns none."""
    verdicts: list[Verdict] = []
    for bar in bars:
        found = [Verdict(score, bar.value) for score in scores if bar.concerns(score)]
        if not found:
            label = metric_label(bar.choice["metric"], {k: v for k, v in bar.choice.items() if k != "metric"})
            raise InvalidRequest(f"No score of {label} was asked for, so its bar means nothing.", value=label)
        verdicts += found
    return verdicts


def verdict_table(verdicts: Sequence[Verdict]) -> RenderableType:
    """One line a score: its value, its bar, and whether it passed."""
    table = new_table("metric", "value", "bar", "verdict", left=("metric", "verdict"))
    for verdict in verdicts:
        label = metric_label(verdict.score.metric, verdict.score.options)
        score = verdict.score
        value = value_text(score) if isinstance(score, Score) else figure(score.value)
        table.add_row(label, value, f"{verdict.bar:g}", verdict_word(passed=verdict.passed))
    return table


Least = Annotated[
    list[str] | None,
    typer.Option("--min", metavar="NAME=VALUE", help="The least value of a similarity. Repeatable; all must hold."),
]
Most = Annotated[
    list[str] | None,
    typer.Option("--max", metavar="NAME=VALUE", help="The largest value of a distance. Repeatable; all must hold."),
]


@unfold
def check(
    a: SideA,
    b: OtherSide = None,
    *,
    least: Least = None,
    most: Most = None,
    measures: Measures,
    correction: Correction = "none",
    search: Search,
    memory_budget: MemoryBudget = None,
    labels: LabelFiles,
    reference: Reference = None,
    output: Output,
    service: Service,
    device: Device = "auto",
) -> None:
    """Pass (status 0) if every score reaches its bar, else status 1.

    Against a reference set it is the mean over its members that must reach it. An undefined score reaches no bar.
    Without --metric the metrics are those that have a bar.
    """
    bars = parse_bars(least or (), most or ())
    unnamed = [bar.choice for bar in bars]
    options = read_options(measures, search, correction=correction, memory_budget=memory_budget, unnamed=unnamed)
    columns = labels.read()
    if (url := find_service(b, reference, service.server)) is not None and reference is not None:
        standings = obtain_standings(a, reference, options, columns, url, service.timeout)
        verdicts = judge(standings.standings, bars)
        show_standings(standings, output)
    else:
        assert b is not None  # noqa: S101 - checked above
        document = obtain_scores(a, b, options, columns, service, device)
        verdicts = judge(document.scores, bars)
        show_scores(document, output)
    close_gate(verdict_table(verdicts), (verdict.passed for verdict in verdicts), as_json=output.as_json)
