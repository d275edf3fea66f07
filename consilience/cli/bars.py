"""Bars of `consilience check`: what a score must reach."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType

from consilience.cli.gates import split_bar, verdict_word
from consilience.cli.metric_words import parse_metric
from consilience.cli.numbers import figure, metric_label
from consilience.cli.tables import new_table, value_text
from consilience.contract.metric import Direction
from consilience.contract.metrics import METRICS
from consilience.contract.reference_scores import Standing
from consilience.contract.scores import Score
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
