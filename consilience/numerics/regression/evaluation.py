"""How maps do on held-out rows: cosines, the variance predicted, and where a row's own stands among all others."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from consilience.numerics.neighbour_overlap.kernels import overlap_rows
from consilience.numerics.regression.maps import Transform
from consilience.numerics.rows.arrays import Float32Array, Float64Array, IdArray, cached_rows
from consilience.numerics.rows.parallel import block_rows, map_rows, read_ahead
from consilience.numerics.rows.prepared import Rows, scale_to_unit
from consilience.numerics.stats.intervals import Bounds

Ranks = npt.NDArray[np.int64]
#: Queries compared with a block at a time.
TILE_QUERIES = 1024
#: Cosines nearer than float32 rounds are ties.
TIE = np.float32(1e-6)


@dataclass(frozen=True)
class Judged:
    """What one map does.

    Attributes
    ----------
    cosine : mean cosine between a translated row and its own
    r2 : 1 - sum |y - f(x)|^2 / sum |y - mean|^2; None where no row varies
    forward : array of shape (m,), the rank of each asking row's own when its translation looks among b; 1 is the best
    backward : the same for b's rows, which look among the translations
    """

    cosine: float
    r2: float | None
    forward: Ranks
    backward: Ranks


@dataclass(frozen=True)
class Floor:
    """What needs no map: the same row for all.

    Attributes
    ----------
    cosine, r2 : as of a map
    """

    cosine: float
    r2: float | None


@dataclass(frozen=True)
class HeldOut:
    """Held-out rows of both sides, prepared and paired, and which of them ask.

    Attributes
    ----------
    a, b : access to t rows each
    asking : array of shape (m,), ascending
        Their places among the t rows.
    groups : array of shape (t,), int32, optional
        Rows of one group are no answers to each other but to themselves. None: every row stands alone.
    """

    a: Rows
    b: Rows
    asking: IdArray
    groups: IdArray | None = None

    @property
    def sizes(self) -> Ranks:
        """How many rows answer each asking one, its own among them: shape (m,)."""
        if self.groups is None:
            return np.full(len(self.asking), self.a.n, np.int64)
        return np.asarray(self.a.n + 1 - np.bincount(self.groups)[self.groups[self.asking]], np.int64)


def judge(
    transforms: Sequence[Transform],
    rows: HeldOut,
    constant: Float64Array,
    *,
    report: Callable[[int, int], None] | None = None,
) -> tuple[list[Judged], Floor]:
    """Judge several maps, and a constant row, in one pass over the held-out rows.

    Similarity is the cosine. The rank of a row's own is 1 and the number of answers with a larger similarity, and of equal ones
    (to 1e-6) with a smaller id. Exact: O(m t q) a map, O(m (p + q)) memory beside the blocks.
    """
    x, y = rows.a.take(rows.asking), rows.b.take(rows.asking)
    asking_b = _unit(y)
    tallies = [_Tally(_unit(transform.apply(x)), asking_b) for transform in transforms]
    floor = _Floor(constant)
    for block, (x, y) in read_ahead(partial(_read, rows), slice(0, rows.a.n), block_rows(max(rows.a.dim, rows.b.dim))):
        unit = _unit(y)
        floor.add(y, unit)
        for transform, tally in zip(transforms, tallies, strict=True):
            tally.add(rows, block, transform.apply(x), y, unit)
        if report is not None:
            report(block.stop, rows.a.n)
    return [tally.judged(rows.a.n, floor.spread) for tally in tallies], floor.judged()


def _read(rows: HeldOut, start: int, stop: int) -> tuple[Float32Array, Float32Array]:
    return rows.a.read(start, stop), rows.b.read(start, stop)


class _Floor:
    """What a constant row gives, and how b's rows vary, on their way."""

    def __init__(self, constant: Float64Array) -> None:
        self._constant, self._n, self._squares = constant, 0, 0.0
        self._sum, self._units = np.zeros(len(constant)), np.zeros(len(constant))

    def add(self, y: Float32Array, unit: Float32Array) -> None:
        """Go on with a block: b's rows, and these of length 1."""
        step = cached_rows(y.shape[1])
        for start in range(0, len(y), step):
            part = y[start : start + step] - self._constant
            self._sum += part.sum(axis=0)
            self._squares += float(np.vdot(part, part))
            self._units += unit[start : start + step].sum(axis=0, dtype=np.float64)
        self._n += len(y)

    @property
    def spread(self) -> float:
        """The sum of squared distances of b's rows from their mean."""
        return self._squares - float(self._sum @ self._sum) / self._n

    def judged(self) -> Floor:
        """What came out."""
        length = float(np.linalg.norm(self._constant))
        cosine = float(self._constant @ self._units) / (length * self._n) if length > 0 else 0.0
        return Floor(cosine, _r2(self._squares, self.spread))


def _r2(errors: float, spread: float) -> float | None:
    return 1 - errors / spread if spread > 0 else None


