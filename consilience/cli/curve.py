"""Gallery-size curves on a terminal: a line for each gallery, with a bar."""

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from consilience.cli.numbers import ABSENT, figure, metric_label
from consilience.contract.scores import GalleryPoint, Score

#: Characters of the longest bar.
BAR_WIDTH = 30


def curve_table(score: Score) -> RenderableType:
    """One line a gallery: its rows, the score there, its interval where some rows alone asked, and a bar from 0."""
    points = score.gallery_curve or ()
    title = f"{metric_label(score.metric, score.options)} by gallery size"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for column in ("rows", "value", "interval"):
        table.add_column(column, justify="right")
    table.add_column("")
    longest = max((abs(point.value) for point in points), default=0.0)
    for point in points:
        table.add_row(str(point.n), Text(figure(point.value), "bold"), _interval(point), _bar(point.value, longest))
    return table


def _interval(point: GalleryPoint) -> str:
    return ABSENT if point.low == point.high else f"[{point.low:.3f}, {point.high:.3f}]"


def _bar(value: float, longest: float) -> Text:
    length = round(BAR_WIDTH * max(0.0, value) / longest) if longest > 0 else 0
    return Text("━" * length, "cyan")
