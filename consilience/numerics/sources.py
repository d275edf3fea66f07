"""Where rows come from: layers in memory, selected rows, layers side by side. Stored layers look the same from here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from consilience.numerics.arrays import BLOCK_ROWS, AnyArray, RowIndex
from consilience.numerics.preparation import Matrix


class Layer(Matrix, Protocol):
    """Rows with an address: what they are, whoever stores them."""

    @property
    def digest(self) -> str:
        """Equal for equal content."""


@dataclass(frozen=True)
class ArrayLayer:
    """A layer in memory."""

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
        """SHA-256 of the numbers."""
        return sha256(self.array.tobytes()).hexdigest()

    def rows(self, start: int, stop: int) -> AnyArray:
        """Rows start to stop."""
        return self.array[start:stop]

    def take(self, ids: RowIndex) -> AnyArray:
        """The rows of some ids."""
        return self.array[ids]


@dataclass(frozen=True)
class SelectedLayer:
    """Some rows of a layer, in an order of their own."""

    layer: Layer
    index: npt.NDArray[np.intp]

    @property
    def name(self) -> str:
        """The layer's name."""
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
        """Of the layer and the selection."""
        return sha256(self.layer.digest.encode() + self.index.astype("<i8").tobytes()).hexdigest()

    def rows(self, start: int, stop: int) -> AnyArray:
        """Selected rows start to stop: read in one go where they lie close together, else row by row."""
        wanted = self.index[start:stop]
        first, last = int(wanted.min()), int(wanted.max()) + 1
        if last - first <= 4 * len(wanted):
            return self.layer.rows(first, last)[wanted - first]
        return self.layer.take(wanted)

    def take(self, ids: RowIndex) -> AnyArray:
        """The selected rows of some ids."""
        return self.layer.take(self.index[ids])


@dataclass(frozen=True)
class ConcatLayer:
    """All layers of a model side by side, each clamped by its own threshold: the article's extra candidate."""

    layers: Sequence[Layer]
    clamps: Sequence[float | None]
    name: str = "concat"

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.layers[0].n

    @property
    def dim(self) -> int:
        """Columns of all layers."""
        return sum(layer.dim for layer in self.layers)

    @property
    def digest(self) -> str:
        """Of its parts and their thresholds."""
        parts = [f"{layer.digest} {clamp!r}" for layer, clamp in zip(self.layers, self.clamps, strict=True)]
        return sha256(" ".join(parts).encode()).hexdigest()

    def rows(self, start: int, stop: int) -> AnyArray:
        """Rows start to stop of every layer, side by side, as float32."""
        return self._join([layer.rows(start, stop) for layer in self.layers])

    def take(self, ids: RowIndex) -> AnyArray:
        """The rows of some ids of every layer, side by side, as float32."""
        return self._join([layer.take(ids) for layer in self.layers])

    def _join(self, parts: Sequence[AnyArray]) -> AnyArray:
        blocks = [part.astype(np.float32) for part in parts]
        for block, clamp in zip(blocks, self.clamps, strict=True):
            if clamp is not None:
                np.clip(block, -clamp, clamp, out=block)
        return np.concatenate(blocks, axis=1)


def raw_blocks(layer: Matrix) -> Iterator[AnyArray]:
    """All rows of a layer as they are stored, by blocks."""
    for start in range(0, layer.n, BLOCK_ROWS):
        yield layer.rows(start, min(start + BLOCK_ROWS, layer.n))


@dataclass(frozen=True)
class Source:
    """One side as it comes in: all layers of a model, under a name, from a store or from memory.

    Attributes
    ----------
    id : the stored set's id, where it is one
    ids : what item each row is, where the caller said so
    groups : what items belong together (captions of one image, say), where the caller said so
    lasting : whether it will be asked for again and again, such as a member of a reference set
    """

    name: str
    layers: Sequence[Layer]
    id: str | None = None
    ids: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    lasting: bool = False

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.layers[0].n

    def select(self, index: npt.NDArray[np.intp]) -> Self:
        """The same side with some of its rows, in an order of their own."""
        return replace(
            self,
            layers=[SelectedLayer(layer, index) for layer in self.layers],
            ids=None if self.ids is None else [self.ids[row] for row in index],
            groups=None if self.groups is None else [self.groups[row] for row in index],
        )
