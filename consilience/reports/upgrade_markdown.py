"""An upgrade report as Markdown."""

import re
from collections.abc import Iterable, Sequence

from consilience.contract.upgrade_reports import UpgradeReport
from consilience.reports.words import (
    CHANGED_COLUMNS,
    NOTES,
    changed_lists,
    changed_row,
    facts,
    title,
    way_columns,
    way_row,
)


def to_markdown(report: UpgradeReport) -> str:
    """The report as a page of GitHub-flavoured Markdown; names of items are text, whatever they hold."""
    lines = [
        f"# Upgrade report: {escape(title(report))}",
        "",
        f"**Verdict: {report.verdict.word}.** {report.verdict.text}",
        "",
        *_table(way_columns(report), [way_row(way) for way in report.ways]),
        "",
        *(f"- {note}" for note in NOTES),
        "",
        *_table(("", ""), facts(report).items()),
    ]
    if report.warnings:
        lines += ["", "## Warnings", "", *(f"- {escape(warning)}" for warning in report.warnings)]
    for heading, items in changed_lists(report):
        lines += ["", f"## {heading}", "", *_table(CHANGED_COLUMNS, [changed_row(item) for item in items])]
    return "\n".join(lines) + "\n"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_row(columns), _row(["---"] * len(columns)), *(_row([escape(cell) for cell in row]) for row in rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", line)
