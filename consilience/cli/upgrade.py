"""`consilience upgrade OLD NEW`: what a swap of the embedding model asks of an index."""

from pathlib import Path
from typing import Annotated, Any

import typer

from consilience.cli.consoles import remarks, results
from consilience.cli.judgements import read_judgements
from consilience.cli.metric_words import parse_map
from consilience.cli.options import ColumnFile, Json, Pairing, Seed, Server, Timeout
from consilience.cli.statuses import ExitStatus
from consilience.cli.upgrade_bars import judge, parse_bar, reached_table
from consilience.cli.upgrade_options import Inputs, read_upgrade_options
from consilience.cli.upgrade_output import check_out, show_report
from consilience.cli.upgrade_work import obtain_report

Old = Annotated[
    str, typer.Argument(metavar="OLD", help="The documents by the old model: a file; with --server also an id.")
]
New = Annotated[str, typer.Argument(metavar="NEW", help="The same documents by the new model.")]
Queries = Annotated[str | None, typer.Option(metavar="FILE", help="The queries by this model; without, documents ask.")]
Judged = Annotated[
    Path | None,
    typer.Option(
        "--judgements",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help='Which documents answer a query: JSON {"query": ["document"]}, or the lines of TREC or BEIR.',
    ),
]
Maps = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="KIND[:OPTION=VALUE,...]", help="A map to try. Repeatable; `none` tries none."),
]
Least = Annotated[
    list[str] | None,
    typer.Option("--min", metavar="NAME[:WAY]=VALUE", help="The least value of a figure. Repeatable; all must hold."),
]
Out = Annotated[
    Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Write the report here: .json, .md or .html.")
]


def upgrade(
    old: Old,
    new: New,
    *,
    queries_old: Queries = None,
    queries_new: Queries = None,
    judgements: Judged = None,
    maps: Maps = None,
    k: Annotated[int, typer.Option("--k", min=1, help="Neighbours that are counted.")] = 10,
    layers: Annotated[
        list[str] | None,
        typer.Option(metavar="last|NAME", help="The layer compared; old=... and new=... for one model."),
    ] = None,
    pairing: Pairing = "row",
    ids_old: ColumnFile = None,
    ids_new: ColumnFile = None,
    groups: ColumnFile = None,
    query_ids_old: ColumnFile = None,
    query_ids_new: ColumnFile = None,
    sample: Annotated[int, typer.Option(help="Documents and queries that ask, at most.")] = 1000,
    worst: Annotated[int, typer.Option(help="Items listed that changed most.")] = 10,
    test_share: Annotated[float, typer.Option(help="Share of the documents that no map is fitted on.")] = 0.2,
    keep: Annotated[float, typer.Option(help="What new queries must retain as they are, for the verdict keep.")] = 0.95,
    adapt: Annotated[float, typer.Option(help="What they must retain through a map, for the verdict adapt.")] = 0.9,
    level: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    seed: Seed = 0,
    least: Least = None,
    out: Out = None,
    as_json: Json = False,
    server: Server = None,
    timeout: Timeout = None,
) -> None:
    """Say whether an index survives a swap of its embedding model: keep, adapt or re-embed.

    With --min it is a gate: status 1 where a figure is below its bar. recall, judged, retained and gain are those of the best
    way on the old index unless one is named.
    """
    bars = [parse_bar(word) for word in least or ()]
    check_out(out)
    fields: dict[str, Any] = {
        "k": k,
        "pairing": pairing,
        "sample": sample,
        "worst": worst,
        "test_share": test_share,
        "thresholds": {"keep": keep, "adapt": adapt},
        "level": level,
        "seed": seed,
    }
    options = read_upgrade_options(
        fields, None if maps is None else [parse_map(word) for word in maps if word != "none"], layers or ()
    )
    inputs = Inputs.read(
        (old, new), (queries_old, queries_new), None if judgements is None else read_judgements(judgements)
    ).with_columns(ids=(ids_old, ids_new), groups=groups, query_ids=(query_ids_old, query_ids_new))
    report = obtain_report(inputs, options, server, timeout)
    found = judge(report, bars)
    show_report(report, as_json=as_json, out=out)
    if found:
        (remarks() if as_json else results()).print(reached_table(found))
    if not all(reached.passed for reached in found):
        raise typer.Exit(ExitStatus.BELOW_BAR)
