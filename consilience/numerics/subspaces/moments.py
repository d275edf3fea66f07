"""Centred second moments of a layer and of a pair of layers: sums over rows, found in one pass over blocks of rows.

Linear kernels need nothing else: with K = Xc Xc' the n x n matrix never exists, since tr(KL) = |Xc'Yc|^2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from consilience.numerics.rows.arrays import Float32Array, Float64Array, IdArray, cached_rows
from consilience.numerics.rows.parallel import HERE, Parts, block_rows, read_ahead, split_rows
from consilience.numerics.rows.prepared import Rows, scan
from consilience.numerics.stats.nulls import Permutation

Dtype = np.dtype[np.floating[Any]]
FloatArray = npt.NDArray[np.floating[Any]]
#: Told the rows done and their number.
Step = Callable[[int, int], None]
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
class CentredRows:
    """Access to the prepared rows of a layer, and their mean. Small: rows are loaded when asked for.

    Attributes
    ----------
    load : callable
        Gives access to the prepared rows; they are not kept here, so that whoever caches them can let go of them.
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
        """The rows of some ids, centred."""
        return centre(self.load().take(ids), self.mean, dtype)


def centre(x: Float32Array, mean: Float64Array, dtype: Dtype) -> FloatArray:
    """Subtract a mean row in the type asked for."""
    return np.asarray(np.subtract(x, mean.astype(dtype), dtype=dtype))


def centre_layer(rows: Rows, load: Callable[[], Rows] | None = None) -> CentredRows:
    """Find the mean of a layer: O(n d), one pass; without `load` the rows are held."""
    return CentredRows(load or (lambda: rows), rows.n, scan(rows).mean)


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
    """Centred second moments of a pair of layers over the same rows, and of each of them where they were asked for.

    Attributes
    ----------
    cross : array of shape (d_a, d_b), float64
        Xc'Yc.
    a, b : of each alone
    chains : arrays of shape (d_a, 2) and (d_b, 2), float64
        Xc' and Yc' times the norms of a and of b; where both own moments are there.
    """

    cross: FloatArray
    a: OwnMoments | None
    b: OwnMoments | None
    chains: tuple[Float64Array, Float64Array]


@dataclass(frozen=True)
class _Part:
    """Some rows of a pair of layers, b's in another order where one is given."""

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
    parts: Parts = HERE,
    step: Step | None = None,
) -> PairMoments:
    """Find Xc'Yc of two layers over the same rows, and in the same pass what is asked for of each alone.

    O(n d_a d_b) time, O(d_a d_b + block d) memory; see `working_dtype` for the accuracy.

    Parameters
    ----------
    own : whether a's and b's own moments are found too
    order : array of n row numbers, optional
        Pairs row i of a with row order[i] of b; b's own moments are then in that order.
    exact : whether products are made in float64 however large they are
    step : callable, optional
        Told the rows done and their number.
    """
    n, dims = a.n, (a.dim, b.dim)
    works = [0.0 if exact else float(n) * p * q for p, q in (dims, (dims[0], dims[0]), (dims[1], dims[1]))]
    dtypes = working_dtype(works[0]), working_dtype(works[1]), working_dtype(works[2])
    rows, means = (a.load(), b.load()), (a.mean, b.mean)
    spans = split_rows(n, max(dims))
    todo = [_Part(*rows, means, own, dtypes, span, None if order is None else order[span]) for span in spans]
    total = _Total(n, dims, own)
    for span, found in zip(spans, parts.map(_add_up, todo), strict=True):
        total.add(span, found)
        if step is not None:
            step(span.stop, n)
    return total.moments()


def find_own(side: CentredRows) -> OwnMoments:
    """Find the moments of one layer that has no partner."""
    found = find_moments(side, side).a
    if found is None:
        raise AssertionError("they were asked for")
    return found


class _Total:
    """Sums over rows on their way."""

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
        """What has been added up."""
        return PairMoments(self.cross, self.own[0], self.own[1], self.chains)


