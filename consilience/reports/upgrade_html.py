"""An upgrade report as a page of HTML that needs nothing else: no script, no font, no picture from elsewhere."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape

from consilience.contract.upgrade_reports import UpgradeReport
from consilience.reports.chart import draw_bars
from consilience.reports.words import (
    CHANGED_COLUMNS,
    NOTES,
    changed_lists,
    changed_row,
    facts,
    label,
    title,
    way_columns,
    way_row,
)

STYLE = """
:root { color-scheme: light dark; --ink: #1c1f23; --paper: #fff; --faint: #68707a; --line: #d8dde3; --bar: #4c78a8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --paper: #16181b; --faint: #9aa3ad; --line: #343a41; --bar: #6d9bd1; }
}
body { color: var(--ink); background: var(--paper); font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.verdict { border-left: .4rem solid var(--bar); padding: .2rem 1rem; }
.verdict strong { font-size: 1.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; min-width: 6rem; }
ul { color: var(--faint); font-size: .85rem; padding-left: 1.2rem; }
svg { max-width: 46rem; width: 100%; } svg text { fill: var(--ink); font-size: 13px; } svg .tick { fill: var(--faint); }
.bar { fill: var(--bar); } .interval { stroke: var(--ink); stroke-width: 2; }
.threshold { stroke: var(--faint); stroke-dasharray: 4 4; }
"""
_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()
#: What a browser may do with the page: show it in its own style, and nothing else.
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"


def to_html(report: UpgradeReport) -> str:
    """The report as a page; names of items are text, whatever they hold."""
    heading = f"Upgrade report: {title(report)}"
    verdict = report.verdict
    bars = [(label(way), way.retained) for way in report.ways if way.retained is not None]
    parts = [
        f"<h1>{escape(heading)}</h1>",
        f'<p class="verdict"><strong>{escape(verdict.word)}</strong><br>{escape(verdict.text)}</p>',
        "<h2>What each way retains of full re-embedding</h2>",
        draw_bars("What each way retains of full re-embedding", bars, verdict.threshold or None),
        _table(way_columns(report), [way_row(way) for way in report.ways]),
        _list(NOTES),
        "<h2>What was compared</h2>",
        _table((), facts(report).items()),
    ]
    if report.warnings:
        parts += ["<h2>Warnings</h2>", _list(report.warnings)]
    for heading, items in changed_lists(report):
        parts += [f"<h2>{heading}</h2>", _table(CHANGED_COLUMNS, [changed_row(item) for item in items])]
    return _page(heading, "\n".join(parts))


def _page(heading: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(heading)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = f"<thead>{_row(columns, 'th')}</thead>" if columns else ""
    body = "".join(_row(row, "td") for row in rows)
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def _row(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _list(items: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"
