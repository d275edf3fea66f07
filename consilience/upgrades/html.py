"""An upgrade report as a page of HTML that needs nothing else: no script, no font, no picture from elsewhere."""

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape

from consilience.contract.maps import MapSide, MeanShare
from consilience.contract.upgrades import ChangedItem, Strategy, UpgradeReport, ValueWithInterval

ROW, LEFT, WIDTH, RIGHT = 30, 300, 360, 60


def draw_bars(title: str, bars: Sequence[tuple[str, MeanShare | ValueWithInterval]], bar: float | None = None) -> str:
    """One horizontal bar from 0 to 1 for each share, its interval as a line, its value beside it.

    Parameters
    ----------
    title : what it shows, for those who do not see it
    bars : a label and a share each
    bar : where a dashed line stands, such as a threshold
    """
    height = ROW * len(bars) + 24
    box = f"0 0 {LEFT + WIDTH + RIGHT} {height}"
    parts = [f'<svg viewBox="{box}" role="img" aria-label="{escape(title)}" xmlns="http://www.w3.org/2000/svg">']
    for place, (label, found) in enumerate(bars):
        parts += _draw(ROW * place + 4, label, found)
    parts += _draw_scale(height, bar)
    return "".join([*parts, "</svg>"])


def _draw(top: int, label: str, found: MeanShare | ValueWithInterval) -> list[str]:
    middle = top + 10
    low, high = _x(found.low), _x(found.high)
    return [
        f'<text x="{LEFT - 10}" y="{middle + 4}" text-anchor="end">{escape(label)}</text>',
        f'<rect class="bar" x="{LEFT}" y="{top}" width="{_x(found.value) - LEFT:.1f}" height="20"/>',
        f'<line class="interval" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>',
        f'<text x="{max(high, _x(found.value)) + 8:.1f}" y="{middle + 4}">{found.value:.3f}</text>',
    ]


def _draw_scale(height: int, bar: float | None) -> list[str]:
    ticks = [
        f'<text class="tick" x="{_x(share):.1f}" y="{height - 4}" text-anchor="middle">{share:g}</text>'
        for share in (0, 0.5, 1)
    ]
    if bar is None:
        return ticks
    x = f"{_x(bar):.1f}"
    return [*ticks, f'<line class="threshold" x1="{x}" x2="{x}" y1="0" y2="{height - 20}"/>']


def _x(share: float) -> float:
    return LEFT + WIDTH * min(1.0, max(0.0, share))


ABSENT = "-"
LABELS = {
    "re_embed": "new queries, documents embedded anew",
    "old": "old queries, old index (today)",
    "keep": "new queries as they are, old index",
}


def report_title(report: UpgradeReport) -> str:
    """Which model goes, and which comes."""
    return f"{_side_name(report.old)} to {_side_name(report.new)}"


def _side_name(side: MapSide) -> str:
    """The model or the file; with its layer where there are several."""
    layer = "" if side.layer == "0" else f", layer {side.layer}"
    return f"{side.model or side.name}{layer}"


def strategy_label(way: Strategy) -> str:
    """What a way is, in a few words."""
    return LABELS.get(way.kind) or f"new queries through {way.name.removeprefix('adapt:')}, old index"


def format_share(found: MeanShare | ValueWithInterval | None) -> str:
    """A share with its interval."""
    return ABSENT if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def strategy_row(way: Strategy) -> tuple[str, str, str, str, str]:
    """Label, recall, judged, retained, gain."""
    return (
        strategy_label(way),
        format_share(way.recall),
        format_share(way.relevant_recall),
        format_share(way.retained),
        format_share(way.gain),
    )


def strategy_columns(report: UpgradeReport) -> tuple[str, str, str, str, str]:
    """The columns' names."""
    return "way", f"recall@{report.k} of full re-embedding", f"relevant@{report.k}", "retained", "update gain"


