"""Bars of `consilience upgrade --min`: what a figure of the report must reach."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import RenderableType

from consilience.cli.gates import split_bar, verdict_word
from consilience.cli.numbers import figure
from consilience.cli.tables import new_table
from consilience.contract.upgrade_reports import UpgradeReport, Way
from consilience.errors import InvalidRequest

#: Figures of the whole report, and of each way.
WHOLE, OF_WAYS = ("agreement", "improvement"), ("recall", "judged", "retained", "gain")


@dataclass(frozen=True)
class Bar:
    """The least value of a figure: of the report, of a way that is named, or of the best way on the old index."""

    figure: str
    way: str | None
    value: float

    @property
    def label(self) -> str:
        """As it was written."""
        return self.figure if self.way is None else f"{self.figure}:{self.way}"


@dataclass(frozen=True)
class Reached:
    """A figure against its bar. One that is absent reaches none."""

    bar: Bar
    value: float | None

    @property
    def passed(self) -> bool:
        """Whether the bar is reached."""
        return self.value is not None and self.value >= self.bar.value


def parse_bar(word: str) -> Bar:
    """`agreement=0.8`, `recall=0.9`, or of one way: `recall:keep=0.9`, `gain:adapt:ridge=0.5`."""
    name, value = split_bar(word, "recall=0.9")
    found, _, way = name.partition(":")
    if found not in WHOLE + OF_WAYS or (way and found in WHOLE):
        raise InvalidRequest(
            f"There is no figure {name!r}.",
            value=word,
            hint=f"There are {', '.join(WHOLE)}; and {', '.join(OF_WAYS)}, also of one way: recall:adapt:ridge.",
        )
    return Bar(found, way or None, value)


def judge(report: UpgradeReport, bars: Sequence[Bar]) -> list[Reached]:
    """Every bar against its figure.

    Raises
    ------
    InvalidRequest
        A way that the report does not have.
    """
    return [Reached(bar, _find_figure(report, bar)) for bar in bars]


def _find_figure(report: UpgradeReport, bar: Bar) -> float | None:
    if bar.figure == "agreement":
        return report.agreement.shared.value
    if bar.figure == "improvement":
        return None if report.improvement is None else report.improvement.value
    way = _find_way(report, bar.way)
    found = (
        None
        if way is None
        else {"recall": way.recall, "judged": way.judged, "retained": way.retained, "gain": way.gain}[bar.figure]
    )
    return None if found is None else found.value


def _find_way(report: UpgradeReport, name: str | None) -> Way | None:
    ways = {way.name: way for way in report.ways}
    if name is not None and name not in ways:
        raise InvalidRequest(f"The report has no way {name!r}.", value=name, hint=f"There are: {', '.join(ways)}.")
    wanted = name or report.verdict.best
    return None if wanted is None else ways[wanted]


def reached_table(found: Sequence[Reached]) -> RenderableType:
    """One line a bar: its figure, and whether it passed."""
    table = new_table("figure", "value", "bar", "verdict", left=("figure", "verdict"))
    for reached in found:
        table.add_row(
            reached.bar.label, figure(reached.value), f"{reached.bar.value:g}", verdict_word(passed=reached.passed)
        )
    return table