class _Tally:
    """One map's sums and counts on their way."""

    def __init__(self, asking_a: Float32Array, asking_b: Float32Array) -> None:
        self._asking = asking_a, asking_b
        self._own = np.einsum("ij,ij->i", asking_a, asking_b)
        self._ranks = np.ones(len(asking_a), np.int64), np.ones(len(asking_a), np.int64)
        self._cosines = self._errors = 0.0

    def add(self, rows: HeldOut, block: slice, found: Float32Array, y: Float32Array, unit: Float32Array) -> None:
        """Go on with a block: the translations, b's rows, and these of length 1."""
        step = cached_rows(y.shape[1])
        for start in range(0, len(y), step):
            residual = y[start : start + step] - found[start : start + step]
            self._errors += float(np.einsum("ij,ij->", residual, residual, dtype=np.float64))
        turned = _unit(found)
        self._cosines += float(np.einsum("ij,ij->", turned, unit, dtype=np.float64))
        for asking, answers, ranks in zip(self._asking, (unit, turned), self._ranks, strict=True):
            for first in range(0, len(asking), TILE_QUERIES):
                tile = slice(first, first + TILE_QUERIES)
                similarities = asking[tile] @ answers.T
                _leave_out(similarities, rows.asking[tile], block, rows.groups)
                ranks[tile] += _count_before(similarities, self._own[tile], rows.asking[tile], block)

    def judged(self, n: int, spread: float) -> Judged:
        """What came out."""
        return Judged(self._cosines / n, _r2(self._errors, spread), *self._ranks)


def _count_before(similarities: Float32Array, own: Float32Array, mine: IdArray, block: slice) -> Ranks:
    """How many answers of a block come before each asking row's own."""
    ids = np.arange(block.start, block.stop)

    def count(some: slice) -> Ranks:
        bar, found = own[some, None], similarities[some]
        above = found > bar + TIE
        before = above.sum(axis=1)
        ties = (found >= bar - TIE) & ~above
        if ties.any():
            before += (ties & (ids < mine[some, None])).sum(axis=1)
        return np.asarray(before, np.int64)

    return np.concatenate(map_rows(count, len(mine), len(ids)))


def _leave_out(similarities: Float32Array, mine: IdArray, block: slice, groups: IdArray | None) -> None:
    """The asking row itself is counted already, and its group's other rows are no answers."""
    if groups is not None:
        similarities[groups[mine][:, None] == groups[block]] = -np.inf
        return
    here = np.flatnonzero((mine >= block.start) & (mine < block.stop))
    similarities[here, mine[here] - block.start] = -np.inf


def _unit(rows: Float32Array) -> Float32Array:
    """A copy of length 1 in every row."""
    unit = rows.copy()
    step = cached_rows(rows.shape[1])
    for start in range(0, len(unit), step):
        scale_to_unit(unit[start : start + step])
    return unit


def split_held_out(n: int, share: float, seed: int, groups: IdArray | None = None) -> npt.NDArray[np.bool_]:
    """Draw the rows that are held out: shape (n,), bool. Whole groups, in a random order, until the share is reached."""
    unit = np.arange(n) if groups is None else groups
    count = int(unit.max()) + 1
    order = np.random.default_rng(seed).permutation(count)
    filled = np.cumsum(np.bincount(unit, minlength=count)[order])
    wanted = np.zeros(count, np.bool_)
    wanted[order[: int(np.searchsorted(filled, share * n)) + 1]] = True
    return np.asarray(wanted[unit])


#: Draws of a bootstrap.
DRAWS = 2000
#: Row numbers drawn at a time.
DRAWN_VALUES = 1 << 22
METHOD = "bootstrap"


def share_found(found: IdArray, wanted: IdArray, n: int) -> Float64Array:
    """The share of each row's k wanted ids that are among the k found: two arrays of shape (m, k), ids below n."""
    return np.asarray(overlap_rows(np.ascontiguousarray(found), np.ascontiguousarray(wanted), n))


def share_relevant(found: IdArray, relevant: Sequence[npt.NDArray[np.intp]]) -> Float64Array:
    """The share of each row's relevant ids that are among the k found; where there are more than k, the share of k.

    Parameters
    ----------
    found : array of shape (m, k), int32
    relevant : m arrays of different ids, none of them empty
    """
    k = found.shape[1]
    rows = zip(found, relevant, strict=True)
    return np.array([np.isin(ids, wanted).sum() / min(k, len(wanted)) for ids, wanted in rows])


def ratio_bounds(above: Float64Array, below: Float64Array | None, level: float, seed: int) -> Bounds | None:
    """Interval of mean(above) / mean(below) over rows drawn anew; of mean(above) where there is nothing below.

    The percentile bootstrap over rows: both means are of the same draw, so that what makes them rise together does not widen
    it. None where the mean below does not stand out from 0 at this level: the ratio could then be anything.

    Parameters
    ----------
    above, below : arrays of shape (m,), m >= 2
    level : float in (0, 1)

    References
    ----------
    Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    tails = [(1 - level) / 2, (1 + level) / 2]
    columns = np.column_stack([above, np.ones(len(above)) if below is None else below])
    means = np.concatenate([columns[rows].mean(axis=1) for rows in _draw(len(above), seed)])
    if columns[:, 1].mean() <= 0 or np.quantile(means[:, 1], tails[0]) <= 0:
        return None
    ratios = means[means[:, 1] > 0]
    low, high = np.quantile(ratios[:, 0] / ratios[:, 1], tails)
    return Bounds(float(low), float(high), METHOD)


def _draw(m: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Rows drawn with replacement, m a draw."""
    rng = np.random.default_rng(seed)
    step = max(1, DRAWN_VALUES // m)
    for start in range(0, DRAWS, step):
        yield rng.integers(0, m, (min(step, DRAWS - start), m))


def order_changed(shares: Float64Array, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Places of the rows whose neighbours changed most, those first; of equal ones the smaller row."""
    return np.lexsort((rows, shares))
