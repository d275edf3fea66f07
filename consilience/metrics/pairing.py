"""Pairing of two sides row by row, with a record of dropped, grouped and repeated rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from consilience.contract.scores import Pairing
from consilience.errors import InvalidRequest, UnpairedSides
from consilience.metrics.graph_sources import LazyKey
from consilience.numerics.rows.arrays import IdArray, count_duplicates
from consilience.numerics.rows.sources import RawLayer, SideSource, number_groups, pair_by_id, raw_blocks


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
