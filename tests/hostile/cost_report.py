"""Costs of the attacks, for the table at the end of the run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

WORST = 8


class LineWriter(Protocol):
    """A target that lines are written to."""

    def write_line(self, line: str) -> None:
        """Write a line."""


@dataclass(frozen=True)
class AttackCost:
    """Cost of an attack; status 0 means that the server closed the connection."""

    name: str
    seconds: float
    processor_s: float
    """Processor time of the server and its child processes."""
    growth_bytes: int
    status: int


ORDERS: dict[str, Callable[[AttackCost], float]] = {
    "slowest": lambda case: case.seconds,
    "most work": lambda case: case.processor_s,
    "largest": lambda case: case.growth_bytes,
}


@dataclass
class CostReport:
    """Costs of all attacks of a run."""

    cases: list[AttackCost] = field(default_factory=list)

    def add(self, case: AttackCost) -> None:
        """Add the cost of an attack."""
        self.cases.append(case)

    def write(self, page: LineWriter) -> None:
        """Write the number of attacks, their outcomes, and the most expensive ones by time and memory."""
        closed = sum(case.status == 0 for case in self.cases)
        page.write_line(f"{len(self.cases)} hostile inputs: {len(self.cases) - closed} answered 4xx, {closed} closed")
        for title, key in ORDERS.items():
            page.write_line(f"{title}:")
            for case in sorted(self.cases, key=key, reverse=True)[:WORST]:
                megabytes = case.growth_bytes / 1024**2
                figures = f"{case.seconds:6.2f} s {case.processor_s:6.2f} s of work {megabytes:6.1f} MB"
                page.write_line(f"  {figures}  {case.status or 'closed':>6}  {case.name}")
