"""Maps from one space to another: sums over rows to fit them from, and transforms of one or two affine steps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
from scipy.special import erf

from consilience.errors import InvalidShape
from consilience.numerics.rows.arrays import AnyArray, Float32Array, Float64Array, IdArray, cached_rows, check_finite
from consilience.numerics.rows.parallel import (
    LOCAL_EXECUTOR,
    Executor,
    block_rows,
    map_rows,
    prefetch_blocks,
    serial_products,
    split_rows,
)
from consilience.numerics.rows.prepared import Rows, scale_to_unit
from consilience.numerics.subspaces.moments import FloatArray, RowProgress

#: Fold number of a held-out row.
HELD_OUT = -1


@dataclass(frozen=True)
class MapSums:
    """Sums of x, y and their products over some paired rows of two layers, relative to origins near the mean rows.

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
        """Mean rows of both layers."""
        return self.origins[0] + self.x / self.n, self.origins[1] + self.y / self.n

    def about(self, centres: tuple[Float64Array, Float64Array]) -> Self:
        """Return the same sums relative to other origins."""
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
    """Return what sum x y' loses when d and e are subtracted from every row."""
    return np.outer(x, e) + np.outer(d, y) - n * np.outer(d, e)


def add_sums(sums: Sequence[MapSums]) -> MapSums:
    """Add the sums of several folds."""
    total = sums[0]
    for more in sums[1:]:
        total += more
    return total


@dataclass(frozen=True)
class _Task:
    a: Rows
    b: Rows
    origins: tuple[Float64Array, Float64Array]
    count: int
    span: slice
    folds: IdArray


def find_fold_sums(
    a: Rows, b: Rows, folds: IdArray, *, executor: Executor = LOCAL_EXECUTOR, progress: RowProgress | None = None
) -> list[MapSums]:
    """Compute the sums of every fold: O(n p (p + q)) time, O(folds p (p + q)) memory beside the blocks, in float64.

    Parameters
    ----------
    a, b : access to the prepared rows, paired
    folds : array of shape (n,), int32
        The fold of each row, counted from 0; `HELD_OUT` for a row that no sum includes.
    progress : callable, optional
        Called with the number of rows done and the total.
    """
    origins = _find_origins(a, b, folds)
    count = int(folds.max()) + 1
    spans = split_rows(a.n, max(a.dim, b.dim))
    todo = [_Task(a, b, origins, count, span, folds[span]) for span in spans]
    total: list[MapSums] | None = None
    for span, found in zip(spans, executor.map(_add_up, todo), strict=True):
        total = found if total is None else [before + more for before, more in zip(total, found, strict=True)]
        if progress is not None:
            progress(span.stop, a.n)
    return total or []


def _find_origins(a: Rows, b: Rows, folds: IdArray) -> tuple[Float64Array, Float64Array]:
    """Return the means of the first training rows, so that held-out rows do not influence even the last digits."""
    first = np.flatnonzero(folds != HELD_OUT)[: block_rows(max(a.dim, b.dim))]
    return a.take(first).mean(axis=0, dtype=np.float64), b.take(first).mean(axis=0, dtype=np.float64)


def _add_up(task: _Task) -> list[MapSums]:
    p, q = task.a.dim, task.b.dim
    total = [
        MapSums(0, task.origins, np.zeros(p), np.zeros(q), np.zeros((p, p)), np.zeros((p, q)), 0.0)
        for _ in range(task.count)
    ]
    for block, (x, y) in prefetch_blocks(partial(_read, task), task.span, block_rows(max(p, q))):
        folds = task.folds[block.start - task.span.start : block.stop - task.span.start]
        for fold in range(task.count):
            rows = np.flatnonzero(folds == fold)
            total[fold] = _grow(total[fold], x[rows], y[rows])
    return total


def _grow(sums: MapSums, x: FloatArray, y: FloatArray) -> MapSums:
    """Add rows to the sums, with the matrices updated in place."""
    for total, more in ((sums.x, x.sum(axis=0)), (sums.y, y.sum(axis=0)), (sums.xx, x.T @ x), (sums.xy, x.T @ y)):
        np.add(total, more, out=total)
    return replace(sums, n=sums.n + len(x), yy=sums.yy + float(np.vdot(y, y)))


def _read(task: _Task, start: int, stop: int) -> tuple[FloatArray, FloatArray]:
    return task.a.read(start, stop) - task.origins[0], task.b.read(start, stop) - task.origins[1]


#: Number of rows mapped at a time.
BLOCK_ROWS = 4096
#: The same for each of several threads: large, since each product packs the weights again.
THREAD_ROWS = 4096
#: Lengths from 1 / this to this keep squares and products of single values well within float32.
_LENGTH_MAX = 2.0**60
#: Cost of a value in a product, in steps, for the choice of the number of threads.
_PRODUCT_STEPS = 32


