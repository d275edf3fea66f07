"""A bar chart with intervals as SVG, without a style or a script of its own."""

from collections.abc import Sequence
from html import escape

from consilience.contract.maps import MeanShare
from consilience.contract.upgrade_reports import Span

ROW, LEFT, WIDTH, RIGHT = 30, 300, 360, 60


def draw_bars(title: str, bars: Sequence[tuple[str, MeanShare | Span]], bar: float | None = None) -> str:
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


def _draw(top: int, label: str, found: MeanShare | Span) -> list[str]:
    middle = top + 10
    low, high = _place(found.low), _place(found.high)
    return [
        f'<text x="{LEFT - 10}" y="{middle + 4}" text-anchor="end">{escape(label)}</text>',
        f'<rect class="bar" x="{LEFT}" y="{top}" width="{_place(found.value) - LEFT:.1f}" height="20"/>',
        f'<line class="interval" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>',
        f'<text x="{max(high, _place(found.value)) + 8:.1f}" y="{middle + 4}">{found.value:.3f}</text>',
    ]


def _draw_scale(height: int, bar: float | None) -> list[str]:
    ticks = [
        f'<text class="tick" x="{_place(share):.1f}" y="{height - 4}" text-anchor="middle">{share:g}</text>'
        for share in (0, 0.5, 1)
    ]
    if bar is None:
        return ticks
    x = f"{_place(bar):.1f}"
    return [*ticks, f'<line class="threshold" x1="{x}" x2="{x}" y1="0" y2="{height - 20}"/>']


def _place(share: float) -> float:
    return LEFT + WIDTH * min(1.0, max(0.0, share))
