"""`consilience score A B`."""

import re
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from consilience.cli.errors import packages_of
from consilience.cli.options import (
    Correction,
    Device,
    DryRun,
    GallerySizes,
    LabelFiles,
    Measures,
    MemoryBudget,
    OtherSide,
    Output,
    Reference,
    Search,
    Service,
    SideA,
    read_options,
    unfold,
)
from consilience.cli.output import ABSENT, fact_table, figure, metric_label, new_table, present, show, show_scores
from consilience.cli.parsing import Columns, Labels
from consilience.cli.remote import await_document, connect, progress_bar, work_here
from consilience.client.bodies import EMBEDDING_ID
from consilience.client.sync import Client
from consilience.contract.alignments import ScoringOptions
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import Plan
from consilience.contract.pointers import prefixed
from consilience.contract.scores import ReferenceDocument, ScoreDocument, Standing
from consilience.errors import InputError
from consilience.memory import find_job_memory


def obtain_scores(  # noqa: PLR0917 - what the commands have read, in its order
    a: str,
    b: str,
    options: ScoringOptions,
    columns: Columns,
    service: Service,
    device: str,
) -> ScoreDocument:
    """The score document of two files, or of two stored sets where there is a server."""
    for side in (a, b):
        require_source(side, service.server)
    if service.server is None:
        return _score_here(a, b, options, columns, service.timeout, device)
    if device != "auto":
        raise InputError(
            "A service's workers choose their device.", value=device, hint="Leave out --device, or --server."
        )
    return _score_there(a, b, options, columns, service.server, service.timeout)


def require_source(side: str, server: str | None) -> None:
    """Refuse what is neither a file nor, where there is a server, an id."""
    path, stored = Path(side), re.fullmatch(EMBEDDING_ID, side)
    if path.is_file() or (stored and server is not None):
        return
    if stored:
        raise InputError(f"{side} is an id of a stored set.", value=side, hint="Say which service with --server.")
    if path.is_dir():
        raise InputError(f"{side} is a folder.", value=side, hint="Name a file in it.")
    if path.exists():
        raise InputError(
            f"{side} can be read only once.", value=side, hint="Save it to a file: embeddings are read in any order."
        )
    raise InputError(f"There is no file {side}.", value=side, hint="Check the path.")


def _score_here(  # noqa: PLR0917 - as above
    a: str, b: str, options: ScoringOptions, columns: Columns, timeout_s: float | None, device: str
) -> ScoreDocument:
    with packages_of("compute", "Scoring in this process"):
        from consilience.scoring import score  # noqa: PLC0415 -- numpy and faiss, only for those who score here
    with work_here("reading", timeout_s) as report:
        return score(Path(a), Path(b), options, ids=columns.ids, groups=columns.groups, device=device, report=report)


def _score_there(  # noqa: PLR0917 - as above
    a: str, b: str, options: ScoringOptions, columns: Columns, server: str, timeout_s: float | None
) -> ScoreDocument:
    with connect(server) as client, progress_bar("uploading") as report:
        sides = [
            store(client, side, ids, groups)
            for side, ids, groups in zip((a, b), columns.ids, columns.groups, strict=True)
        ]
        alignment = client.align(sides[0], sides[1], options)
        return await_document(client, alignment.id, ScoreDocument, report, timeout_s)


def store(client: Client, side: str, ids: Labels, groups: Labels, model: str | None = None) -> EmbeddingSet | str:
    """A file as a stored set where something is said of it; else the client uploads it itself."""
    if ids is None and groups is None and model is None:
        return side
    if re.fullmatch(EMBEDDING_ID, side):
        raise InputError(
            f"{side} is a stored set, which has its own ids, groups and model.", value=side, hint="Upload it with them."
        )
    return client.upload(side, metadata=None if model is None else {"model": model}, ids=ids, groups=groups)


def obtain_plan(a: str, b: str, options: ScoringOptions, columns: Columns, server: str | None) -> Plan:
    """The plan for two files from their headers alone, or for two stored sets where there is a server.

    Raises
    ------
    InputError
        What cannot be scored, or would take more memory than there is.
    """
    for side in (a, b):
        require_source(side, server)
    if server is None:
        return _plan_here(a, b, options, columns)
    for side in (a, b):
        if Path(side).is_file():
            raise InputError(
                f"{side} is a file, which the service does not know yet.",
                value=side,
                hint="Upload it first, or leave --server out.",
            )
    with connect(server) as client:
        return client.plan(a, b, options)


def _plan_here(a: str, b: str, options: ScoringOptions, columns: Columns) -> Plan:
    with packages_of("compute", "A plan in this process"):
        from consilience.formats.files import open_path  # noqa: PLC0415 -- numpy, only for those who plan here
        from consilience.planning.alignments import CostLimits, SideShape, plan  # noqa: PLC0415 -- the same

    shapes = []
    for side, ids, groups in zip((a, b), columns.ids, columns.groups, strict=True):
        with prefixed(f"File {side}"), open_path(side) as file:
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


