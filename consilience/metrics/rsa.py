"""rsa on two sides: each layer's dissimilarities, ranked once, then compared and relabelled like any kernel."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from consilience.contract.kernel_metrics import Rsa
from consilience.contract.scores import Reason
from consilience.errors import InvalidRequest
from consilience.metrics.comparison import Comparison, Report, Side
from consilience.metrics.kernels import EXACT_ROWS, WHOLE_BYTES, Cell
from consilience.metrics.measurement import Measurement, find_reasons
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

#: Rows up to which `auto` takes all pairs, and the pairs it takes above.
AUTO_ROWS, AUTO_PAIRS = 4096, 4_000_000
#: Rows up to which all pairs can be asked for: 268 MB a layer.
ALL_ROWS_MAX = 8192
_ENTRIES: dict[rsa.Distance, Entry] = {"cosine": "angle", "correlation": "angle", "euclidean": "distance"}


def measure_rsa(metric: Rsa, comparison: Comparison) -> Measurement:
    """Measure the correlation of the dissimilarities of every layer pair.

    Raises
    ------
    InvalidRequest
        All pairs of more than 8192 rows.
    """
    name = f"dissimilarities {metric.method} {metric.distance} {metric.pairs}"
    pairs = comparison.keep(
        name, lambda: PairGrid(comparison.a, comparison.b, comparison.seed, comparison.report, metric, name)
    )
    reasons = find_reasons(comparison, pairs.reason)
    return Measurement(
        grid=pairs.read(reasons),
        reasons=reasons,
        law=pairs.law,
        permuted=lambda permutation: pairs.read(reasons, permutation),
        bounds=pairs.bounds,
    )


def choose_pairs(metric: Rsa, n: int) -> int | None:
    """How many pairs are taken; None for all."""
    if metric.pairs == "auto":
        return None if n <= AUTO_ROWS else AUTO_PAIRS
    if metric.pairs == "all" and n > ALL_ROWS_MAX:
        raise InvalidRequest(
            f"All pairs of {n} rows are too many: at most {ALL_ROWS_MAX} rows.",
            value=n,
            limit=ALL_ROWS_MAX,
            hint="Leave `pairs` at `auto`, or give a number of pairs.",
            pointer="/metrics",
        )
    return None if metric.pairs == "all" else metric.pairs


@dataclass
class PairGrid:
    """The dissimilarities of all layers of both sides, within the same groups of items."""

    a: Side
    b: Side
    seed: int
    report: Report
    metric: Rsa
    name: str
    _squares: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)

    @cached_property
    def groups(self) -> list[rsa.RowNumbers]:
        """The items whose pairs count: one group of all, or groups dealt with the seed."""
        pairs = choose_pairs(self.metric, self.a.n)
        return rsa.draw_groups(self.a.n, pairs, self.seed)

    def reason(self, side: Side, index: int) -> Reason | None:
        """Why a layer has no dissimilarities, or none that vary."""
        reason = self._pointless(side, index)
        if reason is not None:
            return reason
        self.products  # noqa: B018 - the pass that finds the products finds the squares
        square, noise = self._squares[self._letter(side), index]
        if square > noise:
            return None
        name = side.layers[index].name
        return Reason(code="constant-distances", detail=f"All pairs of rows of layer {name} are equally far apart.")

    def read(self, reasons: dict[Cell, Reason], permutation: Permutation | None = None) -> Float64Array:
        """Correlations of all layer pairs, with b's items relabelled; NaN where there is a reason."""
        products, squares = self.products, self._squares
        if permutation is not None:
            products, squares = self._permuted(permutation)
        grid = np.full(products.shape, np.nan)
        for i, j in (cell for cell in np.ndindex(*grid.shape) if cell not in reasons):
            grid[i, j] = rsa.rsa(float(products[i, j]), squares["a", i][0], squares["b", j][0])
        return grid

    def law(self, i: int, j: int) -> PearsonNull:
        """The null law of one layer pair."""
        return mantel_null(self._counts(self.a, i), self._counts(self.b, j))

    def bounds(self, i: int, j: int, level: float) -> ConfidenceInterval | Reason:
        """The population interval of one layer pair, by leaving out items; ranks are kept as they are."""
        n = self.a.n
        if n < 5:
            return Reason(code="too-few-rows", detail="Leaving a row out of 4 leaves too few pairs.")
        products, rows, pairs = np.zeros((3, n)), np.zeros((2, n)), np.zeros(n)
        of_a, of_b = self._matrices(self.a, i), self._matrices(self.b, j)
        for ids, left, right in zip(self.groups, of_a, of_b, strict=True):
            nothing = np.zeros(len(ids))
            for place, found in enumerate(find_product_row_sums((left, right), (nothing, nothing))):
                products[place, ids] = found.product
            rows[:, ids] = left.entries.sum(axis=1, dtype=np.float64), right.entries.sum(axis=1, dtype=np.float64)
            pairs[ids] = len(ids) - 1
        totals = products.sum(axis=1).tolist()
        without_each = rsa.rsa_without_each(products, rows, pairs)
        found_bounds = jackknife_interval(rsa.rsa(*totals), without_each, level)
        return found_bounds or Reason(
            code="undefined-without-a-row", detail="Without one of the rows, the distances of the others do not vary."
        )

    @cached_property
    def products(self) -> Float64Array:
        """sum_{i != j} a_ij b_ij over all pairs of every layer pair; NaN where a layer has no points."""
        products, self._squares = self._through_groups(None)
        return products

    # How it is found.

    def _letter(self, side: Side) -> str:
        return "a" if side is self.a else "b"

    def _pointless(self, side: Side, index: int) -> Reason | None:
        def find() -> Reason | None:
            reason = side.reason(index)
            if reason is not None or self._has_points(side, index):
                return reason
            what = "zero" if self.metric.distance == "cosine" else "of equal values"
            return Reason(
                code="rows-without-direction",
                detail=f"A row of layer {side.layers[index].name} is {what}: it has no {self.metric.distance} with others.",
            )

        return side.keep(index, f"pointless {self.metric.distance}", find)

    @cached_property
    def _defined(self) -> tuple[list[int], list[int]]:
        a, b = (
            [index for index in range(len(side.layers)) if self._pointless(side, index) is None]
            for side in (self.a, self.b)
        )
        return a, b

    @cached_property
    def _dtype(self) -> type[np.float32] | type[np.float64]:
        return np.float64 if self.a.n <= EXACT_ROWS else np.float32

    @cached_property
    def _layers_max(self) -> int:
        """Layers of one side whose matrices may be kept: all of them, or half of what there is room for."""
        return max(1, WHOLE_BYTES // 2 // (4 * sum(len(ids) ** 2 for ids in self.groups)))

    @cached_property
    def _kept(self) -> bool:
        return all(len(layers) <= self._layers_max for layers in self._defined)

    @cached_property
    def _stacks(self) -> tuple[list[FloatArray], list[FloatArray]]:
        """Each side's kept matrices, for each group those of all layers in one array."""
        a, b = ([np.empty((len(of), len(ids), len(ids)), self._dtype) for ids in self.groups] for of in self._defined)
        return a, b

    def _matrices(self, side: Side, index: int) -> list[StoredMatrix]:
        """One matrix a group, of one layer."""
        if not self._kept:
            return self._make(side, index, self.groups, self._fresh())
        which = 0 if side is self.a else 1
        place = self._defined[which].index(index)
        out = [stack[place] for stack in self._stacks[which]]
        return side.keep(index, self.name, lambda: self._make(side, index, self.groups, out))

    def _fresh(self) -> list[FloatArray]:
        return [np.empty((len(ids), len(ids)), self._dtype) for ids in self.groups]

    def _find_points(self, side: Side, index: int, rows: Float32Array) -> FloatArray | None:
        return rsa.find_points(rows, self.metric.distance, side.scan(index).mean, side.n)

    def _has_points(self, side: Side, index: int) -> bool:
        return all(self._find_points(side, index, rows) is not None for _, rows in blocks(side.reader(index)))

    def _points(self, side: Side, index: int, rows: Float32Array) -> FloatArray:
        points = self._find_points(side, index, rows)
        if points is None:
            raise AssertionError("a layer without points is left out")
        return points

    def _matrix(self, side: Side, index: int, rows: Float32Array) -> PairMatrix:
        return pair_matrix(self._points(side, index, rows), _ENTRIES[self.metric.distance], seed=self.seed)

    def _make(self, side: Side, index: int, groups: list[rsa.RowNumbers], out: list[FloatArray]) -> list[StoredMatrix]:
        ranked = self.metric.method == "spearman"
        if not side.streams(index):
            return rsa.fill_pairs(self._matrix(side, index, side.rows(index)), groups, out, ranked=ranked)
        rows = side.reader(index)
        sample = self._matrix(side, index, rows.take(draw_rows(side.n, SHIFT_ROWS, self.seed)))
        shift = 0.0 if ranked else sample.shift
        dtype = rsa.points_dtype(side.n, rows.dim)

        def of_some(taken: Float32Array) -> PairMatrix:
            points = self._points(side, index, taken)
            return replace(sample, points=points, norms=np.einsum("ij,ij->i", points, points), shift=shift)

        rsa.take_pairs(rows, of_some, groups, out)
        return rsa.centre_pairs(out, sample.shift, dtype, ranked=ranked)

    def _counts(self, side: Side, index: int) -> MantelCounts:
        n, seed = self.a.n, self.seed
        return side.keep(index, f"counts {self.name}", lambda: count_patterns(n, self._matrices(side, index), seed))

    def _through_groups(
        self, permutation: Permutation | None
    ) -> tuple[Float64Array, dict[tuple[str, int], tuple[float, float]]]:
        """Find products, and squares with their rounding, for as many layers at once as there is room for."""
        a, b = self.a, self.b
        products = np.full((len(a.layers), len(b.layers)), np.nan)
        squares: dict[tuple[str, int], tuple[float, float]] = {}
        runs = [(of_a, of_b) for of_a in self._runs(self._defined[0]) for of_b in self._runs(self._defined[1])]
        for done, (of_a, of_b) in enumerate(runs):
            if permutation is None:
                self.report("dissimilarities", done, len(runs))
            layers = [self._matrices(a, i) for i in of_a] + [self._paired(j, permutation) for j in of_b]
            if not layers:
                continue
            found = _compare(layers)
            products[np.ix_(of_a, of_b)] = found[: len(of_a), len(of_a) :]
            names = [("a", i) for i in of_a] + [("b", j) for j in of_b]
            noise = [sum(group.noise for group in layer) for layer in layers]
            squares.update(zip(names, zip(np.diagonal(found).tolist(), noise, strict=True), strict=True))
        return products, squares

    def _paired(self, index: int, permutation: Permutation | None) -> list[StoredMatrix]:
        side = self.b
        if permutation is None:
            return self._matrices(side, index)
        return self._make(side, index, [permutation[ids] for ids in self.groups], self._fresh())

    def _permuted(self, permutation: Permutation) -> tuple[Float64Array, dict[tuple[str, int], tuple[float, float]]]:
        """Relabel kept matrices of all pairs; within groups the pairs change, and are made and ranked anew."""
        if not self._kept or len(self.groups) > 1:
            return self._through_groups(permutation)
        products = np.full(self.products.shape, np.nan)
        of_a, of_b = self._defined
        if of_a and of_b:
            (stack_a,), (stack_b,) = self._stacks
            products[np.ix_(of_a, of_b)] = permuted_products(stack_a, stack_b, permutation)
        return products, self._squares

    def _runs(self, layers: Sequence[int]) -> Iterator[Sequence[int]]:
        # One run of none where there are none: the other side has squares too.
        for start in range(0, max(1, len(layers)), self._layers_max):
            yield layers[start : start + self._layers_max]


def _compare(layers: list[list[StoredMatrix]]) -> Float64Array:
    """Products of each layer with each, summed over all groups: (L, L)."""
    return np.asarray(sum(find_sums(group)[1] for group in zip(*layers, strict=True)))
