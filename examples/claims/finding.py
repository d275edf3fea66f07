"""Result of a claim: a table, a figure and a sentence, in the same form for all claims."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Cell = str | int | float | None


@dataclass(frozen=True)
class Finding:
    """Result of one claim.

    Attributes
    ----------
    name : name of its file and on the command line
    title, claim : the claim of the article
    setup : description of the experiment
    columns, rows : table
    verdict : whether the claim holds here, with numbers
    draw : draws the figure
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
        """Write `NAME.md` and `NAME.svg` into the folder."""
        mpl.rcParams.update({"svg.hashsalt": self.name, "svg.fonttype": "none", "font.size": 9})
        figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
        self.draw(axes)
        axes.grid(visible=True, alpha=0.3)
        figure.savefig(folder / f"{self.name}.svg", metadata={"Date": None})
        plt.close(figure)
        (folder / f"{self.name}.md").write_text(self.page())

    def page(self) -> str:
        """Return the page as Markdown."""
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
    """Format a number with three significant digits; a dash if there is none."""
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def describe_change(what: str, first: float, last: float) -> str:
    """Say whether `what` rises or falls, with its first and last value."""
    return f"{what} {'rises' if last > first else 'falls'} from {first:.3f} to {last:.3f}"
