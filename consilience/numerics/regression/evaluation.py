"""Evaluation of maps on held-out rows: cosine, share of variance predicted, rank of the true counterpart, and recall."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from consilience.numerics.neighbour_overlap.kernels import overlap_rows
from consilience.numerics.regression.maps import Transform
from consilience.numerics.rows.arrays import Float32Array, Float64Array, IdArray, cached_rows
from consilience.numerics.rows.parallel import block_rows, map_rows, prefetch_blocks
from consilience.numerics.rows.prepared import Rows, scale_to_unit
from consilience.numerics.stats.intervals import ConfidenceInterval

Ranks = npt.NDArray[np.int64]
#: Number of queries compared with a block at a time.
TILE_QUERIES = 1024
#: Cosines closer than float32 rounding are ties.
TIE = np.float32(1e-6)


@dataclass(frozen=True)
class MapEvaluation:
    """Evaluation of one map on held-out rows.

    Attributes
    ----------
    cosine : mean cosine between a mapped row and its counterpart, in [-1, 1]
    r2 : 1 - sum |y - f(x)|^2 / sum |y - mean|^2, at most 1; None if the rows of b are constant
    forward : array of shape (m,), rank of each query's counterpart if the mapped query searches among b; 1 is the best
    backward : the same if b's rows search among the mapped rows
    """

    cosine: float
    r2: float | None
    forward: Ranks
    backward: Ranks


@dataclass(frozen=True)
class ConstantBaseline:
    """Baseline without a map: the same row as prediction for all.

    Attributes
    ----------
    cosine, r2 : as in `MapEvaluation`
    """

    cosine: float
    r2: float | None


@dataclass(frozen=True)
class HeldOutRows:
    """Held-out rows of both sides, prepared and paired, and which of them are queries.

    Attributes
    ----------
    a, b : access to t rows each
    queries : array of shape (m,), ascending
        Positions of the queries among the t rows.
    groups : array of shape (t,), int32, optional
        Other rows of a query's group are not among its candidates. None: every row is its own group.
    """

    a: Rows
    b: Rows
    queries: IdArray
    groups: IdArray | None = None

    @property
    def candidate_counts(self) -> Ranks:
        """Number of candidates of each query, its counterpart included: shape (m,)."""
        if self.groups is None:
            return np.full(len(self.queries), self.a.n, np.int64)
        return np.asarray(self.a.n + 1 - np.bincount(self.groups)[self.groups[self.queries]], np.int64)


def evaluate_maps(
    transforms: Sequence[Transform],
    rows: HeldOutRows,
    constant: Float64Array,
    *,
    report: Callable[[int, int], None] | None = None,
) -> tuple[list[MapEvaluation], ConstantBaseline]:
    """Evaluate several maps and the baseline of a constant row in one pass over the held-out rows.

    Similarity is the cosine. The rank of a counterpart is 1 plus the number of candidates with a larger similarity, or with an
    equal one (to 1e-6) and a smaller id. Exact: O(m t q) per map, O(m (p + q)) memory beside the blocks.
    """
    x, y = rows.a.take(rows.queries), rows.b.take(rows.queries)
    queries_b = _unit(y)
    totals = [_MapSums(_unit(transform.apply(x)), queries_b) for transform in transforms]
    baseline = _BaselineSums(constant)
    for block, (x, y) in prefetch_blocks(
        partial(_read, rows), slice(0, rows.a.n), block_rows(max(rows.a.dim, rows.b.dim))
    ):
        unit = _unit(y)
        baseline.add(y, unit)
        for transform, total in zip(transforms, totals, strict=True):
            total.add(rows, block, transform.apply(x), y, unit)
        if report is not None:
            report(block.stop, rows.a.n)
    return [total.evaluation(rows.a.n, baseline.variation) for total in totals], baseline.result()


def _read(rows: HeldOutRows, start: int, stop: int) -> tuple[Float32Array, Float32Array]:
    return rows.a.read(start, stop), rows.b.read(start, stop)


class _BaselineSums:
    """Accumulator for the baseline of a constant row, and for the variation of b's rows."""

    def __init__(self, constant: Float64Array) -> None:
        self._constant, self._n, self._squares = constant, 0, 0.0
        self._sum, self._units = np.zeros(len(constant)), np.zeros(len(constant))

    def add(self, y: Float32Array, unit: Float32Array) -> None:
        """Add a block: b's rows, and the same scaled to length 1."""
        step = cached_rows(y.shape[1])
        for start in range(0, len(y), step):
            part = y[start : start + step] - self._constant
            self._sum += part.sum(axis=0)
            self._squares += float(np.vdot(part, part))
            self._units += unit[start : start + step].sum(axis=0, dtype=np.float64)
        self._n += len(y)

    @property
    def variation(self) -> float:
        """Sum of squared distances of b's rows from their mean."""
        return self._squares - float(self._sum @ self._sum) / self._n

    def result(self) -> ConstantBaseline:
        """Return the baseline."""
        length = float(np.linalg.norm(self._constant))
        cosine = float(self._constant @ self._units) / (length * self._n) if length > 0 else 0.0
        return ConstantBaseline(cosine, _r2(self._squares, self.variation))


def _r2(errors: float, variation: float) -> float | None:
    return 1 - errors / variation if variation > 0 else None


