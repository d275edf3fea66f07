"""Centred second moments of a layer and of a pair of layers: sums over rows, computed in one pass over blocks of rows.

Linear kernels need nothing else: with K = Xc Xc' the n x n matrix never exists, since tr(KL) = |Xc'Yc|^2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from consilience.limits import EXACT_WORK
from consilience.numerics.rows.arrays import Float32Array, Float64Array, IdArray, cached_rows
from consilience.numerics.rows.parallel import LOCAL_EXECUTOR, Executor, block_rows, prefetch_blocks, split_rows
from consilience.numerics.rows.prepared import Rows, find_row_statistics
from consilience.numerics.stats.nulls import Permutation

Dtype = np.dtype[np.floating[Any]]
FloatArray = npt.NDArray[np.floating[Any]]
#: Called with the number of rows done and the total number of rows.
RowProgress = Callable[[int, int], None]
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def working_dtype(work: float) -> Dtype:
    """Return the type of a product: float64 for small ones; else float32 within a block of rows, float64 over the blocks.

    Rows are stored as float32 and centred first, so that an entry of a block has a random error of about 1e-7 of the rows'
    lengths. Scores are sums over all entries and keep a relative accuracy of 1e-6 or better.
    """
    return _FLOAT64 if work <= EXACT_WORK else _FLOAT32


@dataclass(frozen=True)
class CentredRows:
    """Access to the prepared rows of a layer, and their mean. Rows are loaded only when they are read.

    Attributes
    ----------
    load : callable
        Returns access to the prepared rows. They are not stored here, so that a cache can release them.
    n : int
        Number of rows.
    mean : array of shape (d,), float64
    """

    load: Callable[[], Rows]
    n: int
    mean: Float64Array

    @property
    def dim(self) -> int:
        """Number of columns."""
        return len(self.mean)

    def take(self, ids: Permutation, dtype: Dtype = _FLOAT64) -> FloatArray:
        """Return the centred rows of some ids."""
        return centre(self.load().take(ids), self.mean, dtype)


def centre(x: Float32Array, mean: Float64Array, dtype: Dtype) -> FloatArray:
    """Subtract a mean row, in a given type."""
    return np.asarray(np.subtract(x, mean.astype(dtype), dtype=dtype))


def centre_layer(rows: Rows, load: Callable[[], Rows] | None = None) -> CentredRows:
    """Compute the mean of a layer: O(n d), one pass; without `load` the rows stay in memory."""
    return CentredRows(load or (lambda: rows), rows.n, find_row_statistics(rows).mean)


@dataclass(frozen=True)
class OwnMoments:
    """Centred second moments of one layer.

    Attributes
    ----------
    square : array of shape (d, d), float64
        Xc'Xc.
    norms : array of shape (n,), float64
        Squared length of each centred row: the diagonal of the centred kernel.
    """

    square: FloatArray
    norms: Float64Array


@dataclass(frozen=True)
class PairMoments:
    """Centred second moments of a pair of layers over the same rows, and of each layer alone if requested.

    Attributes
    ----------
    cross : array of shape (d_a, d_b), float64
        Xc'Yc.
    a, b : OwnMoments, optional
        Moments of each layer alone.
    chains : arrays of shape (d_a, 2) and (d_b, 2), float64
        Xc' and Yc' times the norms of a and of b; zeros unless the moments of both layers are present.
    """

    cross: FloatArray
    a: OwnMoments | None
    b: OwnMoments | None
    chains: tuple[Float64Array, Float64Array]


@dataclass(frozen=True)
class _Task:
    """Task: sum over some rows of a pair of layers, b's rows optionally in another order."""

    a: Rows
    b: Rows
    means: tuple[Float64Array, Float64Array]
    own: tuple[bool, bool]
    dtypes: tuple[Dtype, Dtype, Dtype]
    span: slice
    order: Permutation | None


def find_moments(
    a: CentredRows,
    b: CentredRows,
    *,
    own: tuple[bool, bool] = (True, True),
    order: Permutation | None = None,
    exact: bool = False,
    executor: Executor = LOCAL_EXECUTOR,
    progress: RowProgress | None = None,
) -> PairMoments:
    """Compute Xc'Yc of two layers over the same rows and, in the same pass, the requested moments of each layer alone.

    O(n d_a d_b) time, O(d_a d_b + block d) memory; see `working_dtype` for the accuracy.

    Parameters
    ----------
    own : whether the moments of a alone and of b alone are computed too
    order : array of n row numbers, optional
        Pairs row i of a with row order[i] of b; b's own moments are then in that order.
    exact : whether all products are computed in float64, whatever their size
    progress : callable, optional
        Called with the number of rows done and the total.
    """
    n, dims = a.n, (a.dim, b.dim)
    works = [0.0 if exact else float(n) * p * q for p, q in (dims, (dims[0], dims[0]), (dims[1], dims[1]))]
    dtypes = working_dtype(works[0]), working_dtype(works[1]), working_dtype(works[2])
    rows, means = (a.load(), b.load()), (a.mean, b.mean)
    spans = split_rows(n, max(dims))
    todo = [_Task(*rows, means, own, dtypes, span, None if order is None else order[span]) for span in spans]
    total = _Total(n, dims, own)
    for span, found in zip(spans, executor.map(_add_up, todo), strict=True):
        total.add(span, found)
        if progress is not None:
            progress(span.stop, n)
    return total.moments()


