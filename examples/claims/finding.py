"""What a claim came to: a table, a picture and a sentence, written the same way for all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Cell = str | int | float | None


@dataclass(frozen=True)
class Finding:
    """The outcome of one claim.

    Attributes
    ----------
    name : its file, and how it is asked for
    title, claim : what the article says
    setup : what was done here
    columns, rows : the table
    verdict : whether it shows here, with the figures that say so
    draw : draws the picture
    """

    name: str
    title: str
    claim: str
    setup: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    verdict: str
    draw: Callable[[Axes], None]

    def write(self, folder: Path) -> None:
        """Leave `NAME.md` and `NAME.svg` in the folder."""
        mpl.rcParams.update({"svg.hashsalt": self.name, "svg.fonttype": "none", "font.size": 9})
        figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
        self.draw(axes)
        axes.grid(visible=True, alpha=0.3)
        figure.savefig(folder / f"{self.name}.svg", metadata={"Date": None})
        plt.close(figure)
        (folder / f"{self.name}.md").write_text(self.page())

    def page(self) -> str:
        """The page in Markdown."""
        lines = [_line(self.columns), "|---" * len(self.columns) + "|", *map(_line, self.rows)]
        parts = [
            f"# {self.title}",
            f"*{self.claim}*",
            self.setup,
            "\n".join(lines),
            f"![{self.title}]({self.name}.svg)",
        ]
        return "\n\n".join([*parts, f"**{self.verdict}**"]) + "\n"


def _line(cells: Sequence[Cell]) -> str:
    return "| " + " | ".join(map(say, cells)) + " |"


def say(value: Cell) -> str:
    """A number with three digits that count; a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def move(what: str, first: float, last: float) -> str:
    """`what` rises or falls, from where to where."""
    return f"{what} {'rises' if last > first else 'falls'} from {first:.3f} to {last:.3f}"
