"""`consilience score A B`, and the scores, plans and reference ranks that other commands use too."""

import re
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from consilience.cli.errors import require_extra
from consilience.cli.options import (
    Correction,
    Device,
    DryRun,
    GallerySizes,
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
    MISSING,
    fact_table,
    format_number,
    metric_label,
    new_table,
    output_document,
    output_scores,
    print_document,
)
from consilience.cli.parsing import Labels, SideLabels
from consilience.cli.remote import connect, local_work, progress_bar, wait_for_document
from consilience.client.bodies import EMBEDDING_ID
from consilience.client.sync import Client
from consilience.contract.alignments import ScoringOptions
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import Plan
from consilience.contract.pointers import with_prefix
from consilience.contract.scores import ReferenceDocument, ReferenceRank, ScoreDocument
from consilience.errors import InputError
from consilience.memory import find_job_memory


def compute_scores(  # noqa: PLR0917 - the arguments of the commands, in their order
    a: str,
    b: str,
    options: ScoringOptions,
    columns: SideLabels,
    service: ServiceOptions,
    device: str,
) -> ScoreDocument:
    """Compute the scores of two files in this process, or of two files or stored sets on a service."""
    for side in (a, b):
        check_source(side, service.server)
    if service.server is None:
        return _score_locally(a, b, options, columns, service.timeout, device)
    if device != "auto":
        raise InputError(
            "--device cannot be used with --server: the workers of the service choose their device.",
            hint="Leave out --device or --server.",
        )
    return _score_on_service(a, b, options, columns, service.server, service.timeout)


def check_source(source: str, server: str | None) -> None:
    """Raise InputError unless the source is a file or, with a server, an id."""
    path, is_id = Path(source), re.fullmatch(EMBEDDING_ID, source)
    if path.is_file() or (is_id and server is not None):
        return
    if is_id:
        raise InputError(
            f"{source} is the id of a stored set.", value=source, hint="Name its service with --server URL."
        )
    if path.is_dir():
        raise InputError(f"{source} is a folder.", value=source, hint="Name a file in it.")
    if path.exists():
        raise InputError(
            f"{source} is not a regular file.",
            value=source,
            hint="Save its content to a file, which can be read in any order.",
        )
    raise InputError(f"The file {source} does not exist.", value=source, hint="Check the path.")


def _score_locally(  # noqa: PLR0917 - as above
    a: str, b: str, options: ScoringOptions, columns: SideLabels, timeout_s: float | None, device: str
) -> ScoreDocument:
    with require_extra("compute", "Scoring in this process"):
        from consilience.scoring import score  # noqa: PLC0415 -- numpy and faiss load only for local work
    with local_work("reading", timeout_s) as report:
        return score(Path(a), Path(b), options, ids=columns.ids, groups=columns.groups, device=device, report=report)


def _score_on_service(  # noqa: PLR0917 - as above
    a: str, b: str, options: ScoringOptions, columns: SideLabels, server: str, timeout_s: float | None
) -> ScoreDocument:
    with connect(server) as client, progress_bar("uploading") as report:
        sides = [
            upload_with_labels(client, side, ids, groups)
            for side, ids, groups in zip((a, b), columns.ids, columns.groups, strict=True)
        ]
        alignment = client.align(sides[0], sides[1], options)
        return wait_for_document(client, alignment.id, ScoreDocument, report, timeout_s)


def upload_with_labels(
    client: Client, side: str, ids: Labels, groups: Labels, model: str | None = None
) -> EmbeddingSet | str:
    """Upload a file that has ids, groups or a model name; any other source is returned as it is."""
    if ids is None and groups is None and model is None:
        return side
    if re.fullmatch(EMBEDDING_ID, side):
        raise InputError(
            f"{side} is a stored set, and its ids, groups and model cannot be changed.",
            value=side,
            hint="Upload the file again with its ids, groups and model.",
        )
    return client.upload(side, metadata=None if model is None else {"model": model}, ids=ids, groups=groups)


def make_plan(a: str, b: str, options: ScoringOptions, columns: SideLabels, server: str | None) -> Plan:
    """Estimate the cost of a comparison: of two files, from their headers, or of two stored sets on a service.

    Raises
    ------
    InputError
        The sides cannot be scored, or scoring needs more memory than this machine has.
    """
    for side in (a, b):
        check_source(side, server)
    if server is None:
        return _plan_locally(a, b, options, columns)
    for side in (a, b):
        if Path(side).is_file():
            raise InputError(
                f"{side} is a file; a service can plan only for stored sets.",
                value=side,
                hint="Upload it first, or leave out --server.",
            )
    with connect(server) as client:
        return client.plan(a, b, options)


def _plan_locally(a: str, b: str, options: ScoringOptions, columns: SideLabels) -> Plan:
    with require_extra("compute", "Planning in this process"):
        from consilience.formats.files import open_path  # noqa: PLC0415 -- numpy loads only for local work
        from consilience.planning.alignments import CostLimits, SideShape, plan  # noqa: PLC0415 -- as above

    shapes = []
    for side, ids, groups in zip((a, b), columns.ids, columns.groups, strict=True):
        with with_prefix(f"File {side}"), open_path(side) as file:
            labels = file.with_columns(ids, groups)
            shapes.append(
                SideShape(
                    file.n,
                    tuple((layer.name, layer.dim) for layer in file.layers),
                    unique_ids=None if labels.ids is None else len(set(labels.ids)),
                    has_groups=labels.groups is not None,
                )
            )
    limits = CostLimits(bytes=options.memory_budget_bytes or find_job_memory())
    return plan(options, shapes[0], shapes[1], limits)