class _MapSums:
    """Accumulator for the evaluation of one map."""

    def __init__(self, queries_a: Float32Array, queries_b: Float32Array) -> None:
        self._queries = queries_a, queries_b
        self._own = np.einsum("ij,ij->i", queries_a, queries_b)
        self._ranks = np.ones(len(queries_a), np.int64), np.ones(len(queries_a), np.int64)
        self._cosines = self._errors = 0.0

    def add(self, rows: HeldOutRows, block: slice, found: Float32Array, y: Float32Array, unit: Float32Array) -> None:
        """Add a block: the mapped rows, b's rows, and b's rows scaled to length 1."""
        step = cached_rows(y.shape[1])
        for start in range(0, len(y), step):
            residual = y[start : start + step] - found[start : start + step]
            self._errors += float(np.einsum("ij,ij->", residual, residual, dtype=np.float64))
        mapped = _unit(found)
        self._cosines += float(np.einsum("ij,ij->", mapped, unit, dtype=np.float64))
        for queries, candidates, ranks in zip(self._queries, (unit, mapped), self._ranks, strict=True):
            for first in range(0, len(queries), TILE_QUERIES):
                tile = slice(first, first + TILE_QUERIES)
                similarities = queries[tile] @ candidates.T
                _exclude(similarities, rows.queries[tile], block, rows.groups)
                ranks[tile] += _count_before(similarities, self._own[tile], rows.queries[tile], block)

    def evaluation(self, n: int, variation: float) -> MapEvaluation:
        """Return the evaluation of the map."""
        return MapEvaluation(self._cosines / n, _r2(self._errors, variation), *self._ranks)


def _count_before(similarities: Float32Array, own: Float32Array, mine: IdArray, block: slice) -> Ranks:
    """Count the candidates of a block that rank before each query's counterpart."""
    ids = np.arange(block.start, block.stop)

    def count(some: slice) -> Ranks:
        threshold, found = own[some, None], similarities[some]
        above = found > threshold + TIE
        before = above.sum(axis=1)
        ties = (found >= threshold - TIE) & ~above
        if ties.any():
            before += (ties & (ids < mine[some, None])).sum(axis=1)
        return np.asarray(before, np.int64)

    return np.concatenate(map_rows(count, len(mine), len(ids)))


def _exclude(similarities: Float32Array, mine: IdArray, block: slice, groups: IdArray | None) -> None:
    """Exclude each query's counterpart, which is counted already, and other rows of its group."""
    if groups is not None:
        similarities[groups[mine][:, None] == groups[block]] = -np.inf
        return
    inside = np.flatnonzero((mine >= block.start) & (mine < block.stop))
    similarities[inside, mine[inside] - block.start] = -np.inf


def _unit(rows: Float32Array) -> Float32Array:
    """Copy rows, scaled to length 1."""
    unit = rows.copy()
    step = cached_rows(rows.shape[1])
    for start in range(0, len(unit), step):
        scale_to_unit(unit[start : start + step])
    return unit


def draw_held_out(n: int, share: float, seed: int, groups: IdArray | None = None) -> npt.NDArray[np.bool_]:
    """Draw the held-out rows as a mask of shape (n,): whole groups in random order until the share is reached."""
    unit = np.arange(n) if groups is None else groups
    count = int(unit.max()) + 1
    order = np.random.default_rng(seed).permutation(count)
    filled = np.cumsum(np.bincount(unit, minlength=count)[order])
    wanted = np.zeros(count, np.bool_)
    wanted[order[: int(np.searchsorted(filled, share * n)) + 1]] = True
    return np.asarray(wanted[unit])


#: Number of bootstrap draws.
DRAWS = 2000
#: Number of row numbers drawn at a time.
DRAWN_VALUES = 1 << 22
METHOD = "bootstrap"


def neighbour_recall(found: IdArray, wanted: IdArray, n: int) -> Float64Array:
    """Return the share of each row's k wanted ids that are among the k found: two arrays of shape (m, k), ids below n."""
    return np.asarray(overlap_rows(np.ascontiguousarray(found), np.ascontiguousarray(wanted), n))


def relevant_recall(found: IdArray, relevant: Sequence[npt.NDArray[np.intp]]) -> Float64Array:
    """Return the share of each row's relevant ids among the k found; of more than k relevant ids, the share of k.

    Parameters
    ----------
    found : array of shape (m, k), int32
    relevant : m arrays of distinct ids, none of them empty
    """
    k = found.shape[1]
    rows = zip(found, relevant, strict=True)
    return np.array([np.isin(ids, wanted).sum() / min(k, len(wanted)) for ids, wanted in rows])


def ratio_interval(
    above: Float64Array, below: Float64Array | None, level: float, seed: int
) -> ConfidenceInterval | None:
    """Compute a bootstrap interval of mean(above) / mean(below) over rows; of mean(above) if `below` is None.

    The percentile bootstrap over rows: both means use the same draw, so that their common variation does not widen the
    interval. None if the mean below is not significantly above 0 at this level: the ratio is then undetermined.

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
    return ConfidenceInterval(float(low), float(high), METHOD)


def _draw(m: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield rows drawn with replacement, m per draw."""
    rng = np.random.default_rng(seed)
    step = max(1, DRAWN_VALUES // m)
    for start in range(0, DRAWS, step):
        yield rng.integers(0, m, (min(step, DRAWS - start), m))


def order_by_change(shares: Float64Array, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return positions ordered by change of the neighbours, the largest change first; equal ones by row number."""
    return np.lexsort((rows, shares))
