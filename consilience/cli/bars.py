"""Bars of `consilience check`: what a score must reach."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from consilience.cli.metric_words import parse_metric
from consilience.cli.numbers import metric_label
from consilience.cli.tables import new_table, value_text
from consilience.contract.scores import Score, ScoreDocument
from consilience.errors import InvalidRequest


@dataclass(frozen=True)
class Bar:
    """The least value of the scores of one metric, with these options where some are given."""

    choice: dict[str, Any]
    least: float

    def concerns(self, score: Score) -> bool:
        """Whether this score must reach it."""
        wanted = {name: value for name, value in self.choice.items() if name != "metric"}
        return score.metric == self.choice["metric"] and all(
            score.options.get(name) in (value if isinstance(value, list) else [value]) for name, value in wanted.items()
        )


@dataclass(frozen=True)
class Verdict:
    """A score against a bar. An undefined score is below every bar."""

    score: Score
    least: float

    @property
    def passed(self) -> bool:
        """Whether the score reaches the bar."""
        return self.score.value is not None and self.score.value >= self.least


def parse_bar(word: str) -> Bar:
    """`mutual_knn=0.3`, or with options `cka:debiased=false=0.4`."""
    metric, equals, text = word.rpartition("=")
    try:
        least = float(text)
    except ValueError:
        least = nan
    if not equals or not isfinite(least):
        raise InvalidRequest(f"{word!r} is no bar.", value=word, hint="Write NAME=NUMBER, such as mutual_knn=0.3.")
    return Bar(parse_metric(metric), least)


def judge(document: ScoreDocument, bars: Sequence[Bar]) -> list[Verdict]:
    """Every score that a bar concerns, against it; InvalidRequest for a bar that concerns none."""
    verdicts: list[Verdict] = []
    for bar in bars:
        found = [Verdict(score, bar.least) for score in document.scores if bar.concerns(score)]
        if not found:
            label = metric_label(bar.choice["metric"], {k: v for k, v in bar.choice.items() if k != "metric"})
            raise InvalidRequest(f"No score of {label} was asked for, so its bar means nothing.", value=label)
        verdicts += found
    return verdicts


def verdict_table(verdicts: Sequence[Verdict]) -> RenderableType:
    """One line a score: its value, its bar, and whether it passed."""
    table = new_table("metric", "value", "bar", "verdict", left=("metric", "verdict"))
    for verdict in verdicts:
        word = Text("passed", "green") if verdict.passed else Text("below", "bold red")
        label = metric_label(verdict.score.metric, verdict.score.options)
        table.add_row(label, value_text(verdict.score), f"{verdict.least:g}", word)
    return table
