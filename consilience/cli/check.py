"""`consilience check A B --min NAME=VALUE --max NAME=VALUE`: thresholds that fail a pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from consilience.cli.options import (
    Correction,
    Device,
    MemoryBudget,
    MetricOptions,
    OptionalSideB,
    OutputOptions,
    Reference,
    SearchOptions,
    ServiceOptions,
    SideA,
    SideLabelFiles,
    read_scoring_options,
    with_option_groups,
)
from consilience.cli.output import (
    format_number,
    metric_label,
    new_table,
    output_scores,
    parse_threshold,
    passed_label,
    report_thresholds,
    score_value,
)
from consilience.cli.parsing import as_list, parse_metric
from consilience.cli.score import check_comparison, compute_reference_ranks, compute_scores, output_reference_ranks
from consilience.contract.metric import Direction, Metric
from consilience.contract.metrics import METRICS
from consilience.contract.scores import ReferenceRank, Score
from consilience.errors import InvalidRequest

#: Results that a threshold can apply to: a score, or the mean of the scores against a reference set.
Checkable = Score | ReferenceRank


@dataclass(frozen=True)
class ScoreThreshold:
    """Threshold for the scores of one metric: a minimum for a similarity, a maximum for a distance."""

    choice: dict[str, Any]
    value: float

    def applies_to(self, score: Checkable) -> bool:
        """Return whether the score is of the metric and the options of the threshold."""
        options = {name: value for name, value in self.choice.items() if name != "metric"}
        return score.metric == self.choice["metric"] and all(
            score.options.get(name) in as_list(value) for name, value in options.items()
        )


@dataclass(frozen=True)
class ScoreCheck:
    """Comparison of a score with its threshold; an undefined score fails."""

    score: Checkable
    threshold: float

    @property
    def passed(self) -> bool:
        """True if the score reaches the threshold."""
        if self.score.value is None:
            return False
        if self.score.direction == "distance":
            return self.score.value <= self.threshold
        return self.score.value >= self.threshold


def parse_score_thresholds(minimums: Sequence[str], maximums: Sequence[str]) -> list[ScoreThreshold]:
    """Parse the values of --min and --max; InvalidRequest if there are none."""
    thresholds = [
        *(parse_score_threshold(word) for word in minimums),
        *(parse_score_threshold(word, "distance") for word in maximums),
    ]
    if not thresholds:
        raise InvalidRequest(
            "There is no threshold to check.", hint="Give one with --min or --max, for example --min mutual_knn=0.3."
        )
    return thresholds


def parse_score_threshold(word: str, direction: Direction = "similarity") -> ScoreThreshold:
    """Parse `mutual_knn=0.3`, or with options `cka:debiased=false=0.4`, for a metric of this direction."""
    option, other = ("--max", "--min") if direction == "distance" else ("--min", "--max")
    metric, value = parse_threshold(word, option, "METRIC", "mutual_knn=0.3")
    choice = parse_metric(metric)
    actual = METRICS[choice["metric"]].score_direction
    if actual != direction:
        raise InvalidRequest(
            f"{option} needs a {direction}, but {choice['metric']} is a {actual}.", hint=f"Write {other} {word}."
        )
    _check_attainable(METRICS[choice["metric"]], choice["metric"], value)
    return ScoreThreshold(choice, value)


def _check_attainable(metric: type[Metric], name: str, value: float) -> None:
    """Refuse a threshold that no value of the metric can reach."""
    if metric.score_direction == "similarity" and metric.high is not None and value > metric.high:
        raise InvalidRequest(f"{name} is at most {metric.high:g}; a minimum of {value:g} always fails.", value=value)
    if metric.score_direction == "distance" and metric.low is not None and value < metric.low:
        raise InvalidRequest(f"{name} is at least {metric.low:g}; a maximum of {value:g} always fails.", value=value)


def check_scores(scores: Sequence[Checkable], thresholds: Sequence[ScoreThreshold]) -> list[ScoreCheck]:
    """Compare the scores with their thresholds; InvalidRequest if a threshold applies to no score."""
    checks: list[ScoreCheck] = []
    for threshold in thresholds:
        concerned = [ScoreCheck(score, threshold.value) for score in scores if threshold.applies_to(score)]
        if not concerned:
            options = {name: value for name, value in threshold.choice.items() if name != "metric"}
            label = metric_label(threshold.choice["metric"], options)
            raise InvalidRequest(
                f"The threshold for {label} applies to no score.", value=label, hint=f"Add --metric {label.split()[0]}."
            )
        checks += concerned
    return checks


def score_check_table(checks: Sequence[ScoreCheck]) -> RenderableType:
    """Table of the scores with their thresholds and the results of the checks."""
    table = new_table("metric", "value", "threshold", "result", left=("metric", "result"))
    for check in checks:
        score = check.score
        value = score_value(score) if isinstance(score, Score) else format_number(score.value)
        label = metric_label(score.metric, score.options)
        table.add_row(label, value, f"{check.threshold:g}", passed_label(passed=check.passed))
    return table


Minimums = Annotated[
    list[str] | None,
    typer.Option(
        "--min",
        metavar="METRIC=VALUE",
        help="Smallest allowed value of a similarity, for example mutual_knn=0.3. Repeatable; all must hold.",
    ),
]
Maximums = Annotated[
    list[str] | None,
    typer.Option(
        "--max", metavar="METRIC=VALUE", help="Largest allowed value of a distance. Repeatable; all must hold."
    ),
]


@with_option_groups
def check(
    a: SideA,
    b: OptionalSideB = None,
    *,
    minimums: Minimums = None,
    maximums: Maximums = None,
    metrics: MetricOptions,
    correction: Correction = "none",
    search: SearchOptions,
    memory_budget: MemoryBudget = None,
    labels: SideLabelFiles,
    reference: Reference = None,
    output: OutputOptions,
    service: ServiceOptions,
    device: Device = "auto",
) -> None:
    """Check scores against thresholds: exit status 0 if every threshold holds, otherwise 1.

    Without --metric, the metrics that have a threshold are computed. With
    --reference, a threshold applies to the mean score over the members. An
    undefined score fails.
    """
    thresholds = parse_score_thresholds(minimums or (), maximums or ())
    options = read_scoring_options(
        metrics,
        search,
        correction=correction,
        memory_budget=memory_budget,
        default_metrics=[threshold.choice for threshold in thresholds],
    )
    columns = labels.read()
    check_comparison(b, reference, service.server)
    if reference is not None and service.server is not None:
        ranks = compute_reference_ranks(a, reference, options, columns, service.server, service.timeout)
        checks = check_scores(ranks.ranks, thresholds)
        output_reference_ranks(ranks, output)
    else:
        assert b is not None  # noqa: S101 - checked above
        document = compute_scores(a, b, options, columns, service, device)
        checks = check_scores(document.scores, thresholds)
        output_scores(document, output)
    report_thresholds(score_check_table(checks), (each.passed for each in checks), as_json=output.as_json)
