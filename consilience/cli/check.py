"""`consilience check A B --min NAME=VALUE --max NAME=VALUE`: the gate of a pipeline."""

from typing import Annotated

import typer

from consilience.cli.bars import judge, parse_bar, verdict_table
from consilience.cli.columns import read_columns
from consilience.cli.consoles import remarks, results
from consilience.cli.metric_words import parse_metric
from consilience.cli.options import (
    Aggregate,
    Builder,
    ColumnFile,
    Concat,
    Correction,
    Device,
    Draws,
    Estimate,
    Json,
    K,
    Layers,
    MemoryBudget,
    Metrics,
    NullMethod,
    OtherSide,
    Out,
    Pairing,
    Profile,
    Reference,
    Seed,
    Server,
    SideA,
    Timeout,
    read_options,
)
from consilience.cli.output import show
from consilience.cli.scoring import obtain_scores
from consilience.cli.standings import find_service, obtain_standings, show_standings
from consilience.cli.statuses import ExitStatus
from consilience.errors import InvalidRequest

Least = Annotated[
    list[str] | None,
    typer.Option("--min", metavar="NAME=VALUE", help="The least value of a similarity. Repeatable; all must hold."),
]
Most = Annotated[
    list[str] | None,
    typer.Option("--max", metavar="NAME=VALUE", help="The largest value of a distance. Repeatable; all must hold."),
]


def check(
    a: SideA,
    b: OtherSide = None,
    *,
    least: Least = None,
    most: Most = None,
    metric: Metrics = None,
    k: K = None,
    profile: Profile = "l2",
    layers: Layers = None,
    aggregate: Aggregate = "max",
    concat: Concat = False,
    null: NullMethod = "auto",
    draws: Draws = 200,
    correction: Correction = "none",
    seed: Seed = 0,
    pairing: Pairing = "row",
    builder: Builder = "auto",
    estimate: Estimate = "all",
    memory_budget: MemoryBudget = None,
    ids_a: ColumnFile = None,
    ids_b: ColumnFile = None,
    groups_a: ColumnFile = None,
    groups_b: ColumnFile = None,
    reference: Reference = None,
    out: Out = None,
    as_json: Json = False,
    server: Server = None,
    timeout: Timeout = None,
    device: Device = "auto",
) -> None:
    """Pass (status 0) if every score reaches its bar, else status 1.

    Against a reference set it is the mean over its members that must reach it. An undefined score reaches no bar.
    Without --metric the metrics are those that have a bar.
    """
    bars = [parse_bar(word) for word in least or ()] + [parse_bar(word, "distance") for word in most or ()]
    if not bars:
        raise InvalidRequest("There is no bar.", hint="Say what must be reached: --min mutual_knn=0.3.")
    metrics = [parse_metric(word) for word in metric] if metric else [bar.choice for bar in bars]
    options = read_options(
        metrics,
        k=k,
        profile=profile,
        layers=layers,
        aggregate=aggregate,
        concat=concat,
        null=null,
        draws=draws,
        correction=correction,
        seed=seed,
        pairing=pairing,
        builder=builder,
        estimate=estimate,
        memory_budget=memory_budget,
    )
    columns = read_columns(ids=(ids_a, ids_b), groups=(groups_a, groups_b))
    if (url := find_service(b, reference, server)) is not None and reference is not None:
        standings = obtain_standings(a, reference, options, columns, url, timeout)
        verdicts = judge(standings.standings, bars)
        show_standings(standings, as_json=as_json, out=out)
    else:
        assert b is not None  # noqa: S101 - checked above
        document = obtain_scores(a, b, options, columns, server, timeout, device)
        verdicts = judge(document.scores, bars)
        show(document, as_json=as_json, out=out)
    (remarks() if as_json else results()).print(verdict_table(verdicts))
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(ExitStatus.BELOW_BAR)
