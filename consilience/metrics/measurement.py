"""What a metric gives back, the same for all: a grid, and on request nulls and an interval of one cell."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from consilience.contract.scores import GalleryPoint, NeighboursRecord, Reason
from consilience.metrics.comparison import Comparison, Side
from consilience.numerics.rows.arrays import Float64Array
from consilience.numerics.stats.intervals import ConfidenceInterval, Replicates
from consilience.numerics.stats.nulls import ClosedFormNull, Permutation

#: The points of a gallery-size curve of a cell, their intervals at a level.
Curve = Callable[[tuple[int, int], float], tuple[GalleryPoint, ...]]


@dataclass(frozen=True)
class Measurement:
    """One metric on one comparison.

    Attributes
    ----------
    grid : array of shape (L_A, L_B), float64
        NaN exactly where `reasons` has an entry.
    reasons : why a cell is undefined, by cell
    law : the closed-form null law of a cell; called only where the metric's `nulls` name `analytic`, or some rows ask; None
        where it needs the lists of all rows
    permuted : the grid with b's items permuted; NaN where the grid is
    bounds : the interval of a cell (i, j) at a level, or the reason why there is none: that of the population, of the gallery
        where only some rows have asked
    asked : how many rows asked; None: all of them
    curve : the score in galleries of fewer rows, where it is asked for
    replicates : a cell's score on parts of the rows that other scores of the same items are had on too, where it can
    """

    grid: Float64Array
    reasons: Mapping[tuple[int, int], Reason]
    law: Callable[[int, int], ClosedFormNull | None]
    permuted: Callable[[Permutation], Float64Array]
    bounds: Callable[[int, int, float], ConfidenceInterval | Reason]
    neighbours: NeighboursRecord | None = None
    asked: int | None = None
    curve: Curve | None = None
    replicates: Callable[[int, int], Replicates | Reason] | None = None
    warnings: tuple[str, ...] = field(default=())

    @property
    def estimator(self) -> Literal["exact", "estimated", "approximate"]:
        """What the value may be called: exact only where every row asked and no graph misses neighbours."""
        if self.asked is not None:
            return "estimated"
        measured = self.neighbours is not None and self.neighbours.recall_queries is not None
        return "approximate" if measured else "exact"


@dataclass(frozen=True)
class Selected:
    """The value of a score, and the layer pair that is the best one."""

    value: float
    cell: tuple[int, int]


def find_reasons(
    comparison: Comparison, layer_reason: Callable[[Side, int], Reason | None]
) -> dict[tuple[int, int], Reason]:
    """Say which cells are undefined, from what is wrong with a layer of either side."""
    wrong_a = [layer_reason(comparison.a, i) for i in range(len(comparison.a.layers))]
    wrong_b = [layer_reason(comparison.b, j) for j in range(len(comparison.b.layers))]
    return {
        (i, j): reason
        for i, of_a in enumerate(wrong_a)
        for j, of_b in enumerate(wrong_b)
        if (reason := of_a or of_b) is not None
    }
