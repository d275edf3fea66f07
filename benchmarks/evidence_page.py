"""docs/evidence.md from what `evidence` found."""

from collections.abc import Callable, Iterable, Sequence
from math import sqrt
from typing import Any

from benchmarks.evidence_data import COSTLY, DRAWS, DRAWS_COSTLY, FITS_ALL, RELATED, UNRELATED, N

Row = dict[str, Any]

TOP = """# Are the p-values and intervals right?

Measured, not assumed: `make evidence` draws {pairs} samples of {n} paired rows of each kind of data below, scores each by every
metric with its default options, and counts. This page is what it found; the figures are in
[evidence.json](evidence.json). It took {minutes} minutes of processor time in {processes} processes of one thread.

The real rows are 2048 functions of Python's standard library, docstrings on one side and code on the other, embedded by
one small text model ([examples/data](../examples/data/README.md)).
"""

LEVEL = """## How often unrelated spaces are called related

The share of samples with p at most 0.05 where the pairing is random: it should be 0.05. Over {pairs} samples it is known to
about {error:.3f} (one standard error); figures more than three of them off are **bold**. `analytic` is a closed form,
`permutation` is {draws} permutations, and {costly_draws} where each takes a decomposition or a regression of many dimensions
(d = 256 and more: {costly}); a permutation test keeps its level at any number of
draws. No value: the metric says that it is undefined there, because there are as many dimensions as rows.
"""

LEVEL_1 = """The same at p at most 0.01, for the closed forms alone: the tail is where a closed form would go wrong first.
"""

COVERAGE = """## How often 95 % intervals hold what they are for

An interval of target `population` says where the value would lie if {n} other items were drawn. There is no value free of n
to compare with (a neighbour score falls with the number of rows, and biased statistics carry a bias that depends on it), so
the target is the mean value over all {pairs} samples of {n} rows. For `held-out` intervals it is the mean of the held-out
values (fitted on four fifths of the rows, scored on the others): these intervals say nothing about the value in the sample,
which overstates the agreement; both means are given. `width` is the intervals' mean width against what the spread of
the samples' values makes right: 1 is right, less is too narrow, more too wide.

Real samples are drawn from 2048 rows without putting back, which makes them {fpc:.0%} less spread than samples from an endless
source: coverage among real rows is flattered by about half a percent.
"""


def render(results: dict[str, Any]) -> str:
    """Write the page, Markdown."""
    pairs, level, coverage = results["pairs"], results["level"], results["coverage"]
    facts = {
        "pairs": pairs,
        "n": N,
        "minutes": f"{results['processor_minutes']:.0f}",
        "processes": results["processes"],
        "error": _error(0.05, pairs),
        "draws": DRAWS,
        "costly_draws": DRAWS_COSTLY,
        "costly": ", ".join(COSTLY),
        "fpc": 1 - sqrt(1 - N / 2048),
    }
    closed = [row for row in level if row.get("null") == "analytic"]
    parts = [
        TOP.format(**facts),
        LEVEL.format(**facts),
        _explain((data.name, data.words) for data in UNRELATED),
        _level_table(level, "at_5", 0.05),
        _words_on_level(level),
        LEVEL_1,
        _level_table(closed, "at_1", 0.01),
        COVERAGE.format(**facts),
        _explain((data.name, data.words) for data in RELATED),
        *(_coverage_table(data.name, coverage) for data in RELATED),
        _words_on_coverage(coverage),
    ]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def _error(share: float, samples: int) -> float:
    return sqrt(share * (1 - share) / samples)


def _explain(names: Iterable[tuple[str, str]]) -> str:
    lines = [f"- {name}: {words}" for name, words in names]
    return "\n".join([*lines, "", f"The last is for {', '.join(FITS_ALL)}, which need fewer dimensions than rows."])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def _mark(value: float, wanted: float, samples: int, figure: str) -> str:
    return f"**{figure}**" if abs(value - wanted) > 3 * _error(wanted, samples) else figure


def _level_table(level: Sequence[Row], key: str, wanted: float) -> str:
    names = [data.name for data in UNRELATED if any(row["data"] == data.name for row in level)]
    found = {(row["metric"], row["data"]): row for row in level}
    rows = []
    for metric in dict.fromkeys(row["metric"] for row in level):
        cells = [_share(found.get((metric, name)), key, wanted) for name in names]
        nulls = {row["null"] for row in level if row["metric"] == metric and "null" in row}
        rows.append([metric, " ".join(sorted(nulls)), *cells])
    return _table(["metric", "null", *names], rows)


def _share(row: Row | None, key: str, wanted: float) -> str:
    if row is None or key not in row:
        return ""
    return _mark(row[key], wanted, row["pairs"], f"{row[key]:.3f}")


def _coverage_table(name: str, coverage: Sequence[Row]) -> str:
    rows = [
        [
            row["metric"],
            row["method"],
            f"{row['mean_value']:.3f}",
            f"{row['target']:.3f}" if row["method"] == "held-out" else "",
            _mark(row["covered"], 0.95, row["samples"], f"{row['covered']:.3f}"),
            f"{row['width_ratio']:.2f}",
        ]
        for row in coverage
        if row["data"] == name and "method" in row
    ]
    head = ["metric", "interval", "mean value", "held-out mean", "coverage", "width"]
    return f"### {name[0].upper()}{name[1:]}\n\n" + _table(head, rows)


def _words_on_level(level: Sequence[Row]) -> str:
    """Describe the values that are off."""
    often = _where(level, lambda row: row["at_5"] - 0.05 > 3 * _error(0.05, row["pairs"]), "at_5")
    seldom = _where(level, lambda row: 0.05 - row["at_5"] > 3 * _error(0.05, row["pairs"]), "at_5")
    return "\n".join(
        [
            f"Called related too often: {often or 'nowhere by more than three standard errors'}.",
            "",
            f"Too seldom, which is safe but costs power: {seldom or 'nowhere by more than three standard errors'}.",
        ]
    )


def _words_on_coverage(coverage: Sequence[Row]) -> str:
    """Describe the values that are off."""
    low = _where(coverage, lambda row: 0.95 - row["covered"] > 3 * _error(0.95, row["samples"]), "covered")
    high = _where(coverage, lambda row: row["covered"] - 0.95 > 3 * _error(0.95, row["samples"]), "covered")
    return "\n".join(
        [
            "### In words",
            "",
            f"Too narrow, so rougher than they say: {low or 'none by more than three standard errors'}.",
            "",
            f"Too wide, which is safe: {high or 'none by more than three standard errors'}.",
        ]
    )


def _where(rows: Sequence[Row], is_off: Callable[[Row], bool], key: str) -> str:
    """`metric (data share, data share)` of all rows that are off."""
    off: dict[str, list[str]] = {}
    for row in rows:
        if key in row and is_off(row):
            off.setdefault(row["metric"], []).append(f"{row['data']} {row[key]:.3f}")
    return "; ".join(f"{metric} ({', '.join(places)})" for metric, places in off.items())
