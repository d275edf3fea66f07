"""`consilience check A B --min NAME=VALUE --max NAME=VALUE`: the gate of a pipeline."""

from typing import Annotated

import typer

from consilience.cli.bars import judge, parse_bars, verdict_table
from consilience.cli.gates import close_gate
from consilience.cli.groups import LabelFiles, Measures, Output, Search, Service, read_options
from consilience.cli.options import Correction, Device, MemoryBudget, OtherSide, Reference, SideA
from consilience.cli.output import show_scores
from consilience.cli.scoring import obtain_scores
from consilience.cli.standings import find_service, obtain_standings, show_standings
from consilience.cli.unfolding import unfold

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
