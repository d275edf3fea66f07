"""Sources of rows before preparation: layers in memory, selected rows, concatenated layers, and the pairing of two sides.

Stored layers follow the same protocols.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from consilience.errors import UnpairedSides
from consilience.limits import BLOCK_ROWS
from consilience.numerics.rows.arrays import AnyArray, IdArray, RowIndex
from consilience.numerics.rows.prepared import RawRows

Index = npt.NDArray[np.intp]


@dataclass(frozen=True)
class MatchedRows:
    """Matched rows of two sides.

    Attributes
    ----------
    a, b : arrays of shape (matched,)
        Row a[i] of one side and row b[i] of the other are the same item.
    dropped_a, dropped_b : int
        Number of rows whose id is not on the other side.
    """

    a: Index
    b: Index
    dropped_a: int
    dropped_b: int


def pair_by_id(a: Sequence[str], b: Sequence[str], *, repeats_a: bool = False, repeats_b: bool = False) -> MatchedRows:
    """Join two sides by their ids, in a's order; rows whose id is not on the other side are dropped and counted.

    Parameters
    ----------
    a, b : sequences of ids, one per row
    repeats_a, repeats_b : bool
        Whether an id may occur several times on that side, for example for one item with several captions. Each of these rows
        is paired with the item's one row on the other side.

    Raises
    ------
    UnpairedSides
        An id is repeated on a side that does not allow it, or on both sides; or no id is on both sides.

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
            f"The id {min(both)!r} is repeated on both sides, so that its rows cannot be paired.",
            value=min(both),
            hint="Make the ids of one side unique, for example one id per caption.",
        )
    rows_b: dict[str, list[int]] = {}
    for row, item in enumerate(b):
        rows_b.setdefault(item, []).append(row)
    pairs = [(row_a, row_b) for row_a, item in enumerate(a) for row_b in rows_b.get(item, ())]
    if not pairs:
        raise UnpairedSides(
            "The two sides have no id in common.",
            value=f"{a[0]!r} and {b[0]!r}",
            hint="Check that both sides use the same ids.",
        )
    known_a, known_b = set(a), set(b)
    index = np.array(pairs, dtype=np.intp)
    return MatchedRows(
        a=index[:, 0],
        b=index[:, 1],
        dropped_a=sum(item not in known_b for item in a),
        dropped_b=sum(item not in known_a for item in b),
    )


def _find_repeats(ids: Sequence[str], side: str, *, allowed: bool) -> set[str]:
    repeated = {item for item, count in Counter(ids).items() if count > 1}
    if repeated and not allowed:
        raise UnpairedSides(
            f"Side {side} repeats {len(repeated)} ids, for example {min(repeated)!r}.",
            value=min(repeated),
            hint="Make the ids unique, or pass `groups` if several rows (such as captions) belong to one item.",
        )
    return repeated


def number_groups(labels: Sequence[str]) -> IdArray:
    """Assign the numbers 0, 1, ... to group labels in the order of their first row; shape (n,), int32."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int32)


class RawLayer(RawRows, Protocol):
    """Layer with unprepared rows and a digest that identifies its content."""

    @property
    def digest(self) -> str:
        """Digest, equal for equal content."""


@dataclass(frozen=True)
class ArrayLayer:
    """Layer in memory."""

    name: str
    array: AnyArray

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.array)

    @property
    def dim(self) -> int:
        """Number of columns."""
        return int(self.array.shape[1])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the values."""
        return sha256(self.array.tobytes()).hexdigest()

    def rows(self, start: int, stop: int) -> AnyArray:
        """Return rows start to stop."""
        return self.array[start:stop]

    def take(self, ids: RowIndex) -> AnyArray:
        """Return the rows of some ids."""
        return self.array[ids]


@dataclass(frozen=True)
class SelectedLayer:
    """Selected rows of a layer, in any order."""

    layer: RawLayer
    index: npt.NDArray[np.intp]

    @property
    def name(self) -> str:
        """Name of the layer."""
        return self.layer.name

    @property
    def n(self) -> int:
        """Number of selected rows."""
        return len(self.index)

    @property
    def dim(self) -> int:
        """Number of columns."""
        return self.layer.dim

    @property
    def digest(self) -> str:
        """SHA-256 of the layer's digest and the selection."""
        return sha256(self.layer.digest.encode() + self.index.astype("<i8").tobytes()).hexdigest()

    def rows(self, start: int, stop: int) -> AnyArray:
        """Return selected rows start to stop, read at once if they are close together, else row by row."""
        wanted = self.index[start:stop]
        first, last = int(wanted.min()), int(wanted.max()) + 1
        if last - first <= 4 * len(wanted):
            return self.layer.rows(first, last)[wanted - first]
        return self.layer.take(wanted)

    def take(self, ids: RowIndex) -> AnyArray:
        """Return the selected rows of some ids."""
        return self.layer.take(self.index[ids])


@dataclass(frozen=True)
class ConcatLayer:
    """Concatenation of all layers of a model, each clamped by its own threshold: an extra candidate layer."""

    layers: Sequence[RawLayer]
    clamps: Sequence[float | None]
    name: str = "concat"

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.layers[0].n

    @property
    def dim(self) -> int:
        """Number of columns of all layers."""
        return sum(layer.dim for layer in self.layers)

    @property
    def digest(self) -> str:
        """SHA-256 of the layers' digests and thresholds."""
        parts = [f"{layer.digest} {clamp!r}" for layer, clamp in zip(self.layers, self.clamps, strict=True)]
        return sha256(" ".join(parts).encode()).hexdigest()

    def rows(self, start: int, stop: int) -> AnyArray:
        """Return rows start to stop of every layer, concatenated, as float32."""
        return self._join([layer.rows(start, stop) for layer in self.layers])

    def take(self, ids: RowIndex) -> AnyArray:
        """Return the rows of some ids of every layer, concatenated, as float32."""
        return self._join([layer.take(ids) for layer in self.layers])

    def _join(self, layers: Sequence[AnyArray]) -> AnyArray:
        blocks = [layer.astype(np.float32) for layer in layers]
        for block, clamp in zip(blocks, self.clamps, strict=True):
            if clamp is not None:
                np.clip(block, -clamp, clamp, out=block)
        return np.concatenate(blocks, axis=1)


def raw_blocks(layer: RawRows) -> Iterator[AnyArray]:
    """Yield all rows of a layer as they are stored, by blocks."""
    for start in range(0, layer.n, BLOCK_ROWS):
        yield layer.rows(start, min(start + BLOCK_ROWS, layer.n))


@dataclass(frozen=True)
class SideSource:
    """Input of one side: all layers of a model, under a name, from a store or from memory.

    Attributes
    ----------
    id : id of the stored embedding set, if any
    ids : item id of each row, if given
    groups : group label of each row (for example the image of a caption), if given
    persistent : whether many later requests will use it, as for a member of a reference set
    """

    name: str
    layers: Sequence[RawLayer]
    id: str | None = None
    ids: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    persistent: bool = False

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.layers[0].n

    def select(self, index: npt.NDArray[np.intp]) -> Self:
        """Return the same side with selected rows, in any order."""
        return replace(
            self,
            layers=[SelectedLayer(layer, index) for layer in self.layers],
            ids=None if self.ids is None else [self.ids[row] for row in index],
            groups=None if self.groups is None else [self.groups[row] for row in index],
        )
