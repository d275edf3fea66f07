"""Second moments of parts of the rows of a pair of layers, all parts in one pass: what fits on some rows and scores others.

A fit on all parts but one needs the sum over these parts, and its score on the part left out needs that part's: no row is
looked at again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np

from consilience.numerics.ahead import read_ahead
from consilience.numerics.arrays import Float64Array, IdArray
from consilience.numerics.moments import CentredRows, FloatArray, Step, centre
from consilience.numerics.parts import HERE, Parts, block_rows, split_rows
from consilience.numerics.permutations import Permutation
from consilience.numerics.rows import Rows

_FLOAT64 = np.dtype(np.float64)


@dataclass(frozen=True)
class Sums:
    """Sums over some rows x of one layer and y of another, as distances from origins that are near their means.

    Attributes
    ----------
    n : number of rows
    origins : arrays of shape (p,) and (q,), float64
    x, y : arrays of shape (p,) and (q,), float64
    xx, yy, xy : arrays of shape (p, p), (q, q) and (p, q), float64
    """

    n: int
    origins: tuple[Float64Array, Float64Array]
    x: Float64Array
    y: Float64Array
    xx: Float64Array
    yy: Float64Array
    xy: Float64Array

    def __add__(self, other: Self) -> Self:
        added = (getattr(self, name) + getattr(other, name) for name in ("n", "x", "y", "xx", "yy", "xy"))
        return replace(self, **dict(zip(("n", "x", "y", "xx", "yy", "xy"), added, strict=True)))

    @property
    def means(self) -> tuple[Float64Array, Float64Array]:
        """The mean rows."""
        return self.origins[0] + self.x / self.n, self.origins[1] + self.y / self.n

    def about(self, centres: tuple[Float64Array, Float64Array]) -> "Self":
        """The same sums of distances from other rows."""
        d, e = centres[0] - self.origins[0], centres[1] - self.origins[1]
        return replace(
            self,
            origins=centres,
            x=self.x - self.n * d,
            y=self.y - self.n * e,
            xx=self.xx - _shift(self.x, d, self.x, d, self.n),
            yy=self.yy - _shift(self.y, e, self.y, e, self.n),
            xy=self.xy - _shift(self.x, d, self.y, e, self.n),
        )

    def swapped(self) -> Self:
        """The sums of the same pair of layers, the other one first."""
        return replace(self, origins=self.origins[::-1], x=self.y, y=self.x, xx=self.yy, yy=self.xx, xy=self.xy.T)


def _shift(x: Float64Array, d: Float64Array, y: Float64Array, e: Float64Array, n: int) -> Float64Array:
    """What sum x y' loses when d and e are subtracted from every row."""
    return np.outer(x, e) + np.outer(d, y) - n * np.outer(d, e)


@dataclass(frozen=True)
class _Part:
    a: Rows
    b: Rows
    means: tuple[Float64Array, Float64Array]
    count: int
    span: slice
    dealt: IdArray
    order: Permutation | None


def find_dealt(
    a: CentredRows,
    b: CentredRows,
    dealt: IdArray,
    *,
    order: Permutation | None = None,
    parts: Parts = HERE,
    step: Step | None = None,
) -> list[Sums]:
    """Find the sums of every part that rows have been dealt to: O(n (p + q)^2), one pass in float64.

    Parameters
    ----------
    dealt : array of shape (n,), int32
        The part of each row, counted from 0.
    order : array of n row numbers, optional
        Pairs row i of a with row order[i] of b.
    step : told the rows done and their number
    """
    count = int(dealt.max()) + 1
    todo = [
        _Part(a.load(), b.load(), (a.mean, b.mean), count, span, dealt[span], None if order is None else order[span])
        for span in split_rows(a.n, max(a.dim, b.dim))
    ]
    total = [_nothing((a.mean, b.mean)) for _ in range(count)]
    for part, found in zip(todo, parts.map(_add_up, todo), strict=True):
        total = [before + more for before, more in zip(total, found, strict=True)]
        if step is not None:
            step(part.span.stop, a.n)
    return total


def sum_rows(x: Float64Array, y: Float64Array) -> Sums:
    """The sums of rows that are in memory, as distances from 0."""
    found = _nothing((np.zeros(x.shape[1]), np.zeros(y.shape[1])))
    _add(found, x, y)
    return replace(found, n=len(x))


def project(sums: Sums, a: tuple[Float64Array, Float64Array], b: tuple[Float64Array, Float64Array]) -> Sums:
    """The sums of the rows (x - mean) @ mapping and (y - mean) @ mapping, with a mean and a mapping for each layer."""
    moved = sums.about((a[0], b[0]))
    m, k = a[1], b[1]
    origins = np.zeros(m.shape[1]), np.zeros(k.shape[1])
    return Sums(sums.n, origins, moved.x @ m, moved.y @ k, m.T @ moved.xx @ m, k.T @ moved.yy @ k, m.T @ moved.xy @ k)


def add(sums: Sequence[Sums]) -> Sums:
    """Add the sums of several parts."""
    total = sums[0]
    for more in sums[1:]:
        total += more
    return total


def _nothing(origins: tuple[Float64Array, Float64Array]) -> Sums:
    p, q = (len(origin) for origin in origins)
    return Sums(0, origins, np.zeros(p), np.zeros(q), np.zeros((p, p)), np.zeros((q, q)), np.zeros((p, q)))


def _add_up(part: _Part) -> list[Sums]:
    total = [_nothing(part.means) for _ in range(part.count)]
    for block, (x, y) in read_ahead(partial(_read, part), part.span, block_rows(max(part.a.dim, part.b.dim))):
        dealt = part.dealt[block.start - part.span.start : block.stop - part.span.start]
        by_part = np.argsort(dealt, kind="stable")
        edges = np.searchsorted(dealt[by_part], np.arange(part.count + 1))
        for place in range(part.count):
            rows = by_part[edges[place] : edges[place + 1]]
            _add(total[place], x[rows], y[rows])
            total[place] = replace(total[place], n=total[place].n + len(rows))
    return total


def _add(sums: Sums, x: FloatArray, y: FloatArray) -> None:
    """Add rows to sums in place, all but their number."""
    for total, more in (
        (sums.x, x.sum(axis=0)),
        (sums.y, y.sum(axis=0)),
        (sums.xx, x.T @ x),
        (sums.yy, y.T @ y),
        (sums.xy, x.T @ y),
    ):
        np.add(total, more, out=total)


def _read(part: _Part, start: int, stop: int) -> tuple[FloatArray, FloatArray]:
    x = part.a.read(start, stop)
    if part.order is None:
        y = part.b.read(start, stop)
    else:
        y = part.b.take(part.order[start - part.span.start : stop - part.span.start])
    return centre(x, part.means[0], _FLOAT64), centre(y, part.means[1], _FLOAT64)
