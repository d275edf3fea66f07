"""What each hostile thing cost, for the table at the end of the run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

WORST = 8


class LineWriter(Protocol):
    """Where a line can be written."""

    def write_line(self, line: str) -> None:
        """One line."""


@dataclass(frozen=True)
class AttackCost:
    """One attack; status 0 is a connection that the server closed."""

    name: str
    seconds: float
    processor_s: float
    """Of the server and of what it started: what is left of `seconds` on an idle machine."""
    growth_bytes: int
    status: int


ORDERS: dict[str, Callable[[AttackCost], float]] = {
    "slowest": lambda case: case.seconds,
    "most work": lambda case: case.processor_s,
    "largest": lambda case: case.growth_bytes,
}


@dataclass
class CostReport:
    """All attacks of a run."""

    cases: list[AttackCost] = field(default_factory=list)

    def add(self, case: AttackCost) -> None:
        """Keep it."""
        self.cases.append(case)

    def write(self, page: LineWriter) -> None:
        """How many there were, how they ended, and the worst by time and by memory."""
        closed = sum(case.status == 0 for case in self.cases)
        page.write_line(f"{len(self.cases)} hostile inputs: {len(self.cases) - closed} answered 4xx, {closed} closed")
        for title, key in ORDERS.items():
            page.write_line(f"{title}:")
            for case in sorted(self.cases, key=key, reverse=True)[:WORST]:
                megabytes = case.growth_bytes / 1024**2
                figures = f"{case.seconds:6.2f} s {case.processor_s:6.2f} s of work {megabytes:6.1f} MB"
                page.write_line(f"  {figures}  {case.status or 'closed':>6}  {case.name}")