def show_plan(found: Plan, *, as_json: bool) -> None:
    """To standard output as a table, or alone as JSON."""
    present(found, _plan_table, as_json=as_json)


def _plan_table(found: Plan) -> RenderableType:
    facts = {
        "rows": f"{found.n:,}",
        "columns": f"{found.dim_a} and {found.dim_b}",
        "layer pairs": str(found.cells),
        "operations": f"{found.flops:.3g}",
        "time": f"{found.seconds:.3g} s on two cores",
        "memory": f"{found.bytes / 1e9:.3g} GB, " + ("rows read by blocks" if found.streamed else "rows in memory"),
    }
    if found.memory_budget_bytes is not None:
        facts["budget"] = f"{found.memory_budget_bytes / 1e9:.3g} GB"
    if found.queries is not None:
        facts["queries"] = f"about {found.queries:,}, at most {found.queries_max:,}"
    return fact_table(facts)


def find_service(b: str | None, reference: str | None, server: str | None) -> str | None:
    """The service, where there is one; InputError for nothing or two things to compare with, or a reference set of none."""
    if (b is None) == (reference is None):
        raise InputError(
            "There is nothing to compare A with." if b is None else "There is both B and a reference set.",
            hint="Name the other side B, or a reference set of a service: --reference NAME.",
        )
    if reference is not None and server is None:
        raise InputError(
            f"The reference set {reference} is on a service.", value=reference, hint="Say which with --server."
        )
    return server


def obtain_standings(  # noqa: PLR0917 - what the commands have read, in its order
    a: str, reference: str, options: ScoringOptions, columns: Columns, server: str, timeout_s: float | None
) -> ReferenceDocument:
    """The document of a file, or a stored set, against a reference set."""
    require_source(a, server)
    if columns.ids != (None, None) or columns.groups != (None, None):
        raise InputError("Members have their own ids and groups.", hint="Upload A with --ids first, and name its id.")
    with connect(server) as client, progress_bar("uploading") as report:
        asked = client.align(a, reference=reference, options=options)
        return await_document(client, asked.id, ReferenceDocument, report, timeout_s)


def show_standings(document: ReferenceDocument, output: Output) -> None:
    """To standard output as a table, or alone as JSON; into a file too, where one is named."""
    show(document, standing_table, document.warnings, output)


def standing_table(document: ReferenceDocument) -> RenderableType:
    """Each metric's mean and rank, then the scores against each member."""
    table = new_table("metric", "mean", "rank", "ahead of", left=("metric",))
    for standing in document.standings:
        ahead = ABSENT if standing.ahead_of is None else f"{standing.ahead_of:.0%}"
        table.add_row(metric_label(standing.metric, standing.options), figure(standing.value), _rank(standing), ahead)
    labels = [metric_label(standing.metric, standing.options) for standing in document.standings]
    members = new_table("member", *labels, left=("member",))
    for member in document.members:
        name = f"{member.b.name} (itself)" if member.own else member.b.name
        members.add_row(name, *(figure(score.value) for score in member.scores))
    heading = (
        f"{document.a.name} against {document.reference.name}: {len(document.members)} members, {document.n} items"
    )
    notes = [
        Text(f"{label} has no rank: {standing.reason.detail}", "yellow")
        for label, standing in zip(labels, document.standings, strict=True)
        if standing.reason is not None
    ]
    return Group(Text(heading, "bold"), table, *notes, members)


def _rank(standing: Standing) -> str:
    if standing.rank is None:
        return ABSENT
    shared = f" (shared by {standing.ties + 1})" if standing.ties else ""
    return f"{standing.rank} of {standing.of}{shared}"


@unfold
def score(
    a: SideA,
    b: OtherSide = None,
    *,
    measures: Measures,
    correction: Correction = "none",
    search: Search,
    gallery_sizes: GallerySizes = None,
    memory_budget: MemoryBudget = None,
    labels: LabelFiles,
    reference: Reference = None,
    output: Output,
    service: Service,
    dry_run: DryRun = False,
    device: Device = "auto",
) -> None:
    """Measure how far two embedding spaces agree, or where one stands among the members of a reference set.

    An undefined score (a constant column, say) is an answer: the status is 0.
    """
    options = read_options(
        measures, search, correction=correction, gallery_sizes=gallery_sizes, memory_budget=memory_budget
    )
    columns = labels.read()
    if (url := find_service(b, reference, service.server)) is not None and reference is not None:
        if dry_run:
            raise InputError("There is no dry run against a reference set.", hint="Leave out --dry-run, or name one B.")
        show_standings(obtain_standings(a, reference, options, columns, url, service.timeout), output)
        return
    assert b is not None  # noqa: S101 - checked above
    if dry_run:
        show_plan(obtain_plan(a, b, options, columns, service.server), as_json=output.as_json)
        return
    show_scores(obtain_scores(a, b, options, columns, service, device), output)
