"""Sums over the training rows of a pair of layers, by folds, in one pass: all that linear maps are fitted on.

Rows held out are read with the others where they lie between them, and left out of every sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np

from consilience.numerics.ahead import read_ahead
from consilience.numerics.arrays import Float64Array, IdArray
from consilience.numerics.moments import FloatArray, Step
from consilience.numerics.parts import HERE, Parts, block_rows, split_rows
from consilience.numerics.rows import Rows

#: The fold of a row that is held out.
HELD_OUT = -1


@dataclass(frozen=True)
class MapSums:
    """Sums over some rows x of one layer and y of another, as distances from origins that are near their means.

    Attributes
    ----------
    n : number of rows
    origins : arrays of shape (p,) and (q,), float64
    x, y : arrays of shape (p,) and (q,), float64
    xx, xy : arrays of shape (p, p) and (p, q), float64
    yy : sum of the squared lengths of y
    """

    n: int
    origins: tuple[Float64Array, Float64Array]
    x: Float64Array
    y: Float64Array
    xx: Float64Array
    xy: Float64Array
    yy: float

    def __add__(self, other: Self) -> Self:
        names = ("n", "x", "y", "xx", "xy", "yy")
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def means(self) -> tuple[Float64Array, Float64Array]:
        """The mean rows."""
        return self.origins[0] + self.x / self.n, self.origins[1] + self.y / self.n

    def about(self, centres: tuple[Float64Array, Float64Array]) -> Self:
        """The same sums of distances from other rows."""
        d, e = centres[0] - self.origins[0], centres[1] - self.origins[1]
        return replace(
            self,
            origins=centres,
            x=self.x - self.n * d,
            y=self.y - self.n * e,
            xx=self.xx - _shift(self.x, d, self.x, d, self.n),
            xy=self.xy - _shift(self.x, d, self.y, e, self.n),
            yy=self.yy - 2 * float(self.y @ e) + self.n * float(e @ e),
        )


def _shift(x: Float64Array, d: Float64Array, y: Float64Array, e: Float64Array, n: int) -> Float64Array:
    """What sum x y' loses when d and e are subtracted from every row."""
    return np.outer(x, e) + np.outer(d, y) - n * np.outer(d, e)


def add(sums: Sequence[MapSums]) -> MapSums:
    """Add the sums of several folds."""
    total = sums[0]
    for more in sums[1:]:
        total += more
    return total


@dataclass(frozen=True)
class _Part:
    a: Rows
    b: Rows
    origins: tuple[Float64Array, Float64Array]
    count: int
    span: slice
    dealt: IdArray


def find_sums(a: Rows, b: Rows, dealt: IdArray, *, parts: Parts = HERE, step: Step | None = None) -> list[MapSums]:
    """Find the sums of every fold: O(n p (p + q)) time, O(folds p (p + q)) memory beside the blocks, products in float64.

    Parameters
    ----------
    a, b : access to the prepared rows, paired
    dealt : array of shape (n,), int32
        The fold of each row, counted from 0; `HELD_OUT` for a row that no sum may see.
    step : told the rows done and their number
    """
    origins = _find_origins(a, b, dealt)
    count = int(dealt.max()) + 1
    spans = split_rows(a.n, max(a.dim, b.dim))
    todo = [_Part(a, b, origins, count, span, dealt[span]) for span in spans]
    total: list[MapSums] | None = None
    for span, found in zip(spans, parts.map(_add_up, todo), strict=True):
        total = found if total is None else [before + more for before, more in zip(total, found, strict=True)]
        if step is not None:
            step(span.stop, a.n)
    return total or []


def _find_origins(a: Rows, b: Rows, dealt: IdArray) -> tuple[Float64Array, Float64Array]:
    """The means of the first training rows: rows held out leave no trace, not even in the last digits."""
    first = np.flatnonzero(dealt != HELD_OUT)[: block_rows(max(a.dim, b.dim))]
    return a.take(first).mean(axis=0, dtype=np.float64), b.take(first).mean(axis=0, dtype=np.float64)


def _add_up(part: _Part) -> list[MapSums]:
    p, q = part.a.dim, part.b.dim
    total = [
        MapSums(0, part.origins, np.zeros(p), np.zeros(q), np.zeros((p, p)), np.zeros((p, q)), 0.0)
        for _ in range(part.count)
    ]
    for block, (x, y) in read_ahead(partial(_read, part), part.span, block_rows(max(p, q))):
        dealt = part.dealt[block.start - part.span.start : block.stop - part.span.start]
        for fold in range(part.count):
            rows = np.flatnonzero(dealt == fold)
            total[fold] = _grow(total[fold], x[rows], y[rows])
    return total


def _grow(sums: MapSums, x: FloatArray, y: FloatArray) -> MapSums:
    """Add rows, the matrices in place."""
    for total, more in ((sums.x, x.sum(axis=0)), (sums.y, y.sum(axis=0)), (sums.xx, x.T @ x), (sums.xy, x.T @ y)):
        np.add(total, more, out=total)
    return replace(sums, n=sums.n + len(x), yy=sums.yy + float(np.vdot(y, y)))


def _read(part: _Part, start: int, stop: int) -> tuple[FloatArray, FloatArray]:
    return part.a.read(start, stop) - part.origins[0], part.b.read(start, stop) - part.origins[1]
