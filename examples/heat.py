"""A grid of layer pairs as a map: the figures, on colours from cold to warm."""

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from consilience.cli.output import MISSING, metric_label
from consilience.contract.scores import Score, SideSummary

#: Red, green, blue at the lowest and at the highest cell.
COLD = (24, 40, 72)
WARM = (214, 106, 40)
#: Layers of b that fit beside each other in 80 columns.
COLUMNS = 8
CELL_WIDTH = 7


def heat_map(score: Score, a: SideSummary, b: SideSummary) -> RenderableType:
    """Rows are the layers of a, columns those of b (the last that fit); the best pair is bold and underlined."""
    title = f"{metric_label(score.metric, score.options)}: {a.name} (down) and {b.name} (across)"
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, title=title, title_justify="left")
    table.add_column("", justify="right", overflow="fold")
    for name in b.layers[-COLUMNS:]:
        table.add_column(name, justify="right", overflow="fold", width=CELL_WIDTH)
    cells = [value for row in score.grid for value in row if value is not None]
    low, high = (min(cells), max(cells)) if cells else (0.0, 0.0)
    for name, row in zip(a.layers, score.grid, strict=True):
        pairs = list(zip(b.layers, row, strict=True))[-COLUMNS:]
        best = (score.layer_a, score.layer_b)
        table.add_row(f"{name} ", *(_cell(value, low, high, best=(name, column) == best) for column, value in pairs))
    return table


def _cell(value: float | None, low: float, high: float, *, best: bool) -> Text:
    if value is None:
        return Text(f" {MISSING:^6}")
    share = (value - low) / (high - low) if high > low else 1.0
    red, green, blue = (round(cold + share * (warm - cold)) for cold, warm in zip(COLD, WARM, strict=True))
    emphasis = "bold underline " if best else ""
    return Text(f" {value:6.3f}", f"{emphasis}white on rgb({red},{green},{blue})")