def comparison_facts(report: UpgradeReport) -> dict[str, str]:
    """What the figures are of."""
    who = "held-out documents" if report.queries.source == "documents" else "queries"
    shared, chance = report.agreement.shared, report.agreement.chance
    found = {
        "old model": f"{_side_name(report.old)}, {report.old.dim} dimensions",
        "new model": f"{_side_name(report.new)}, {report.new.dim} dimensions",
        "documents": f"{report.n:,}, of which maps were fitted on {report.n_train:,}",
        "asked": f"{report.queries.used:,} of {report.queries.available:,} {who}",
        f"neighbour agreement@{report.k}": f"{format_share(shared)} over {report.agreement.queries:,} documents; {chance:.3f} by chance",
        "intervals": f"{100 * report.level:g} %",
        "seed": str(report.seed),
    }
    if report.improvement is not None:
        found[f"relevant@{report.k}, new model less old"] = format_share(report.improvement)
    return found


def changed_row(changed: ChangedItem) -> tuple[str, str, str, str]:
    """The item, how many neighbours it keeps, its old and its new neighbours."""
    return (
        changed.item,
        f"{changed.shared} of {len(changed.old)}",
        ", ".join(neighbour.item for neighbour in changed.old),
        ", ".join(neighbour.item for neighbour in changed.new),
    )


CHANGED_COLUMNS = ("item", "kept", "neighbours by the old model", "neighbours by the new model")


def changed_lists(report: UpgradeReport) -> list[tuple[str, tuple[ChangedItem, ...]]]:
    """The lists of items that changed most, with their headings."""
    lists = [
        ("Documents that changed most", report.worst_documents),
        ("Queries that changed most", report.worst_queries),
    ]
    return [(heading, items) for heading, items in lists if items]


NOTES = (
    "recall: the share of the first k answers of full re-embedding that a way finds among its own first k.",
    "relevant: the share of the documents that answer a query by the judgements, among the first k.",
    "retained: what a way finds over what full re-embedding finds: by the judgements where there are some, else recall.",
    "update gain: (a way - old) / (full re-embedding - old), Shen et al. 2020, arXiv 2003.11942.",
)


def to_markdown(report: UpgradeReport) -> str:
    """The report as a page of GitHub-flavoured Markdown; names of items are text, whatever they hold."""
    lines = [
        f"# Upgrade report: {escape_markdown(report_title(report))}",
        "",
        f"**Verdict: {report.verdict.recommendation}.** {report.verdict.text}",
        "",
        *_markdown_table(strategy_columns(report), [strategy_row(way) for way in report.strategies]),
        "",
        *(f"- {note}" for note in NOTES),
        "",
        *_markdown_table(("", ""), comparison_facts(report).items()),
    ]
    if report.warnings:
        lines += ["", "## Warnings", "", *(f"- {escape_markdown(warning)}" for warning in report.warnings)]
    for heading, items in changed_lists(report):
        lines += ["", f"## {heading}", "", *_markdown_table(CHANGED_COLUMNS, [changed_row(item) for item in items])]
    return "\n".join(lines) + "\n"


def _markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        _markdown_row(columns),
        _markdown_row(["---"] * len(columns)),
        *(_markdown_row([escape_markdown(cell) for cell in row]) for row in rows),
    ]


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", line)


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
    heading = f"Upgrade report: {report_title(report)}"
    verdict = report.verdict
    bars = [(strategy_label(way), way.retained) for way in report.strategies if way.retained is not None]
    parts = [
        f"<h1>{escape(heading)}</h1>",
        f'<p class="verdict"><strong>{escape(verdict.recommendation)}</strong><br>{escape(verdict.text)}</p>',
        "<h2>What each way retains of full re-embedding</h2>",
        draw_bars("What each way retains of full re-embedding", bars, verdict.threshold or None),
        _html_table(strategy_columns(report), [strategy_row(way) for way in report.strategies]),
        _list(NOTES),
        "<h2>What was compared</h2>",
        _html_table((), comparison_facts(report).items()),
    ]
    if report.warnings:
        parts += ["<h2>Warnings</h2>", _list(report.warnings)]
    for heading, items in changed_lists(report):
        parts += [f"<h2>{heading}</h2>", _html_table(CHANGED_COLUMNS, [changed_row(item) for item in items])]
    return _page(heading, "\n".join(parts))


def _page(heading: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(heading)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _html_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = f"<thead>{_html_row(columns, 'th')}</thead>" if columns else ""
    body = "".join(_html_row(row, "td") for row in rows)
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def _html_row(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _list(items: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"
