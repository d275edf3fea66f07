"""`consilience score A B`."""

from consilience.cli.columns import read_columns
from consilience.cli.metric_words import parse_metric
from consilience.cli.options import (
    Aggregate,
    Builder,
    ColumnFile,
    Concat,
    Correction,
    Device,
    Draws,
    DryRun,
    Estimate,
    GallerySizes,
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
from consilience.cli.plans import obtain_plan, show_plan
from consilience.cli.scoring import obtain_scores
from consilience.cli.standings import find_service, obtain_standings, show_standings


def score(
    a: SideA,
    b: OtherSide = None,
    *,
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
    gallery_sizes: GallerySizes = None,
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
    dry_run: DryRun = False,
    device: Device = "auto",
) -> None:
    """Measure how far two embedding spaces agree, or where one stands among the members of a reference set.

    An undefined score (a constant column, say) is an answer: the status is 0.
    """
    metrics = [parse_metric(word) for word in metric or ()]
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
        gallery_sizes=gallery_sizes,
        memory_budget=memory_budget,
    )
    columns = read_columns(ids=(ids_a, ids_b), groups=(groups_a, groups_b))
    if (url := find_service(b, reference, server)) is not None and reference is not None:
        show_standings(obtain_standings(a, reference, options, columns, url, timeout), as_json=as_json, out=out)
        return
    assert b is not None  # noqa: S101 - checked above
    if dry_run:
        show_plan(obtain_plan(a, b, options, columns, server), as_json=as_json)
        return
    show(obtain_scores(a, b, options, columns, server, timeout, device), as_json=as_json, out=out)