def _add_up(part: _Part) -> PairMoments:
    """Sum over the blocks of one part."""
    total = _Total(part.span.stop - part.span.start, (part.a.dim, part.b.dim), part.own)
    for block, found in read_ahead(partial(_read, part), part.span, block_rows(max(part.a.dim, part.b.dim))):
        local = slice(block.start - part.span.start, block.stop - part.span.start)
        total.add(local, _multiply(part, found))
    return total.moments()


def _multiply(part: _Part, blocks: "tuple[_Block, _Block]") -> PairMoments:
    """The products of one block."""
    a, b = blocks
    cross = a.rows[part.dtypes[0]].T @ b.rows[part.dtypes[0]]
    own = [
        OwnMoments(_square(block.rows[dtype]), block.norms) if wanted else None
        for block, dtype, wanted in zip(blocks, part.dtypes[1:], part.own, strict=True)
    ]
    if not all(part.own):
        return PairMoments(cross, own[0], own[1], (np.zeros((part.a.dim, 2)), np.zeros((part.b.dim, 2))))
    norms = np.stack([a.norms, b.norms], axis=1)
    chains = [block.rows[dtype].T @ norms.astype(dtype) for block, dtype in zip(blocks, part.dtypes[1:], strict=True)]
    return PairMoments(cross, own[0], own[1], (chains[0].astype(np.float64), chains[1].astype(np.float64)))


def _square(x: FloatArray) -> FloatArray:
    """X'X as a product of two: of one buffer numpy makes it by another routine, whose last digits differ from a pair's."""
    return np.asarray(x.T @ x.copy())


@dataclass(frozen=True)
class _Block:
    """A block of centred rows, in every type that a product needs, and the squared lengths of the rows."""

    rows: dict[Dtype, FloatArray]
    norms: Float64Array


def _read(part: _Part, start: int, stop: int) -> tuple[_Block, _Block]:
    cross, own_a, own_b = part.dtypes
    raw_a = part.a.read(start, stop)
    if part.order is None:
        raw_b = part.b.read(start, stop)
    else:
        raw_b = part.b.take(part.order[start - part.span.start : stop - part.span.start])
    return (
        _centre_block(raw_a, part.means[0], {cross, own_a} if part.own[0] else {cross}, own=part.own[0]),
        _centre_block(raw_b, part.means[1], {cross, own_b} if part.own[1] else {cross}, own=part.own[1]),
    )


def _centre_block(raw: Float32Array, mean: Float64Array, dtypes: set[Dtype], *, own: bool) -> _Block:
    rows = {dtype: centre(raw, mean, dtype) for dtype in dtypes}
    return _Block(rows, find_norms(raw, mean) if own else np.empty(0))


def find_norms(raw: Float32Array, mean: Float64Array) -> Float64Array:
    """Squared distance of each row from the mean."""
    norms = np.empty(len(raw))
    step = cached_rows(raw.shape[1])
    for start in range(0, len(raw), step):
        part = raw[start : start + step] - mean
        norms[start : start + len(part)] = np.einsum("ij,ij->i", part, part)
    return norms


_FOLD_FLOAT64 = np.dtype(np.float64)


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
class _FoldPart:
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
        _FoldPart(
            a.load(), b.load(), (a.mean, b.mean), count, span, dealt[span], None if order is None else order[span]
        )
        for span in split_rows(a.n, max(a.dim, b.dim))
    ]
    total = [_nothing((a.mean, b.mean)) for _ in range(count)]
    for part, found in zip(todo, parts.map(_add_up_folds, todo), strict=True):
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


def _add_up_folds(part: _FoldPart) -> list[Sums]:
    total = [_nothing(part.means) for _ in range(part.count)]
    for block, (x, y) in read_ahead(partial(_read_folds, part), part.span, block_rows(max(part.a.dim, part.b.dim))):
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


def _read_folds(part: _FoldPart, start: int, stop: int) -> tuple[FloatArray, FloatArray]:
    x = part.a.read(start, stop)
    if part.order is None:
        y = part.b.read(start, stop)
    else:
        y = part.b.take(part.order[start - part.span.start : stop - part.span.start])
    return centre(x, part.means[0], _FOLD_FLOAT64), centre(y, part.means[1], _FOLD_FLOAT64)