def _plan_table(estimate: Plan) -> RenderableType:
    facts = {
        "rows": f"{estimate.n:,}",
        "columns": f"{estimate.dim_a} and {estimate.dim_b}",
        "layer pairs": str(estimate.cells),
        "operations": f"{estimate.flops:.3g}",
        "time": f"{estimate.seconds:.3g} s on two cores",
        "memory": f"{estimate.bytes / 1e9:.3g} GB, "
        + ("rows read in blocks" if estimate.streamed else "rows in memory"),
    }
    if estimate.memory_budget_bytes is not None:
        facts["budget"] = f"{estimate.memory_budget_bytes / 1e9:.3g} GB"
    if estimate.queries is not None:
        facts["queries"] = f"about {estimate.queries:,}, at most {estimate.queries_max:,}"
    return fact_table(facts)


def check_comparison(b: str | None, reference: str | None, server: str | None) -> None:
    """Raise InputError unless there is either B or a reference set of a service."""
    if b is None and reference is None:
        raise InputError("Embedding set B is missing.", hint="Name B, or a reference set with --reference NAME.")
    if b is not None and reference is not None:
        raise InputError("B and --reference cannot be used together.", hint="Leave out one of them.")
    if reference is not None and server is None:
        raise InputError(
            f"The reference set {reference} needs a service.",
            value=reference,
            hint="Name the service with --server URL.",
        )


def compute_reference_ranks(  # noqa: PLR0917 - the arguments of the commands, in their order
    a: str, reference: str, options: ScoringOptions, columns: SideLabels, server: str, timeout_s: float | None
) -> ReferenceDocument:
    """Compare a file or a stored set with each member of a reference set."""
    check_source(a, server)
    if columns.ids != (None, None) or columns.groups != (None, None):
        raise InputError(
            "--reference cannot be used with files of ids or groups.",
            hint="Upload A with `consilience upload --ids FILE` and use its id.",
        )
    with connect(server) as client, progress_bar("uploading") as report:
        pending = client.align(a, reference=reference, options=options)
        return wait_for_document(client, pending.id, ReferenceDocument, report, timeout_s)


def output_reference_ranks(document: ReferenceDocument, output: OutputOptions) -> None:
    """Output the ranks of a model among a reference set."""
    output_document(document, reference_table, document.warnings, output)


def reference_table(document: ReferenceDocument) -> RenderableType:
    """Table of the mean and the rank by each metric, and of the scores against each member."""
    table = new_table("metric", "mean", "rank", "outranked", left=("metric",))
    labels = []
    for rank in document.ranks:
        labels.append(metric_label(rank.metric, rank.options))
        outranked = MISSING if rank.outranked_share is None else f"{rank.outranked_share:.0%}"
        table.add_row(labels[-1], format_number(rank.value), _format_rank(rank), outranked)
    members = new_table("member", *labels, left=("member",))
    for member in document.members:
        name = f"{member.b.name} (same content)" if member.same_content else member.b.name
        members.add_row(name, *(format_number(score.value) for score in member.scores))
    heading = (
        f"{document.a.name} against {document.reference.name}: {len(document.members)} members, {document.n} items"
    )
    notes = [
        Text(f"{label} has no rank: {rank.reason.detail}", "yellow")
        for label, rank in zip(labels, document.ranks, strict=True)
        if rank.reason is not None
    ]
    return Group(Text(heading, "bold"), table, *notes, members)


def _format_rank(rank: ReferenceRank) -> str:
    if rank.rank is None:
        return MISSING
    shared = f" (shared by {rank.ties + 1})" if rank.ties else ""
    return f"{rank.rank} of {rank.n_ranked}{shared}"


@with_option_groups
def score(
    a: SideA,
    b: OptionalSideB = None,
    *,
    metrics: MetricOptions,
    correction: Correction = "none",
    search: SearchOptions,
    gallery_sizes: GallerySizes = None,
    memory_budget: MemoryBudget = None,
    labels: SideLabelFiles,
    reference: Reference = None,
    output: OutputOptions,
    service: ServiceOptions,
    dry_run: DryRun = False,
    device: Device = "auto",
) -> None:
    """Measure how far two embedding spaces agree, or rank one of them among a reference set.

    An undefined score, for example of a constant column, is a valid result with exit status 0.
    """
    options = read_scoring_options(
        metrics, search, correction=correction, gallery_sizes=gallery_sizes, memory_budget=memory_budget
    )
    columns = labels.read()
    check_comparison(b, reference, service.server)
    if reference is not None and service.server is not None:
        if dry_run:
            raise InputError("--dry-run cannot be used with --reference.", hint="Leave out --dry-run, or name B.")
        document = compute_reference_ranks(a, reference, options, columns, service.server, service.timeout)
        output_reference_ranks(document, output)
        return
    assert b is not None  # noqa: S101 - checked above
    if dry_run:
        plan = make_plan(a, b, options, columns, service.server)
        print_document(plan, _plan_table, as_json=output.as_json)
        return
    output_scores(compute_scores(a, b, options, columns, service, device), output)