def find_own_moments(side: CentredRows) -> OwnMoments:
    """Compute the moments of one layer alone."""
    found = find_moments(side, side).a
    if found is None:
        raise AssertionError("The moments of the layer were requested and are missing.")
    return found


class _Total:
    """Accumulator of moments over rows."""

    def __init__(self, n: int, dims: tuple[int, int], own: tuple[bool, bool]) -> None:
        self.cross = np.zeros(dims)
        self.own = [
            OwnMoments(np.zeros((d, d)), np.empty(n)) if wanted else None for d, wanted in zip(dims, own, strict=True)
        ]
        self.chains = np.zeros((dims[0], 2)), np.zeros((dims[1], 2))

    def add(self, span: slice, found: PairMoments) -> None:
        """Add the sums over some rows."""
        self.cross += found.cross
        for mine, more in zip(self.own, (found.a, found.b), strict=True):
            if mine is not None and more is not None:
                np.add(mine.square, more.square, out=mine.square)
                mine.norms[span] = more.norms
        for chain, more_chain in zip(self.chains, found.chains, strict=True):
            np.add(chain, more_chain, out=chain)

    def moments(self) -> PairMoments:
        """Return the accumulated moments."""
        return PairMoments(self.cross, self.own[0], self.own[1], self.chains)


def _add_up(task: _Task) -> PairMoments:
    """Sum over the blocks of one task."""
    total = _Total(task.span.stop - task.span.start, (task.a.dim, task.b.dim), task.own)
    for block, found in prefetch_blocks(partial(_read, task), task.span, block_rows(max(task.a.dim, task.b.dim))):
        local = slice(block.start - task.span.start, block.stop - task.span.start)
        total.add(local, _multiply(task, found))
    return total.moments()


def _multiply(task: _Task, blocks: "tuple[_Block, _Block]") -> PairMoments:
    """Compute the products of one block."""
    a, b = blocks
    cross = a.rows[task.dtypes[0]].T @ b.rows[task.dtypes[0]]
    own = [
        OwnMoments(_square(block.rows[dtype]), block.norms) if wanted else None
        for block, dtype, wanted in zip(blocks, task.dtypes[1:], task.own, strict=True)
    ]
    if not all(task.own):
        return PairMoments(cross, own[0], own[1], (np.zeros((task.a.dim, 2)), np.zeros((task.b.dim, 2))))
    norms = np.stack([a.norms, b.norms], axis=1)
    chains = [block.rows[dtype].T @ norms.astype(dtype) for block, dtype in zip(blocks, task.dtypes[1:], strict=True)]
    return PairMoments(cross, own[0], own[1], (chains[0].astype(np.float64), chains[1].astype(np.float64)))


def _square(x: FloatArray) -> FloatArray:
    """Compute X'X with a copy of X: for one buffer numpy calls another routine, whose last digits differ from a pair's."""
    return np.asarray(x.T @ x.copy())


@dataclass(frozen=True)
class _Block:
    """Block of centred rows, in every type that a product needs, and the squared lengths of the rows."""

    rows: dict[Dtype, FloatArray]
    norms: Float64Array


def _read(task: _Task, start: int, stop: int) -> tuple[_Block, _Block]:
    cross, own_a, own_b = task.dtypes
    raw_a = task.a.read(start, stop)
    if task.order is None:
        raw_b = task.b.read(start, stop)
    else:
        raw_b = task.b.take(task.order[start - task.span.start : stop - task.span.start])
    return (
        _centre_block(raw_a, task.means[0], {cross, own_a} if task.own[0] else {cross}, own=task.own[0]),
        _centre_block(raw_b, task.means[1], {cross, own_b} if task.own[1] else {cross}, own=task.own[1]),
    )


def _centre_block(raw: Float32Array, mean: Float64Array, dtypes: set[Dtype], *, own: bool) -> _Block:
    rows = {dtype: centre(raw, mean, dtype) for dtype in dtypes}
    return _Block(rows, find_norms(raw, mean) if own else np.empty(0))


def find_norms(raw: Float32Array, mean: Float64Array) -> Float64Array:
    """Compute the squared distance of each row from the mean."""
    norms = np.empty(len(raw))
    step = cached_rows(raw.shape[1])
    for start in range(0, len(raw), step):
        part = raw[start : start + step] - mean
        norms[start : start + len(part)] = np.einsum("ij,ij->i", part, part)
    return norms


