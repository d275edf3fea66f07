"""`consilience study MODEL... [--against MODEL]...`."""

from pathlib import Path
from typing import Annotated

import typer

from consilience.cli.consoles import results
from consilience.cli.metric_words import parse_metric
from consilience.cli.options import (
    Aggregate,
    Builder,
    Concat,
    Draws,
    Estimate,
    Json,
    K,
    Layers,
    MemoryBudget,
    Metrics,
    NullMethod,
    Pairing,
    Profile,
    Seed,
    Server,
    Timeout,
    read_options,
)
from consilience.cli.study_tables import study_table
from consilience.cli.study_words import parse_difference, parse_factor, parse_models, parse_trend, read_metadata
from consilience.cli.studying import obtain_study, write_study
from consilience.client.options import study_options_of

Rows = Annotated[list[str], typer.Argument(metavar="[LABEL=]MODEL...", help="Files; with --server also ids.")]
Against = Annotated[
    list[str] | None,
    typer.Option("--against", metavar="[LABEL=]MODEL", help="Compare with these, and not with each other. Repeatable."),
]
MetadataFile = Annotated[
    Path | None,
    typer.Option("--metadata", metavar="FILE", dir_okay=False, help='JSON: {"LABEL": {"params": 1e9}, ...}.'),
]
Trends = Annotated[
    list[str] | None,
    typer.Option("--trend", metavar="KEY[:OPTION=VALUE,...]", help="Does alignment rise with this number? Repeatable."),
]
Factors = Annotated[
    list[str] | None,
    typer.Option("--factor", metavar="KEY[:OPTION=VALUE,...]", help="Does it rise from level to level? Repeatable."),
]
Differences = Annotated[
    list[str] | None,
    typer.Option("--difference", metavar="FIRST,SECOND,REFERENCE", help="Which one is nearer? Repeatable."),
]
Umap = Annotated[bool, typer.Option("--umap", help="Also place the models by UMAP.")]
Interval = Annotated[bool, typer.Option("--interval/--no-interval", help="Whether cells have intervals.")]
OutFile = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", dir_okay=False, help="Write it here: .csv, .parquet, or the whole as JSON."),
]


def study(
    models: Rows,
    *,
    against: Against = None,
    metadata: MetadataFile = None,
    trend: Trends = None,
    factor: Factors = None,
    difference: Differences = None,
    umap: Umap = False,
    metric: Metrics = None,
    k: K = None,
    profile: Profile = "l2",
    layers: Layers = None,
    aggregate: Aggregate = "max",
    concat: Concat = False,
    null: NullMethod = "auto",
    draws: Draws = 200,
    interval: Interval = True,
    seed: Seed = 0,
    pairing: Pairing = "row",
    builder: Builder = "auto",
    estimate: Estimate = "all",
    memory_budget: MemoryBudget = None,
    out: OutFile = None,
    as_json: Json = False,
    server: Server = None,
    timeout: Timeout = None,
) -> None:
    """Compare many embedding spaces: with each other, or with those given by --against."""
    scoring = read_options(
        [parse_metric(word) for word in metric or ()],
        k=k,
        profile=profile,
        layers=layers,
        aggregate=aggregate,
        concat=concat,
        null=null,
        draws=draws,
        seed=seed,
        pairing=pairing,
        builder=builder,
        estimate=estimate,
        memory_budget=memory_budget,
    )
    asked = {
        "trends": [parse_trend(word) for word in trend or ()],
        "factors": [parse_factor(word) for word in factor or ()],
        "differences": [parse_difference(word) for word in difference or ()],
        "umap": umap,
        **({} if interval else {"interval": None}),
    }
    options = study_options_of(None, {name: getattr(scoring, name) for name in scoring.model_fields_set} | asked)
    columns = None if against is None else parse_models(against)
    document = obtain_study(parse_models(models), columns, options, read_metadata(metadata), server, timeout)
    if as_json:
        typer.echo(document.model_dump_json(by_alias=True, indent=2))
    else:
        results().print(study_table(document))
    if out is not None:
        write_study(document, out)
