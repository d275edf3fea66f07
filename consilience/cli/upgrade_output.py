"""How an upgrade report leaves the command."""

from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from consilience.cli.consoles import warn
from consilience.cli.numbers import ABSENT, figure
from consilience.cli.output import present, to_json, write
from consilience.cli.tables import new_table
from consilience.contract.maps import MeanShare
from consilience.contract.upgrade_reports import Span, UpgradeReport
from consilience.reports.upgrade_html import to_html
from consilience.reports.upgrade_markdown import to_markdown
from consilience.reports.words import title

#: Forms of a report by the ending of a file's name.
SUFFIXES = (".json", ".md", ".html")


def show_report(report: UpgradeReport, *, as_json: bool, out: Path | None) -> None:
    """To standard output as a table, or alone as JSON; into a file too, in the form that its name asks for."""
    present(report, report_table, as_json=as_json)
    for warning in report.warnings:
        warn(warning)
    if out is not None:
        forms = {".md": to_markdown, ".html": to_html}
        form = forms.get(out.suffix.lower())
        write(out, to_json(report) + "\n" if form is None else form(report))


def report_table(report: UpgradeReport) -> RenderableType:
    """The ways with their figures, and the verdict."""
    judged = report.improvement is not None
    columns = ["way", f"recall@{report.k}", "interval", *(["judged", "retained"] if judged else []), "gain"]
    table = new_table(*columns, left=("way",))
    for way in report.ways:
        more = [_value(way.judged), _value(way.retained)] if judged else []
        table.add_row(way.name, _value(way.recall), _interval(way.recall), *more, _value(way.gain))
    shared = report.agreement.shared
    return Group(
        Text(_heading(report), "bold"),
        table,
        Text(
            f"neighbour agreement@{report.k} {figure(shared.value)} {_interval(shared)}, "
            f"by chance {figure(report.agreement.chance)}"
        ),
        Text.assemble((report.verdict.word, "bold"), f": {report.verdict.text}"),
    )


def _heading(report: UpgradeReport) -> str:
    who = "held-out documents" if report.queries.source == "documents" else "queries"
    return f"{title(report)}: {report.n} documents, {report.queries.asked} {who} asked"


def _value(found: MeanShare | Span | None) -> str:
    return ABSENT if found is None else figure(found.value)


def _interval(found: MeanShare) -> str:
    return f"[{found.low:.3f}, {found.high:.3f}]"
