"""What a map from one space to another is made of: one or two affine steps, a GELU between them for some."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
from scipy.special import erf

from consilience.errors import InvalidShape
from consilience.numerics.rows.arrays import AnyArray, Float32Array, Float64Array, IdArray, cached_rows, check_finite
from consilience.numerics.rows.parallel import (
    HERE,
    Parts,
    block_rows,
    map_rows,
    read_ahead,
    serial_products,
    split_rows,
)
from consilience.numerics.rows.prepared import Rows, scale_to_unit
from consilience.numerics.subspaces.moments import FloatArray, Step

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


#: Rows translated at a time.
BLOCK_ROWS = 4096
#: The same, where several threads translate: large, since each product packs the weights anew.
TRANSLATED_ROWS = 4096
#: Below and above, squares and products of single values stay well within float32.
_LENGTH_MAX = 2.0**60
#: Steps that a value's part in a product counts for, when threads are weighed.
_PRODUCT_STEPS = 32


@dataclass(frozen=True)
class LinearStep:
    """y = x W + bias.

    Attributes
    ----------
    weights : array of shape (p, q), float32, C order
    bias : array of shape (q,), float32
    """

    weights: Float32Array
    bias: Float32Array


@dataclass(frozen=True)
class Affine:
    """y = (x - origin) W + target, in float64: what a fit on moments finds.

    Attributes
    ----------
    weights : array of shape (p, q)
    origin, target : arrays of shape (p,) and (q,)
    """

    weights: Float64Array
    origin: Float64Array
    target: Float64Array

    def step(self) -> LinearStep:
        """In float32, the origin folded into the bias."""
        bias = self.target - self.origin @ self.weights
        return LinearStep(np.ascontiguousarray(self.weights, np.float32), bias.astype(np.float32))


@dataclass(frozen=True)
class Transform:
    """Steps one after the other.

    Attributes
    ----------
    steps : one Step, or two
    gelu : whether what leaves the first step goes through a GELU, x Phi(x), before the second
    """

    steps: Sequence[LinearStep]
    gelu: bool = False

    @property
    def dims(self) -> tuple[int, int]:
        """Columns of what goes in and of what comes out."""
        return self.steps[0].weights.shape[0], self.steps[-1].weights.shape[1]

    def apply(
        self, rows: Float32Array, out: Float32Array | None = None, factors: Float32Array | None = None
    ) -> Float32Array:
        """Translate prepared rows: (m, p) to (m, q), float32.

        Parameters
        ----------
        out : where the translations go, if anywhere
        factors : array of shape (m, 1), by which each row is to be multiplied first
        """
        found = out if out is not None else np.empty((len(rows), self.dims[1]), np.float32)
        for start in range(0, len(rows), BLOCK_ROWS):
            some = slice(start, min(start + BLOCK_ROWS, len(rows)))
            block, scale = rows[some], None if factors is None else factors[some]
            for step in self.steps[:-1]:
                block = _multiply(block, step, np.empty((len(block), len(step.bias)), np.float32), scale)
                scale = None
                if self.gelu:
                    _bend(block)
            _multiply(block, self.steps[-1], found[some], scale)
        return found


def _multiply(rows: Float32Array, step: LinearStep, out: Float32Array, scale: Float32Array | None) -> Float32Array:
    np.matmul(rows, step.weights, out=out)
    size = cached_rows(out.shape[1])
    for start in range(0, len(out), size):
        part = out[start : start + size]
        if scale is not None:
            part *= scale[start : start + size]
        part += step.bias
    return out


def _bend(block: Float32Array) -> None:
    """GELU in place: x (1 + erf(x / sqrt 2)) / 2, as torch has it by default."""
    size = cached_rows(block.shape[1])
    for start in range(0, len(block), size):
        part = block[start : start + size]
        part *= (erf(part * np.float32(0.5**0.5)) + 1) * np.float32(0.5)


def translate(transform: Transform, raw: AnyArray, *, normalise: bool, first: int = 0) -> Float32Array:
    """Check, prepare and translate vectors as they come, several blocks at once.

    Parameters
    ----------
    raw : array of shape (m, p), of any float type, m >= 1
    normalise : whether rows are scaled to length 1 first
    first : the number of the first row, for errors

    Raises
    ------
    InvalidShape, NonFiniteValues
    """
    p, q = transform.dims
    if raw.ndim != 2 or raw.shape[1] != p:
        raise InvalidShape(
            f"The vectors have shape {raw.shape}, the map takes (n, {p}).",
            value=raw.shape,
            limit=p,
            hint="Translate vectors of the model that the map was fitted on, one a row.",
        )
    out = np.empty((len(raw), q), np.float32)

    def run(rows: slice) -> None:
        for start in range(rows.start, rows.stop, TRANSLATED_ROWS):
            some = slice(start, min(start + TRANSLATED_ROWS, rows.stop))
            prepared, factors = _prepare(raw[some], normalise=normalise, first=first + start)
            transform.apply(prepared, out[some], factors)

    with serial_products():
        map_rows(run, len(raw), (p + q) * _PRODUCT_STEPS)
    return out


def _prepare(block: AnyArray, *, normalise: bool, first: int) -> tuple[Float32Array, Float32Array | None]:
    """Rows in float32, and by what their products are to be multiplied: cheaper than a copy of the rows themselves."""
    if not normalise:
        check_finite(block, "The set of vectors", first)
        return np.ascontiguousarray(block, np.float32), None
    with np.errstate(over="ignore"):  # float64 that float32 cannot hold is refused below
        rows = np.ascontiguousarray(block, np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    if not np.isfinite(lengths).all():  # the squares of all float32 numbers have room in float64
        check_finite(block, "The set of vectors", first)
    lengths[lengths == 0] = 1
    if lengths.max() < _LENGTH_MAX and lengths.min() > 1 / _LENGTH_MAX:
        return rows, (1 / lengths).astype(np.float32)[:, None]
    rows = rows.copy()  # products of so long or short rows could leave float32
    scale_to_unit(rows)
    return rows, None
