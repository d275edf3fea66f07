"""Which row of one side belongs to which row of the other."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consilience.errors import UnpairedSides
from consilience.numerics.arrays import IdArray

Index = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Pairs:
    """Matched rows.

    Attributes
    ----------
    a, b : arrays of shape (matched,)
        Row a[i] of one side is the same item as row b[i] of the other.
    dropped_a, dropped_b : int
        Rows whose id the other side does not have.
    """

    a: Index
    b: Index
    dropped_a: int
    dropped_b: int


def pair_by_id(a: Sequence[str], b: Sequence[str], *, repeats_a: bool = False, repeats_b: bool = False) -> Pairs:
    """Join two sides by their ids, in a's order: rows whose id the other side lacks are dropped and counted.

    Parameters
    ----------
    a, b : sequences of ids, one a row
    repeats_a, repeats_b : bool
        Whether an id may come more than once on that side: one item with several captions, say. Each of its rows is then
        paired with the item's one row on the other side.

    Raises
    ------
    UnpairedSides
        An id comes more than once where it must not, or on both sides; or no id is on both sides.

    Examples
    --------
    >>> pairs = pair_by_id(["x", "y", "z"], ["z", "x", "w"])
    >>> pairs.a.tolist(), pairs.b.tolist(), pairs.dropped_a, pairs.dropped_b
    ([0, 2], [1, 0], 1, 1)
    """
    repeated_a = _find_repeats(a, "a", allowed=repeats_a)
    repeated_b = _find_repeats(b, "b", allowed=repeats_b)
    if both := repeated_a & repeated_b:
        raise UnpairedSides(
            f"The id {min(both)!r} comes more than once on both sides: which row belongs to which is not said.",
            value=min(both),
            hint="Give every caption an id of its own on one side.",
        )
    rows_b: dict[str, list[int]] = {}
    for row, item in enumerate(b):
        rows_b.setdefault(item, []).append(row)
    pairs = [(row_a, row_b) for row_a, item in enumerate(a) for row_b in rows_b.get(item, ())]
    if not pairs:
        raise UnpairedSides(
            "No id is on both sides.", value=f"{a[0]!r} and {b[0]!r}", hint="Check that both sides use the same ids."
        )
    known_a, known_b = set(a), set(b)
    index = np.array(pairs, dtype=np.intp)
    return Pairs(
        a=index[:, 0],
        b=index[:, 1],
        dropped_a=sum(item not in known_b for item in a),
        dropped_b=sum(item not in known_a for item in b),
    )


def _find_repeats(ids: Sequence[str], side: str, *, allowed: bool) -> set[str]:
    repeated = {item for item, count in Counter(ids).items() if count > 1}
    if repeated and not allowed:
        raise UnpairedSides(
            f"{len(repeated)} ids of {side} come more than once, {min(repeated)!r} for one.",
            value=min(repeated),
            hint="Ids must be unique, unless `groups` says which rows are one item with several captions.",
        )
    return repeated


def number_groups(labels: Sequence[str]) -> IdArray:
    """Number group labels 0, 1, ... in the order of their first row; shape (n,), int32."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int32)
