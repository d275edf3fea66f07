"""Scores against a reference set: from the command's words to a table of ranks."""

from rich.console import Group, RenderableType
from rich.text import Text

from consilience.cli.columns import Columns
from consilience.cli.connection import connect
from consilience.cli.groups import Output
from consilience.cli.numbers import ABSENT, figure, metric_label
from consilience.cli.output import show
from consilience.cli.progress import progress_bar
from consilience.cli.scoring import require_source
from consilience.cli.tables import new_table
from consilience.cli.waiting import await_document
from consilience.contract.jobs import ScoringOptions
from consilience.contract.reference_scores import ReferenceDocument, Standing
from consilience.errors import InputError


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
