"""Layers that are read by blocks, for metrics of fitted directions: second moments and cross-products, each found once."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np

from consilience.numerics.ahead import read_ahead
from consilience.numerics.arrays import Float64Array
from consilience.numerics.dealt_moments import Sums
from consilience.numerics.moments import CentredRows, FloatArray, OwnMoments, Step, centre, find_moments
from consilience.numerics.parts import HERE, Parts
from consilience.numerics.permutations import Permutation

#: Bytes of cross-products that a layer remembers, so that several metrics share one pass.
CROSSES_BYTES = 64_000_000
_FLOAT64 = np.dtype(np.float64)


class Products(Protocol):
    """What a factor without scores needs of the rows behind it."""

    @property
    def mean(self) -> Float64Array:
        """The mean row (d,)."""

    @property
    def n(self) -> int:
        """Number of rows."""

    def cross(self, other: Self, permutation: Permutation | None = None) -> FloatArray:
        """Xc'Yc with the rows of another layer, paired."""


@dataclass
class StreamedLayer:
    """A layer whose rows are never all in memory."""

    rows: CentredRows
    parts: Parts = HERE
    _own: OwnMoments | None = None
    _crosses: dict[int, FloatArray] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.rows.n

    @property
    def mean(self) -> Float64Array:
        """The mean row."""
        return self.rows.mean

    @property
    def own(self) -> OwnMoments:
        """The layer's own moments."""
        if self._own is None:
            self._own = find_moments(self.rows, self.rows, own=(True, False), exact=True, parts=self.parts).a
        if self._own is None:
            raise AssertionError("they were asked for")
        return self._own

    def cross(self, other: "StreamedLayer", permutation: Permutation | None = None) -> FloatArray:
        """Xc'Yc: in one pass over both layers, together with what is not known yet of each of them."""
        if permutation is not None:
            return find_moments(
                self.rows, other.rows, own=(False, False), order=permutation, exact=True, parts=self.parts
            ).cross
        if id(other) not in self._crosses:
            if id(self) in other._crosses:  # noqa: SLF001 - of its own kind
                return other._crosses[id(self)].T  # noqa: SLF001 - the same
            self.meet(other)
        return self._crosses[id(other)]

    def meet(self, other: "StreamedLayer", step: Step | None = None) -> None:
        """Find the cross-product, unless it is known."""
        if id(other) in self._crosses:
            return
        unknown = self._own is None, other._own is None  # noqa: SLF001 - of its own kind
        found = find_moments(self.rows, other.rows, own=unknown, exact=True, parts=self.parts, step=step)
        self._own, other._own = found.a or self._own, found.b or other._own  # noqa: SLF001 - the same
        if (1 + len(self._crosses)) * found.cross.nbytes > CROSSES_BYTES:
            self._crosses.clear()
        self._crosses[id(other)] = found.cross

    def blocks(self, step: int) -> Iterator[tuple[slice, FloatArray]]:
        """All rows, centred, by blocks of so many."""
        source, mean = self.rows.load(), self.mean

        def read(start: int, stop: int) -> FloatArray:
            return centre(source.read(start, stop), mean, _FLOAT64)

        return read_ahead(read, slice(0, self.n), step)


@dataclass(frozen=True)
class SumsLayer:
    """One of the two layers that sums over some rows are of."""

    sums: Sums
    first: bool

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.sums.n

    @property
    def mean(self) -> Float64Array:
        """The mean row."""
        return self.sums.means[0 if self.first else 1]

    @property
    def square(self) -> FloatArray:
        """Xc'Xc."""
        centred = self.sums.about(self.sums.means)
        return centred.xx if self.first else centred.yy

    def cross(self, other: "SumsLayer", permutation: Permutation | None = None) -> FloatArray:
        """Xc'Yc with the other of the two layers."""
        if permutation is not None or other.sums is not self.sums or other.first == self.first:
            raise AssertionError("sums are of two layers whose rows are paired")
        product = self.sums.about(self.sums.means).xy
        return product if self.first else product.T
