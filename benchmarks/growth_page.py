"""The growth of `scale` as a table and a log-log picture for docs: `python -m benchmarks.growth_page [out/benchmarks.json]`."""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

DOCS = Path("docs")
SIZES = (1_000, 10_000, 30_000, 100_000, 1_000_000)
BEGIN, END = "<!-- growth: begin -->\n", "<!-- growth: end -->\n"


def main(source: str = "out/benchmarks.json") -> None:
    """Write docs/growth.svg, and the table into docs/benchmarks.md."""
    growth = json.loads(Path(source).read_text())["scale"]["growth"]
    page = DOCS / "benchmarks.md"
    before, rest = page.read_text().split(BEGIN)
    page.write_text(before + BEGIN + table(growth) + END + rest.split(END)[1])
    draw(growth, DOCS / "growth.svg")


def table(growth: dict[str, Any]) -> str:
    """Processor seconds by n, peak memory at the largest n, and both exponents."""
    head = "| metric | " + " | ".join(f"{n:,}" for n in SIZES) + " | peak, largest n | exponent of time | of memory |\n"
    lines = [head, "|---" * (len(SIZES) + 4) + "|\n"]
    for name, found in growth.items():
        by_n = {point["n"]: point for point in found["points"]}
        seconds = " | ".join(f"{by_n[n]['cpu_s']:.3g}" if n in by_n else "-" for n in SIZES)
        peak = found["points"][-1]["peak_mb"]
        lines.append(
            f"| {name} | {seconds} | {peak} MB | {_say(found['exponent'])} | {_say(found['memory_exponent'])} |\n"
        )
    return "".join(lines)


def _say(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}"


def draw(growth: dict[str, Any], target: Path) -> None:
    """Both growths, log-log; one line a metric, estimated ones dashed."""
    mpl.rcParams.update({"svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 8})
    figure, axes = plt.subplots(1, 2, figsize=(11, 5.5), layout="constrained")
    for name, found in growth.items():
        points, style = found["points"], "--" if "queries" in name else "-"
        size = [point["n"] for point in points]
        for place, key in zip(axes, ("cpu_s", "peak_mb"), strict=True):
            place.loglog(size, [point[key] for point in points], style, marker=".", linewidth=1, label=name)
    for place, title in zip(axes, ("processor seconds", "peak resident memory, MB"), strict=True):
        place.set(xlabel="rows (d = 768, float16 on disk)", title=title)
        place.grid(visible=True, alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
