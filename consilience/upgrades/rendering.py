"""Upgrade reports as Markdown and as a self-contained HTML page: no script, no font and no image from elsewhere."""

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape

from consilience.contract.maps import MapSide, MeanShare
from consilience.contract.upgrades import ChangedItem, Strategy, UpgradeReport, ValueWithInterval

ROW, LEFT, WIDTH, RIGHT = 30, 300, 360, 60


def draw_bars(
    title: str, shares: Sequence[tuple[str, MeanShare | ValueWithInterval]], threshold: float | None = None
) -> str:
    """Draw an SVG bar chart from 0 to 1: a bar for each share, with its interval as a line and its value.

    Parameters
    ----------
    title : text alternative of the chart
    shares : label and share of each bar
    threshold : position of a dashed line
    """
    height = ROW * len(shares) + 24
    box = f"0 0 {LEFT + WIDTH + RIGHT} {height}"
    parts = [f'<svg viewBox="{box}" role="img" aria-label="{escape(title)}" xmlns="http://www.w3.org/2000/svg">']
    for number, (label, share) in enumerate(shares):
        parts += _draw_bar(ROW * number + 4, label, share)
    parts += _draw_scale(height, threshold)
    return "".join([*parts, "</svg>"])


def _draw_bar(top: int, label: str, share: MeanShare | ValueWithInterval) -> list[str]:
    middle = top + 10
    low, high = _x(share.low), _x(share.high)
    return [
        f'<text x="{LEFT - 10}" y="{middle + 4}" text-anchor="end">{escape(label)}</text>',
        f'<rect class="bar" x="{LEFT}" y="{top}" width="{_x(share.value) - LEFT:.1f}" height="20"/>',
        f'<line class="interval" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>',
        f'<text x="{max(high, _x(share.value)) + 8:.1f}" y="{middle + 4}">{share.value:.3f}</text>',
    ]


def _draw_scale(height: int, threshold: float | None) -> list[str]:
    ticks = [
        f'<text class="tick" x="{_x(share):.1f}" y="{height - 4}" text-anchor="middle">{share:g}</text>'
        for share in (0, 0.5, 1)
    ]
    if threshold is None:
        return ticks
    x = f"{_x(threshold):.1f}"
    return [*ticks, f'<line class="threshold" x1="{x}" x2="{x}" y1="0" y2="{height - 20}"/>']


def _x(share: float) -> float:
    return LEFT + WIDTH * min(1.0, max(0.0, share))


ABSENT = "-"
LABELS = {
    "re_embed": "new queries, re-embedded documents",
    "old": "old queries, old index (today)",
    "keep": "new queries, old index",
}


def report_title(report: UpgradeReport) -> str:
    """Return the names of the old and of the new model."""
    return f"{_side_name(report.old)} to {_side_name(report.new)}"


def _side_name(side: MapSide) -> str:
    """Return the name of the model or of the file, with the layer if there are several."""
    layer = "" if side.layer == "0" else f", layer {side.layer}"
    return f"{side.model or side.name}{layer}"


def verdict_word(report: UpgradeReport) -> str:
    """Return the recommendation as a word of a sentence."""
    return report.verdict.recommendation.replace("_", "-")


def strategy_label(strategy: Strategy) -> str:
    """Describe a strategy in a few words."""
    return LABELS.get(strategy.kind) or f"new queries mapped by {strategy.name.removeprefix('adapt:')}, old index"


def format_share(found: MeanShare | ValueWithInterval | None) -> str:
    """Format a share with its interval."""
    return ABSENT if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def strategy_row(strategy: Strategy) -> tuple[str, str, str, str, str]:
    """Return the cells of a strategy, in the order of `strategy_columns`."""
    return (
        strategy_label(strategy),
        format_share(strategy.recall),
        format_share(strategy.relevant_recall),
        format_share(strategy.retained),
        format_share(strategy.gain),
    )


