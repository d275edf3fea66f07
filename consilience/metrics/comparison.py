"""A comparison of two sides: their pairing row by row, and the measurement of one metric on it.

The record of a pairing counts dropped, grouped and repeated rows. A measurement is a grid, with nulls and intervals on request.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar, cast

import numpy as np

from consilience.contract.scores import GalleryPoint, NeighboursRecord, Pairing, Reason
from consilience.errors import InvalidRequest, UnpairedSides
from consilience.metrics.graph_sources import LazyKey
from consilience.metrics.sides import CacheKey, PreparedSide
from consilience.numerics.rows.arrays import Float64Array, IdArray, count_duplicates
from consilience.numerics.rows.parallel import Executor
from consilience.numerics.rows.sources import RawLayer, SideSource, number_groups, pair_by_id, raw_blocks
from consilience.numerics.stats.intervals import ConfidenceInterval, Replicates
from consilience.numerics.stats.nulls import ClosedFormNull, Permutation, draw_permutation


@dataclass(frozen=True)
class PairedSides:
    """Two sides over the same items, row by row.

    Attributes
    ----------
    groups : group number of each row, None if every row is a group of its own
    """

    a: SideSource
    b: SideSource
    groups: IdArray | None
    record: Pairing

    def warnings(self) -> tuple[str, ...]:
        """Warnings about repeated rows."""
        counts = (("a", self.record.duplicates_a), ("b", self.record.duplicates_b))
        return tuple(
            f"{count} of {self.record.matched} rows of {side} equal an earlier row: their neighbours are tied, and ties are "
            "ordered by row number."
            for side, count in counts
            if count and self.groups is None
        )


@dataclass(frozen=True)
class DuplicatesKey:
    """Key of the number of rows of a layer that equal an earlier row."""

    digest: str

    @property
    def address(self) -> str:
        """Text of the key."""
        return f"duplicates of {self.digest}"


#: Returns a stored fact about a layer, or computes it: see `graph_sources.GraphSource.fact`.
Fact = Callable[[LazyKey, Callable[[], bytes]], bytes]


def pair(a: SideSource, b: SideSource, by: Literal["row", "id"], fact: Fact) -> PairedSides:
    """Pair two sides by row or by id; `fact` stores the number of rows that repeat an earlier one.

    Raises
    ------
    UnpairedSides, InvalidRequest
    """
    if by == "row":
        return _record(a, b, "row", fact, dropped=(0, 0))
    if a.ids is None or b.ids is None:
        side = "a" if a.ids is None else "b"
        raise InvalidRequest(
            f"Pairing by id needs ids on both sides, but {side} has none.",
            value="id",
            hint="Upload the side with `ids`, or pair by row.",
            pointer="/pairing",
        )
    pairs = pair_by_id(a.ids, b.ids, repeats_a=a.groups is not None, repeats_b=b.groups is not None)
    return _record(a.select(pairs.a), b.select(pairs.b), "id", fact, dropped=(pairs.dropped_a, pairs.dropped_b))


def _record(
    a: SideSource, b: SideSource, by: Literal["row", "id"], fact: Fact, *, dropped: tuple[int, int]
) -> PairedSides:
    groups = _find_groups(a, b)
    record = Pairing(
        by=by,
        matched=a.n,
        dropped_a=dropped[0],
        dropped_b=dropped[1],
        groups=None if groups is None else int(groups.max()) + 1,
        duplicates_a=_count_duplicates(a.layers[0], fact),
        duplicates_b=_count_duplicates(b.layers[0], fact),
    )
    return PairedSides(a, b, groups, record)


def _count_duplicates(layer: RawLayer, fact: Fact) -> int:
    return int(fact(lambda: DuplicatesKey(layer.digest), lambda: str(count_duplicates(raw_blocks(layer))).encode()))


def _find_groups(a: SideSource, b: SideSource) -> IdArray | None:
    """Take the groups of the side that has them; refuse two different groupings of the same items."""
    of_a, of_b = (None if side.groups is None else number_groups(side.groups) for side in (a, b))
    if of_a is not None and of_b is not None and not np.array_equal(of_a, of_b):
        row = int(np.flatnonzero(of_a != of_b)[0])
        raise UnpairedSides(
            f"The groups of a and b divide the items differently; the first difference is at row {row}.",
            value=f"row {row}",
            hint="Give groups on one side only, or the same groups on both.",
        )
    groups = of_a if of_a is not None else of_b
    return None if groups is None or int(groups.max()) + 1 == len(groups) else groups


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
