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
        Gives the prepared rows, (n, d) float32; they are not kept here, so that whoever caches them can let go of them.
    mean : array of shape (d,), float64
    norms : array of shape (n,), float64
        Squared length of each centred row: the diagonal of the centred kernel.
    """

    load: Callable[[], Float32Array]
    mean: Float64Array
    norms: Float64Array

    @property
    def x(self) -> Float32Array:
        """The prepared rows (n, d)."""
        return self.load()

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.norms)

    @property
    def dim(self) -> int:
        """Number of columns."""
        return len(self.mean)

    def centred(self, rows: slice | Permutation, dtype: Dtype = _FLOAT64) -> FloatArray:
        """Some rows, centred."""
        return centre(self.x[rows], self.mean, dtype)


def centre(x: Float32Array, mean: Float64Array, dtype: Dtype) -> FloatArray:
    """Subtract a mean row in the type asked for."""
    return np.asarray(np.subtract(x, mean.astype(dtype), dtype=dtype))


def find_moments(x: Float32Array, load: Callable[[], Float32Array] | None = None) -> Moments:
    """Find mean and norms of a (n, d) layer: O(n d).

    Rows are shifted by the first one before they are summed, so that a constant layer has norms of exactly 0.

    Parameters
    ----------
    load : callable, optional
        Where the rows can be had again; without it they are held.
    """
    origin = x[0].astype(np.float64)
    total = np.zeros_like(origin)
    step = cached_rows(x.shape[1])
    for start in range(0, len(x), step):
        total += (x[start : start + step] - origin).sum(axis=0)
    mean = origin + total / len(x)
    norms = np.empty(len(x))
    for start in range(0, len(x), step):
        block = x[start : start + step] - mean
        norms[start : start + step] = np.einsum("ij,ij->i", block, block)
    return Moments(load or (lambda: x), mean, norms)


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