def strategy_columns(report: UpgradeReport) -> tuple[str, str, str, str, str]:
    """Return the column headings of the table of strategies."""
    return "strategy", f"recall@{report.k} of full re-embedding", f"relevant@{report.k}", "retained", "update gain"


def comparison_facts(report: UpgradeReport) -> dict[str, str]:
    """List the models, the numbers of documents and queries, and the settings."""
    source = "held-out documents" if report.queries.source == "documents" else "queries"
    agreement = report.agreement
    found = {
        "old model": f"{_side_name(report.old)}, {report.old.dim} dimensions",
        "new model": f"{_side_name(report.new)}, {report.new.dim} dimensions",
        "documents": f"{report.n:,}, of which {report.n_train:,} for fitting maps",
        "queries": f"{report.queries.used:,} of {report.queries.available:,} {source}",
        f"neighbour agreement@{report.k}": (
            f"{format_share(agreement.shared)} over {agreement.queries:,} documents; {agreement.chance:.3f} by chance"
        ),
        "level of the intervals": f"{100 * report.level:g} %",
        "seed": str(report.seed),
    }
    if report.improvement is not None:
        found[f"relevant@{report.k}, new model minus old model"] = format_share(report.improvement)
    return found


def changed_row(changed: ChangedItem) -> tuple[str, str, str, str]:
    """Return the cells of a changed item, in the order of `CHANGED_COLUMNS`."""
    return (
        changed.item,
        f"{changed.shared} of {len(changed.old)}",
        ", ".join(neighbour.item for neighbour in changed.old),
        ", ".join(neighbour.item for neighbour in changed.new),
    )


CHANGED_COLUMNS = ("item", "common neighbours", "neighbours by the old model", "neighbours by the new model")


def changed_lists(report: UpgradeReport) -> list[tuple[str, tuple[ChangedItem, ...]]]:
    """Return the lists of items that change most, with their headings."""
    lists = [
        ("Documents whose neighbours change most", report.worst_documents),
        ("Queries whose results change most", report.worst_queries),
    ]
    return [(heading, items) for heading, items in lists if items]


NOTES = (
    "recall: share of the first k results of full re-embedding that are among the first k results of the strategy.",
    "relevant: share of a query's relevant documents that are among the first k results, by the relevance judgments.",
    (
        "retained: results of the strategy divided by those of full re-embedding; the results are relevant documents if there "
        "are relevance judgments, otherwise recall."
    ),
    "update gain: (strategy - old) / (full re-embedding - old), Shen et al. 2020, arXiv 2003.11942.",
)


def to_markdown(report: UpgradeReport) -> str:
    """Write the report as GitHub-flavoured Markdown; names of items are escaped."""
    lines = [
        f"# Upgrade report: {escape_markdown(report_title(report))}",
        "",
        f"**Verdict: {verdict_word(report)}.** {report.verdict.text}",
        "",
        *_markdown_table(strategy_columns(report), [strategy_row(strategy) for strategy in report.strategies]),
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
    """Escape text for Markdown, in one line."""
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
#: Content security policy of the page: its own style sheet, and nothing else.
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"


def to_html(report: UpgradeReport) -> str:
    """Write the report as an HTML page; names of items are escaped."""
    heading = f"Upgrade report: {report_title(report)}"
    verdict = report.verdict
    shares = [
        (strategy_label(strategy), strategy.retained) for strategy in report.strategies if strategy.retained is not None
    ]
    parts = [
        f"<h1>{escape(heading)}</h1>",
        f'<p class="verdict"><strong>{verdict_word(report)}</strong><br>{escape(verdict.text)}</p>',
        "<h2>Share of the results of full re-embedding that each strategy retains</h2>",
        draw_bars("Share of results that each strategy retains", shares, verdict.threshold or None),
        _html_table(strategy_columns(report), [strategy_row(strategy) for strategy in report.strategies]),
        _list(NOTES),
        "<h2>Models and settings</h2>",
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
