"""A comparison of two sides, and the measurement of one metric on it: a grid, with nulls and intervals on request."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar, cast

import numpy as np

from consilience.contract.scores import GalleryPoint, NeighboursRecord, Reason
from consilience.metrics.sides import CacheKey, PreparedSide
from consilience.numerics.rows.arrays import Float64Array, IdArray
from consilience.numerics.rows.parallel import Executor
from consilience.numerics.stats.intervals import ConfidenceInterval, Replicates
from consilience.numerics.stats.nulls import ClosedFormNull, Permutation, draw_permutation

T = TypeVar("T")
#: A layer pair: index of the layer of a, index of the layer of b.
Cell = tuple[int, int]


@dataclass(frozen=True, slots=True)
class LayerRef:
    """A layer of a comparison: the name of its side, and its index there."""

    side: Literal["a", "b"]
    index: int


#: Called with a stage, the work done and the work in total.
Report = Callable[[str, int, int], None]
#: Returns the gallery-size curve of a cell, with intervals at a level.
Curve = Callable[[Cell, float], tuple[GalleryPoint, ...]]


@dataclass
class Comparison:
    """Two sides over the same n items, and the values that all metrics of one request share.

    Attributes
    ----------
    a, b : the two sides
    list_length : number of neighbours per row that the longest of the metrics' lists needs, its interval included
    seed : seed of everything random
    report : progress callback
    groups : group number of each item, None if there are no groups
    """

    a: PreparedSide
    b: PreparedSide
    list_length: int
    seed: int
    report: Report
    groups: IdArray | None = None
    _values: dict[CacheKey[object], object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A pair of a layer in memory and a streamed one would need a third form of every fit.
        if any(side.rows.is_streamed(index) for side in (self.a, self.b) for index in range(len(side.layers))):
            self.a.rows.max_bytes = self.b.rows.max_bytes = 0

    def memoize(self, key: CacheKey[T], compute: Callable[[], T]) -> T:
        """Return a value that several metrics derive from both sides, computed once."""
        place = cast("CacheKey[object]", key)
        if place not in self._values:
            self._values[place] = compute()
        return cast("T", self._values[place])

    @property
    def n(self) -> int:
        """Number of paired items."""
        return self.a.n

    @property
    def executor(self) -> Executor:
        """Executor of long computations."""
        return self.a.executor

    @property
    def shape(self) -> tuple[int, int]:
        """Number of layers of each side."""
        return len(self.a.layers), len(self.b.layers)

    def side(self, layer: LayerRef) -> PreparedSide:
        """Side of a layer."""
        return self.a if layer.side == "a" else self.b

    @property
    def layers(self) -> list[LayerRef]:
        """All layers, those of a first."""
        return [LayerRef("a", i) for i in range(self.shape[0])] + [LayerRef("b", j) for j in range(self.shape[1])]

    def is_streamed(self, cell: Cell) -> bool:
        """Return True if the rows of a layer pair are read in blocks."""
        return self.a.rows.is_streamed(cell[0]) and self.b.rows.is_streamed(cell[1])

    def permutations(self, draws: int) -> Iterator[Permutation]:
        """Yield permutations of b's items, the same for every metric and layer of the request."""
        rng = np.random.default_rng(self.seed)
        for _ in range(draws):
            yield draw_permutation(rng, self.n, self.groups)


@dataclass(frozen=True)
class Measurement:
    """One metric on one comparison.

    Attributes
    ----------
    grid : array of shape (L_A, L_B), float64
        Values of all layer pairs; NaN exactly for the cells in `reasons`.
    reasons : for each undefined cell, the reason
    null : closed-form null distribution of a cell; called only if the metric's `nulls` include `analytic` or the score is
        estimated; None if it needs the neighbours of all rows
    permuted : the grid with b's items permuted; NaN for the same cells as the grid
    interval : interval of a cell at a level, or the reason why there is none; for the population, or for the gallery if the
        score is estimated
    neighbours : record of the neighbour search
    queries : number of query rows of an estimated score; None if all rows are queries
    curve : score in smaller galleries, if it was requested
    replicates : score of a cell on parts of the rows that other scores of the same items use too
    warnings : warnings for the user
    """

    grid: Float64Array
    reasons: Mapping[Cell, Reason]
    null: Callable[[int, int], ClosedFormNull | None]
    permuted: Callable[[Permutation], Float64Array]
    interval: Callable[[int, int, float], ConfidenceInterval | Reason]
    neighbours: NeighboursRecord | None = None
    queries: int | None = None
    curve: Curve | None = None
    replicates: Callable[[int, int], Replicates | Reason] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def estimator(self) -> Literal["exact", "estimated", "approximate"]:
        """Kind of the value: exact only if every row is a query and no graph misses neighbours."""
        if self.queries is not None:
            return "estimated"
        measured = self.neighbours is not None and self.neighbours.recall_queries is not None
        return "approximate" if measured else "exact"


@dataclass(frozen=True)
class SelectedScore:
    """The value of a score, and its best layer pair."""

    value: float
    cell: Cell


def find_reasons(
    comparison: Comparison, layer_reason: Callable[[PreparedSide, int], Reason | None]
) -> dict[Cell, Reason]:
    """Find the reasons of undefined cells from the reasons of the layers of both sides."""
    reasons_a = [layer_reason(comparison.a, i) for i in range(len(comparison.a.layers))]
    reasons_b = [layer_reason(comparison.b, j) for j in range(len(comparison.b.layers))]
    return {
        (i, j): reason
        for i, of_a in enumerate(reasons_a)
        for j, of_b in enumerate(reasons_b)
        if (reason := of_a or of_b) is not None
    }
