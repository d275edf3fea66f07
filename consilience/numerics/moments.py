"""Centred second moments of a layer and of a pair of layers: sums over rows, found by blocks of rows.

Linear kernels need nothing else: with K = Xc Xc' the n x n matrix never exists, since tr(KL) = |Xc'Yc|^2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from consilience.numerics.arrays import BLOCK_ROWS, Float32Array, Float64Array, cached_rows
from consilience.numerics.permutations import Permutation
from consilience.numerics.rows import Rows, blocks

Dtype = np.dtype[np.floating[Any]]
FloatArray = npt.NDArray[np.floating[Any]]
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
#: Multiply-adds up to which products are made in float64: they cost nothing there.
EXACT_WORK = 1 << 27


def working_dtype(work: float) -> Dtype:
    """Float64 for small products; above, float32 within a block of rows and float64 over the blocks.

    Rows are stored as float32 and centred first, so that an entry of a block is off by about 1e-7 of the rows' lengths, at
    random: the sums over all entries that scores are made of keep 1e-6 and better.
    """
    return _FLOAT64 if work <= EXACT_WORK else _FLOAT32


@dataclass(frozen=True)
class Moments:
    """What linear metrics need to know of one layer. Small: rows are loaded when asked for.

    Attributes
    ----------
    load : callable
        Gives access to the prepared rows; they are not kept here, so that whoever caches them can let go of them.
    mean : array of shape (d,), float64
    norms : array of shape (n,), float64
        Squared length of each centred row: the diagonal of the centred kernel.
    """

    load: Callable[[], Rows]
    mean: Float64Array
    norms: Float64Array

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.norms)

    @property
    def dim(self) -> int:
        """Number of columns."""
        return len(self.mean)

    def centred(self, rows: slice | Permutation, dtype: Dtype = _FLOAT64) -> FloatArray:
        """Some rows, centred; a slice has a start and a stop."""
        source = self.load()
        if isinstance(rows, slice):
            return centre(source.read(rows.start, min(rows.stop, source.n)), self.mean, dtype)
        return centre(source.take(rows), self.mean, dtype)


def centre(x: Float32Array, mean: Float64Array, dtype: Dtype) -> FloatArray:
    """Subtract a mean row in the type asked for."""
    return np.asarray(np.subtract(x, mean.astype(dtype), dtype=dtype))


def find_moments(rows: Rows, load: Callable[[], Rows] | None = None) -> Moments:
    """Find mean and norms of a layer: O(n d), two passes.

    Rows are shifted by the first one before they are summed, so that a constant layer has norms of exactly 0.

    Parameters
    ----------
    load : callable, optional
        Where the rows can be had again; without it they are held.
    """
    origin = rows.read(0, 1)[0].astype(np.float64)
    total = np.zeros_like(origin)
    step = cached_rows(rows.dim)
    for _, block in blocks(rows):
        for start in range(0, len(block), step):
            total += (block[start : start + step] - origin).sum(axis=0)
    mean = origin + total / rows.n
    norms = np.empty(rows.n)
    for first, block in blocks(rows):
        for start in range(0, len(block), step):
            part = block[start : start + step] - mean
            norms[first + start : first + start + len(part)] = np.einsum("ij,ij->i", part, part)
    return Moments(load or (lambda: rows), mean, norms)


def find_cross(a: Moments, b: Moments, permutation: Permutation | None = None) -> Float64Array:
    """Xc'Yc of two layers over the same rows, with b's rows in another order where a permutation is given.

    O(n d_a d_b) time, O(d_a d_b + block d) memory; see `working_dtype` for the accuracy.

    Returns
    -------
    array of shape (d_a, d_b), float64
    """
    dtype = working_dtype(float(a.n) * a.dim * b.dim)
    cross = np.zeros((a.dim, b.dim))
    for start in range(0, a.n, BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        # Never one buffer on both sides: numpy would take another routine, whose last digits differ from a pair's.
        cross += a.centred(rows, dtype).T @ b.centred(rows if permutation is None else permutation[rows], dtype)
    return cross