@dataclass(frozen=True)
class LinearStep:
    """Linear step y = x W + bias.

    Attributes
    ----------
    weights : array of shape (p, q), float32, C order
    bias : array of shape (q,), float32
    """

    weights: Float32Array
    bias: Float32Array


@dataclass(frozen=True)
class Affine:
    """Affine map y = (x - origin) W + target in float64, the result of a fit.

    Attributes
    ----------
    weights : array of shape (p, q)
    origin, target : arrays of shape (p,) and (q,)
    """

    weights: Float64Array
    origin: Float64Array
    target: Float64Array

    def step(self) -> LinearStep:
        """Convert to a float32 step, with the origin folded into the bias."""
        bias = self.target - self.origin @ self.weights
        return LinearStep(np.ascontiguousarray(self.weights, np.float32), bias.astype(np.float32))


@dataclass(frozen=True)
class Transform:
    """Map as a sequence of linear steps.

    Attributes
    ----------
    steps : one or two LinearSteps
    gelu : whether a GELU, x Phi(x), is applied between the two steps
    """

    steps: Sequence[LinearStep]
    gelu: bool = False

    @property
    def dims(self) -> tuple[int, int]:
        """Number of input columns and of output columns."""
        return self.steps[0].weights.shape[0], self.steps[-1].weights.shape[1]

    def apply(
        self, rows: Float32Array, out: Float32Array | None = None, factors: Float32Array | None = None
    ) -> Float32Array:
        """Map prepared rows: (m, p) to (m, q), float32.

        Parameters
        ----------
        out : array of shape (m, q), optional
            Receives the result.
        factors : array of shape (m, 1), optional
            Factor of each row, applied before the map.
        """
        found = out if out is not None else np.empty((len(rows), self.dims[1]), np.float32)
        for start in range(0, len(rows), BLOCK_ROWS):
            some = slice(start, min(start + BLOCK_ROWS, len(rows)))
            block, scale = rows[some], None if factors is None else factors[some]
            for step in self.steps[:-1]:
                block = _multiply(block, step, np.empty((len(block), len(step.bias)), np.float32), scale)
                scale = None
                if self.gelu:
                    _apply_gelu(block)
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


def _apply_gelu(block: Float32Array) -> None:
    """Apply GELU in place: x (1 + erf(x / sqrt 2)) / 2, torch's default."""
    size = cached_rows(block.shape[1])
    for start in range(0, len(block), size):
        part = block[start : start + size]
        part *= (erf(part * np.float32(0.5**0.5)) + 1) * np.float32(0.5)


def translate(transform: Transform, raw: AnyArray, *, normalise: bool, first: int = 0) -> Float32Array:
    """Check, prepare and map unprepared vectors, several blocks in parallel.

    Parameters
    ----------
    raw : array of shape (m, p), of any float type, m >= 1
    normalise : whether rows are scaled to length 1 first
    first : number of the first row, for error messages

    Raises
    ------
    InvalidShape, NonFiniteValues
    """
    p, q = transform.dims
    if raw.ndim != 2 or raw.shape[1] != p:
        raise InvalidShape(
            f"The vectors have shape {raw.shape}; the map takes (n, {p}).",
            value=raw.shape,
            limit=p,
            hint="Pass vectors of the model that the map was fitted on, one per row.",
        )
    out = np.empty((len(raw), q), np.float32)

    def run(rows: slice) -> None:
        for start in range(rows.start, rows.stop, THREAD_ROWS):
            some = slice(start, min(start + THREAD_ROWS, rows.stop))
            prepared, factors = _prepare(raw[some], normalise=normalise, first=first + start)
            transform.apply(prepared, out[some], factors)

    with serial_products():
        map_rows(run, len(raw), (p + q) * _PRODUCT_STEPS)
    return out


def _prepare(block: AnyArray, *, normalise: bool, first: int) -> tuple[Float32Array, Float32Array | None]:
    """Return rows in float32 and the factors of their products: cheaper than a scaled copy of the rows."""
    if not normalise:
        check_finite(block, "The set of vectors", first)
        return np.ascontiguousarray(block, np.float32), None
    with np.errstate(over="ignore"):  # values too large for float32 raise an error below
        rows = np.ascontiguousarray(block, np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    if not np.isfinite(lengths).all():  # float64 holds the squares of all float32 numbers
        check_finite(block, "The set of vectors", first)
    lengths[lengths == 0] = 1
    if lengths.max() < _LENGTH_MAX and lengths.min() > 1 / _LENGTH_MAX:
        return rows, (1 / lengths).astype(np.float32)[:, None]
    rows = rows.copy()  # products of rows this long or short could leave float32's range
    scale_to_unit(rows)
    return rows, None
