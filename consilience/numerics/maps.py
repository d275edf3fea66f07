"""What a map from one space to another is made of: one or two affine steps, a GELU between them for some."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import erf

from consilience.errors import InvalidShape
from consilience.numerics.arrays import AnyArray, Float32Array, Float64Array, cached_rows, check_finite
from consilience.numerics.rows import scale_to_unit
from consilience.numerics.threads import map_rows, serial_products

#: Rows translated at a time.
BLOCK_ROWS = 4096
#: The same, where several threads translate: large, since each product packs the weights anew.
TRANSLATED_ROWS = 4096
#: Below and above, squares and products of single values stay well within float32.
_LENGTH_MAX = 2.0**60
#: Steps that a value's part in a product counts for, when threads are weighed.
_PRODUCT_STEPS = 32


@dataclass(frozen=True)
class Step:
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

    def step(self) -> Step:
        """In float32, the origin folded into the bias."""
        bias = self.target - self.origin @ self.weights
        return Step(np.ascontiguousarray(self.weights, np.float32), bias.astype(np.float32))


@dataclass(frozen=True)
class Transform:
    """Steps one after the other.

    Attributes
    ----------
    steps : one Step, or two
    gelu : whether what leaves the first step goes through a GELU, x Phi(x), before the second
    """

    steps: Sequence[Step]
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


def _multiply(rows: Float32Array, step: Step, out: Float32Array, scale: Float32Array | None) -> Float32Array:
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
