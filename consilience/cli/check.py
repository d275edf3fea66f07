"""`consilience check A B --min NAME=VALUE`: the gate of a pipeline."""

from typing import Annotated

import typer

from consilience.cli.bars import judge, parse_bar, verdict_table
from consilience.cli.columns import read_columns
from consilience.cli.consoles import remarks, results
from consilience.cli.metric_words import parse_metric
from consilience.cli.options import (
    ColumnFile,
    Draws,
    Json,
    K,
    Layers,
    Metrics,
    NullMethod,
    Out,
    Pairing,
    Profile,
    Seed,
    Server,
    SideA,
    SideB,
    Timeout,
    read_options,
)
from consilience.cli.output import show
from consilience.cli.scoring import obtain_scores
from consilience.cli.statuses import ExitStatus

Bars = Annotated[
    list[str],
    typer.Option("--min", metavar="NAME=VALUE", help="The least value of a metric. Repeatable; all must hold."),
]


def check(
    a: SideA,
    b: SideB,
    *,
    least: Bars,
    metric: Metrics = None,
    k: K = None,
    profile: Profile = "l2",
    layers: Layers = None,
    null: NullMethod = "auto",
    draws: Draws = 200,
    seed: Seed = 0,
    pairing: Pairing = "row",
    ids_a: ColumnFile = None,
    ids_b: ColumnFile = None,
    groups_a: ColumnFile = None,
    groups_b: ColumnFile = None,
    out: Out = None,
    as_json: Json = False,
    server: Server = None,
    timeout: Timeout = None,
) -> None:
    """Pass (status 0) if every score reaches its bar, else status 1.

    An undefined score is below the bar. Without --metric the metrics are those that have a bar.
    """
    bars = [parse_bar(word) for word in least]
    metrics = [parse_metric(word) for word in metric] if metric else [bar.choice for bar in bars]
    options = read_options(
        metrics, k=k, profile=profile, layers=layers, null=null, draws=draws, seed=seed, pairing=pairing
    )
    columns = read_columns(ids=(ids_a, ids_b), groups=(groups_a, groups_b))
    document = obtain_scores(a, b, options, columns, server, timeout)
    verdicts = judge(document, bars)
    show(document, as_json=as_json, out=out)
    (remarks() if as_json else results()).print(verdict_table(verdicts))
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(ExitStatus.BELOW_BAR)