@dataclass(frozen=True)
class PairSums:
    """Sums of x, y and their products over some paired rows of two layers, relative to origins near the mean rows.

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
        """Mean rows of both layers."""
        return self.origins[0] + self.x / self.n, self.origins[1] + self.y / self.n

    def about(self, centres: tuple[Float64Array, Float64Array]) -> "Self":
        """Return the same sums relative to other origins."""
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
        """Return the sums with the two layers exchanged."""
        return replace(self, origins=self.origins[::-1], x=self.y, y=self.x, xx=self.yy, yy=self.xx, xy=self.xy.T)


def _shift(x: Float64Array, d: Float64Array, y: Float64Array, e: Float64Array, n: int) -> Float64Array:
    """Return what sum x y' loses when d and e are subtracted from every row."""
    return np.outer(x, e) + np.outer(d, y) - n * np.outer(d, e)


@dataclass(frozen=True)
class _FoldTask:
    a: Rows
    b: Rows
    means: tuple[Float64Array, Float64Array]
    count: int
    span: slice
    folds: IdArray
    order: Permutation | None


def find_fold_sums(
    a: CentredRows,
    b: CentredRows,
    folds: IdArray,
    *,
    order: Permutation | None = None,
    executor: Executor = LOCAL_EXECUTOR,
    progress: RowProgress | None = None,
) -> list[PairSums]:
    """Compute the sums of every fold: O(n (p + q)^2), one pass in float64.

    Parameters
    ----------
    folds : array of shape (n,), int32
        The fold of each row, counted from 0.
    order : array of n row numbers, optional
        Pairs row i of a with row order[i] of b.
    progress : callable, optional
        Called with the number of rows done and the total.
    """
    count = int(folds.max()) + 1
    todo = [
        _FoldTask(
            a.load(), b.load(), (a.mean, b.mean), count, span, folds[span], None if order is None else order[span]
        )
        for span in split_rows(a.n, max(a.dim, b.dim))
    ]
    total = [_zero_sums((a.mean, b.mean)) for _ in range(count)]
    for part, found in zip(todo, executor.map(_add_up_folds, todo), strict=True):
        total = [before + more for before, more in zip(total, found, strict=True)]
        if progress is not None:
            progress(part.span.stop, a.n)
    return total


def sum_rows(x: Float64Array, y: Float64Array) -> PairSums:
    """Compute the sums of rows in memory, relative to 0."""
    found = _zero_sums((np.zeros(x.shape[1]), np.zeros(y.shape[1])))
    _add(found, x, y)
    return replace(found, n=len(x))


def project_sums(
    sums: PairSums, a: tuple[Float64Array, Float64Array], b: tuple[Float64Array, Float64Array]
) -> PairSums:
    """Return the sums of (x - mean) @ mapping and (y - mean) @ mapping, with a mean and a mapping for each layer."""
    moved = sums.about((a[0], b[0]))
    m, k = a[1], b[1]
    origins = np.zeros(m.shape[1]), np.zeros(k.shape[1])
    return PairSums(
        sums.n, origins, moved.x @ m, moved.y @ k, m.T @ moved.xx @ m, k.T @ moved.yy @ k, m.T @ moved.xy @ k
    )


def add_sums(sums: Sequence[PairSums]) -> PairSums:
    """Add the sums of several folds."""
    total = sums[0]
    for more in sums[1:]:
        total += more
    return total


def _zero_sums(origins: tuple[Float64Array, Float64Array]) -> PairSums:
    p, q = (len(origin) for origin in origins)
    return PairSums(0, origins, np.zeros(p), np.zeros(q), np.zeros((p, p)), np.zeros((q, q)), np.zeros((p, q)))


def _add_up_folds(task: _FoldTask) -> list[PairSums]:
    total = [_zero_sums(task.means) for _ in range(task.count)]
    for block, (x, y) in prefetch_blocks(
        partial(_read_folds, task), task.span, block_rows(max(task.a.dim, task.b.dim))
    ):
        folds = task.folds[block.start - task.span.start : block.stop - task.span.start]
        by_fold = np.argsort(folds, kind="stable")
        edges = np.searchsorted(folds[by_fold], np.arange(task.count + 1))
        for fold in range(task.count):
            rows = by_fold[edges[fold] : edges[fold + 1]]
            _add(total[fold], x[rows], y[rows])
            total[fold] = replace(total[fold], n=total[fold].n + len(rows))
    return total


def _add(sums: PairSums, x: FloatArray, y: FloatArray) -> None:
    """Add rows to sums in place, except to their count."""
    for total, more in (
        (sums.x, x.sum(axis=0)),
        (sums.y, y.sum(axis=0)),
        (sums.xx, x.T @ x),
        (sums.yy, y.T @ y),
        (sums.xy, x.T @ y),
    ):
        np.add(total, more, out=total)


def _read_folds(task: _FoldTask, start: int, stop: int) -> tuple[FloatArray, FloatArray]:
    x = task.a.read(start, stop)
    if task.order is None:
        y = task.b.read(start, stop)
    else:
        y = task.b.take(task.order[start - task.span.start : stop - task.span.start])
    return centre(x, task.means[0], _FLOAT64), centre(y, task.means[1], _FLOAT64)
