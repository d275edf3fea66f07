"""rsa on two sides: each layer's dissimilarities are ranked once, then compared and permuted like any kernel."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from consilience.contract.kernel_metrics import Rsa
from consilience.contract.scores import Reason
from consilience.errors import InvalidRequest
from consilience.limits import MATRICES_BYTES, RSA_PAIRS, RSA_ROWS
from consilience.metrics.comparison import Cell, Comparison, LayerRef, Measurement, find_reasons
from consilience.metrics.kernel_strategies import EXACT_ROWS
from consilience.metrics.sides import CacheKey, PreparedSide
from consilience.numerics.kernels import rsa
from consilience.numerics.kernels.matrices import (
    SHIFT_ROWS,
    Entry,
    PairMatrix,
    StoredMatrix,
    draw_rows,
    find_product_row_sums,
    find_sums,
    pair_matrix,
    permuted_products,
)
from consilience.numerics.kernels.rsa import MantelCounts, count_patterns, mantel_null
from consilience.numerics.rows.arrays import Float32Array, Float64Array
from consilience.numerics.rows.prepared import blocks
from consilience.numerics.stats.intervals import ConfidenceInterval, jackknife_interval
from consilience.numerics.stats.nulls import PearsonNull, Permutation
from consilience.numerics.subspaces.moments import FloatArray

#: Largest number of rows for which all pairs can be requested: 268 MB for each layer.
ALL_ROWS_MAX = 8192
_ENTRIES: dict[rsa.Distance, Entry] = {"cosine": "angle", "correlation": "angle", "euclidean": "distance"}

#: Sum of the squares of a layer's dissimilarities, and the rounding error in it.
Square = tuple[float, float]


@dataclass(frozen=True)
class PairGridKey(CacheKey["PairGrid"]):
    """Dissimilarities of all layers under the options of a metric."""

    metric: Rsa


@dataclass(frozen=True)
class DirectionKey(CacheKey["Reason | None"]):
    """Reason why the rows of a layer have no dissimilarities."""

    distance: rsa.Distance


@dataclass(frozen=True)
class DissimilaritiesKey(CacheKey[list[StoredMatrix]]):
    """Stored dissimilarities of a layer."""

    metric: Rsa


@dataclass(frozen=True)
class CountsKey(CacheKey[MantelCounts]):
    """Sums of a layer for the null distribution."""

    metric: Rsa


def measure_rsa(metric: Rsa, comparison: Comparison) -> Measurement:
    """Measure the correlation of the dissimilarities of every layer pair.

    Raises
    ------
    InvalidRequest
        All pairs of more than 8192 rows.
    """
    pairs = comparison.memoize(PairGridKey(metric), lambda: PairGrid(metric, comparison))
    reasons = find_reasons(comparison, pairs.reason)
    return Measurement(
        grid=pairs.correlations(reasons),
        reasons=reasons,
        null=pairs.null,
        permuted=lambda permutation: pairs.correlations(reasons, permutation),
        interval=pairs.interval,
    )


def choose_pairs(metric: Rsa, n: int) -> int | None:
    """Choose the number of pairs; None for all."""
    if metric.pairs == "auto":
        return None if n <= RSA_ROWS else RSA_PAIRS
    if metric.pairs == "all" and n > ALL_ROWS_MAX:
        raise InvalidRequest(
            f"`pairs: all` allows at most {ALL_ROWS_MAX} rows, but there are {n}.",
            value=n,
            limit=ALL_ROWS_MAX,
            hint="Leave `pairs` at `auto`, or give a number of pairs.",
            pointer="/metrics",
        )
    return None if metric.pairs == "all" else metric.pairs


class PairGrid:
    """Dissimilarities of all layers of both sides, within the same groups of items."""

    def __init__(self, metric: Rsa, comparison: Comparison) -> None:
        self.metric, self.a, self.b = metric, comparison.a, comparison.b
        self.n, self.seed, self.shape, self._report = comparison.n, comparison.seed, comparison.shape, comparison.report
        self._squares: dict[LayerRef, Square] = {}

    @cached_property
    def groups(self) -> list[rsa.RowNumbers]:
        """The items whose pairs count: one group of all items, or groups sampled with the seed."""
        return rsa.draw_groups(self.n, choose_pairs(self.metric, self.n), self.seed)

    def reason(self, side: PreparedSide, index: int) -> Reason | None:
        """Reason why a layer has no dissimilarities, or only equal ones; None if they vary."""
        reason = self._direction_reason(side, index)
        if reason is not None:
            return reason
        self.products  # noqa: B018 - the pass that computes the products computes the squares
        square, noise = self._squares[LayerRef("a" if side is self.a else "b", index)]
        if square > noise:
            return None
        name = side.layers[index].name
        return Reason(code="constant-distances", detail=f"All pairs of rows of layer {name} are equally far apart.")

    def correlations(self, reasons: dict[Cell, Reason], permutation: Permutation | None = None) -> Float64Array:
        """Correlations of all layer pairs, with b's items permuted; NaN for the cells in `reasons`."""
        products, squares = self.products, self._squares
        if permutation is not None:
            products, squares = self._permuted(permutation)
        grid = np.full(products.shape, np.nan)
        for i, j in (cell for cell in np.ndindex(*grid.shape) if cell not in reasons):
            square_a, square_b = squares[LayerRef("a", i)], squares[LayerRef("b", j)]
            grid[i, j] = rsa.rsa(float(products[i, j]), square_a[0], square_b[0])
        return grid

    def null(self, i: int, j: int) -> PearsonNull:
        """Null distribution of one layer pair."""
        return mantel_null(self._counts(LayerRef("a", i)), self._counts(LayerRef("b", j)))

    def interval(self, i: int, j: int, level: float) -> ConfidenceInterval | Reason:
        """Return the population interval of one layer pair, by leaving out items; ranks stay as they are."""
        n = self.n
        if n < 5:
            return Reason(code="too-few-rows", detail="Without one of its 4 rows too few pairs are left.")
        products, rows, pairs = np.zeros((3, n)), np.zeros((2, n)), np.zeros(n)
        of_a, of_b = self._matrices(LayerRef("a", i)), self._matrices(LayerRef("b", j))
        for ids, left, right in zip(self.groups, of_a, of_b, strict=True):
            zeros = np.zeros(len(ids))
            for place, found in enumerate(find_product_row_sums((left, right), (zeros, zeros))):
                products[place, ids] = found.product
            rows[:, ids] = left.entries.sum(axis=1, dtype=np.float64), right.entries.sum(axis=1, dtype=np.float64)
            pairs[ids] = len(ids) - 1
        totals = products.sum(axis=1).tolist()
        without_each = rsa.rsa_without_each(products, rows, pairs)
        interval = jackknife_interval(rsa.rsa(*totals), without_each, level)
        return interval or Reason(
            code="undefined-without-a-row", detail="Without one of the rows, the distances of the others do not vary."
        )

    @cached_property
    def products(self) -> Float64Array:
        """sum_{i != j} a_ij b_ij over all pairs of every layer pair; NaN if a layer has no points."""
        products, self._squares = self._find_products(None)
        return products

    def _side(self, layer: LayerRef) -> PreparedSide:
        return self.a if layer.side == "a" else self.b

    # Points of one layer.

    def _direction_reason(self, side: PreparedSide, index: int) -> Reason | None:
        def find() -> Reason | None:
            reason = side.reason(index)
            if reason is not None or self._has_points(side, index):
                return reason
            cause = "is zero" if self.metric.distance == "cosine" else "has equal values only"
            return Reason(
                code="rows-without-direction",
                detail=f"A row of layer {side.layers[index].name} {cause}; its {self.metric.distance} is undefined.",
            )

        return side.memoize(index, DirectionKey(self.metric.distance), find)

    def _find_points(self, side: PreparedSide, index: int, rows: Float32Array) -> FloatArray | None:
        return rsa.find_points(rows, self.metric.distance, side.statistics.find(index).mean, side.n)

    def _has_points(self, side: PreparedSide, index: int) -> bool:
        return all(self._find_points(side, index, rows) is not None for _, rows in blocks(side.rows.reader(index)))

    def _points(self, side: PreparedSide, index: int, rows: Float32Array) -> FloatArray:
        points = self._find_points(side, index, rows)
        if points is None:
            raise AssertionError("A layer without points must be left out.")
        return points

    # Matrices of one layer, one for each group.

    def _matrix(self, side: PreparedSide, index: int, rows: Float32Array) -> PairMatrix:
        return pair_matrix(self._points(side, index, rows), _ENTRIES[self.metric.distance], seed=self.seed)

    def _make(self, layer: LayerRef, groups: list[rsa.RowNumbers], out: list[FloatArray]) -> list[StoredMatrix]:
        side, index, is_ranked = self._side(layer), layer.index, self.metric.method == "spearman"
        if not side.rows.is_streamed(index):
            return rsa.fill_pairs(self._matrix(side, index, side.rows.array(index)), groups, out, ranked=is_ranked)
        rows = side.rows.reader(index)
        sample = self._matrix(side, index, rows.take(draw_rows(side.n, SHIFT_ROWS, self.seed)))
        shift = 0.0 if is_ranked else sample.shift
        dtype = rsa.points_dtype(side.n, rows.dim)

        def of_some(taken: Float32Array) -> PairMatrix:
            points = self._points(side, index, taken)
            return replace(sample, points=points, norms=np.einsum("ij,ij->i", points, points), shift=shift)

        rsa.take_pairs(rows, of_some, groups, out)
        return rsa.centre_pairs(out, sample.shift, dtype, ranked=is_ranked)

    def _counts(self, layer: LayerRef) -> MantelCounts:
        n, seed = self.n, self.seed
        return self._side(layer).memoize(
            layer.index, CountsKey(self.metric), lambda: count_patterns(n, self._matrices(layer), seed)
        )

    # Matrices of all layers.

    @cached_property
    def _defined(self) -> tuple[list[LayerRef], list[LayerRef]]:
        of_a = [LayerRef("a", i) for i in range(self.shape[0]) if self._direction_reason(self.a, i) is None]
        of_b = [LayerRef("b", j) for j in range(self.shape[1]) if self._direction_reason(self.b, j) is None]
        return of_a, of_b

    @cached_property
    def _layers_max(self) -> int:
        """Number of layers of one side whose matrices fit in memory: at most half of what there is room for."""
        return max(1, MATRICES_BYTES // 2 // (4 * sum(len(ids) ** 2 for ids in self.groups)))

    @cached_property
    def _is_stored(self) -> bool:
        return all(len(layers) <= self._layers_max for layers in self._defined)

    def _empty(self, *shape: int) -> list[FloatArray]:
        dtype = np.float64 if self.n <= EXACT_ROWS else np.float32
        return [np.empty((*shape, len(ids), len(ids)), dtype) for ids in self.groups]

    @cached_property
    def _stacks(self) -> tuple[list[FloatArray], list[FloatArray]]:
        """Each side's stored matrices: for each group, those of all layers in one array."""
        of_a, of_b = self._defined
        return self._empty(len(of_a)), self._empty(len(of_b))

    def _matrices(self, layer: LayerRef) -> list[StoredMatrix]:
        if not self._is_stored:
            return self._make(layer, self.groups, self._empty())
        which = 0 if layer.side == "a" else 1
        place = self._defined[which].index(layer)
        out = [stack[place] for stack in self._stacks[which]]
        return self._side(layer).memoize(
            layer.index, DissimilaritiesKey(self.metric), lambda: self._make(layer, self.groups, out)
        )

    def _find_products(self, permutation: Permutation | None) -> tuple[Float64Array, dict[LayerRef, Square]]:
        """Find products and squares, for as many layers at once as fit in memory."""
        products = np.full(self.shape, np.nan)
        squares: dict[LayerRef, Square] = {}
        runs = [(of_a, of_b) for of_a in self._split(self._defined[0]) for of_b in self._split(self._defined[1])]
        for done, (of_a, of_b) in enumerate(runs):
            if permutation is None:
                self._report("dissimilarities", done, len(runs))
            layers = [self._matrices(a) for a in of_a] + [self._permuted_matrices(b, permutation) for b in of_b]
            if not layers:
                continue
            found = np.asarray(sum(find_sums(group)[1] for group in zip(*layers, strict=True)))
            products[self._indexes(of_a, of_b)] = found[: len(of_a), len(of_a) :]
            noise = [sum(group.noise for group in layer) for layer in layers]
            squares.update(zip((*of_a, *of_b), zip(np.diagonal(found).tolist(), noise, strict=True), strict=True))
        return products, squares

    @staticmethod
    def _indexes(of_a: Sequence[LayerRef], of_b: Sequence[LayerRef]) -> tuple[np.ndarray, ...]:
        return np.ix_([layer.index for layer in of_a], [layer.index for layer in of_b])

    def _permuted_matrices(self, layer: LayerRef, permutation: Permutation | None) -> list[StoredMatrix]:
        if permutation is None:
            return self._matrices(layer)
        return self._make(layer, [permutation[ids] for ids in self.groups], self._empty())

    def _permuted(self, permutation: Permutation) -> tuple[Float64Array, dict[LayerRef, Square]]:
        """Permute the stored matrices of all pairs; within groups the pairs change, and are computed and ranked again."""
        if not self._is_stored or len(self.groups) > 1:
            return self._find_products(permutation)
        products = np.full(self.products.shape, np.nan)
        of_a, of_b = self._defined
        if of_a and of_b:
            (stack_a,), (stack_b,) = self._stacks
            products[self._indexes(of_a, of_b)] = permuted_products(stack_a, stack_b, permutation)
        return products, self._squares

    def _split(self, layers: Sequence[LayerRef]) -> Iterator[Sequence[LayerRef]]:
        # One empty run if there are no layers: the other side has squares too.
        for start in range(0, max(1, len(layers)), self._layers_max):
            yield layers[start : start + self._layers_max]
