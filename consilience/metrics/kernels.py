"""cka, rv, angular_cka and distance_correlation on two sides: one algebra of centred matrices, four readings of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import acos, sqrt
from typing import Literal

import numpy as np

from consilience.contract.kernel_metrics import AngularCka, Cka, DistanceCorrelation, Rv
from consilience.contract.scores import Reason
from consilience.metrics.comparison import Comparison, Report, Side
from consilience.metrics.measurement import Measurement, find_reasons
from consilience.numerics.kernels import matrices as pairwise
from consilience.numerics.kernels.cka import CkaOptions, cka, cka_null, jackknife, jackknife_weights, self_hsic
from consilience.numerics.kernels.linear import PackedKernel, linear_product, linear_product_row_sums, linear_sums
from consilience.numerics.kernels.matrices import (
    LowerMatrix,
    MatrixSums,
    PairMatrix,
    ProductRowSums,
    RowProgress,
    StoredMatrix,
    find_product_row_sums,
    find_sums,
    permuted_products,
    triangle_share,
)
from consilience.numerics.rows.arrays import Float64Array
from consilience.numerics.stats.intervals import ConfidenceInterval, Replicates, jackknife_interval
from consilience.numerics.stats.nulls import AngleNull, ClosedFormNull, PearsonNull, Permutation, RootNull
from consilience.numerics.subspaces.moments import (
    FloatArray,
    PairMoments,
    find_moments,
    find_own_moments,
    working_dtype,
)

#: Bytes of all layers' n x n matrices up to which they are kept for permutation draws: one pair of n = 8192, or 60 layers of
#: n = 1024. Above, every draw makes their blocks anew: as slow as the value itself, but no larger.
WHOLE_BYTES = 600_000_000
#: Bytes of the points of one side's layers that one pass over blocks holds.
POINTS_BYTES = 256_000_000
#: Rows up to which kept matrices are float64.
EXACT_ROWS = 512
#: Rows from which a law's skew is found.
SKEW_ROWS = 1024
#: Rows up to which one pair of layers is compared through kept halves of their linear kernels, 8 MB each.
PACKED_ROWS = 2048
#: A multiply-add of a block of a kernel, and of the product of two kernels, in those of a plain product; measured.
_BLOCK_COST, _ENTRY_COST = 0.75, 4.0

Cell = tuple[int, int]


@dataclass(frozen=True)
class Kernel:
    """Which matrix of each layer is compared: linear, gaussian with a width, or Euclidean distances."""

    entry: Literal["inner", "gaussian", "distance"]
    sigma: float | Literal["median"] = 1.0

    @property
    def name(self) -> str:
        """What tells it from all others."""
        return f"{self.entry} {self.sigma}" if self.entry == "gaussian" else self.entry


@dataclass
class KernelGrid:
    """All layers of both sides under one kernel.

    Linear kernels are compared through the features, O(n p q) a pair, or through blocks of their n x n matrices, O(n^2 d) a
    layer and O(n^2) a pair, whichever is less work for the grid; other kernels always through blocks.
    """

    a: Side
    b: Side
    seed: int
    report: Report
    kernel: Kernel
    _found: dict[tuple[str, int], MatrixSums] = field(default_factory=dict)
    _pair: tuple[Cell, PairMoments] | None = None
    _rows: dict[bool, ProductRowSums] = field(default_factory=dict)

    def reason(self, side: Side, index: int) -> Reason | None:
        """Why a layer has no such matrix."""
        reason = side.reason(index)
        if reason is None and self.kernel.sigma == "median" and self._sigma(side, index) == 0:
            name = side.layers[index].name
            return Reason(
                code="zero-median-distance",
                detail=f"Half of the pairs of rows of layer {name} are equal: the median distance, its kernel's width, is 0.",
            )
        return reason

    def sums(self, side: Side, index: int) -> MatrixSums:
        """Sums of one layer that has no reason."""
        if self._packs:
            return self._packed(side, index).sums
        self.products  # noqa: B018 - the pass that finds the products finds the sums
        return self._found[self._letter(side), index]

    @cached_property
    def products(self) -> Float64Array:
        """sum_{i != j} K[i, j] L[i, j] of every layer pair; NaN where a layer has a reason."""
        if self._packs:
            return self._through_packed()
        return self._through_features() if self._by_features else self._through_blocks(None)

    def permuted(self, permutation: Permutation) -> Float64Array:
        """The products with b's items relabelled."""
        if self._relabels:
            return self._through_stored(permutation)
        return self._through_features(permutation) if self._by_features else self._through_blocks(permutation)

    def triangles(self, side: Side, index: int) -> float:
        """What the skew of a law needs of a layer: see `triangle_share`; from at most 1024 rows drawn with the seed."""
        if self._packs:
            return self._packed(side, index).triangles
        return self._find_triangles(side, index)

    def _find_triangles(self, side: Side, index: int) -> float:
        def find() -> float:
            rows = pairwise.draw_rows(self.a.n, SKEW_ROWS, self.seed)
            if self.kernel.entry == "inner":
                points = side.centred(index).take(rows, np.dtype(np.float32))
                return triangle_share(pairwise.pair_matrix(points, "inner"))
            return triangle_share(self._made(side, index).take(rows))

        return side.keep(index, f"triangles {self.kernel.name}", find)

    def pair_rows(self, cell: Cell, *, debiased: bool) -> tuple[ProductRowSums, ProductRowSums, ProductRowSums]:
        """Row sums of one layer pair and of each layer with itself, for the jackknife."""
        a, b = self.a, self.b
        if self._packs:
            of_a, of_b = self._packed(a, cell[0]), self._packed(b, cell[1])
            shared = self._shared_rows(debiased=debiased)
            return shared, of_a.own_row_sums(debiased=debiased), of_b.own_row_sums(debiased=debiased)
        if self._by_features:
            x, y = a.centred(cell[0]), b.centred(cell[1])
            kept = self._pair
            moments = (
                kept[1] if kept and kept[0] == cell else find_moments(x, y, parts=a.parts, progress=self._step(0, 2))
            )
            return linear_product_row_sums(x, y, moments, debiased=debiased, parts=a.parts, progress=self._step(1, 2))
        w_a, w_b = (
            jackknife_weights(self.sums(side, index), debiased=debiased)
            for side, index in zip((a, b), cell, strict=True)
        )
        return find_product_row_sums((self._matrix(a, cell[0]), self._matrix(b, cell[1])), (w_a, w_b))

    # How it is found.

    def _letter(self, side: Side) -> str:
        return "a" if side is self.a else "b"

    @cached_property
    def _defined(self) -> tuple[list[int], list[int]]:
        """The layers of each side that have a matrix."""
        a, b = (
            [index for index in range(len(side.layers)) if self.reason(side, index) is None]
            for side in (self.a, self.b)
        )
        return a, b

    def _dims(self, side: Side, layers: Sequence[int]) -> list[int]:
        return [side.layers[index].dim for index in layers]

    @cached_property
    def _by_features(self) -> bool:
        """Whether the features are the shorter way to the values of the whole grid."""
        if self.kernel.entry != "inner":
            return False
        n, (of_a, of_b) = self.a.n, self._defined
        p, q = self._dims(self.a, of_a), self._dims(self.b, of_b)
        features = n * (sum(d * d for d in p + q) + sum(p) * sum(q))
        blocks = n**2 * (_BLOCK_COST * (sum(p) + sum(q)) + _ENTRY_COST / 2 * (len(p) + len(q)) ** 2)
        return features <= blocks

    @cached_property
    def _room(self) -> bool:
        """Whether the n x n matrices of all layers may be kept."""
        of_a, of_b = self._defined
        return 4 * self.a.n**2 * (len(of_a) + len(of_b)) <= WHOLE_BYTES

    @cached_property
    def _stored(self) -> bool:
        """Whether values come from kept matrices: where they are smaller than the rows themselves."""
        of_a, of_b = self._defined
        dims = self._dims(self.a, of_a) + self._dims(self.b, of_b)
        return not self._by_features and self._room and self.a.n * len(dims) < sum(dims)

    @cached_property
    def _relabels(self) -> bool:
        """Whether draws relabel kept matrices: where there is room and, for features, n^2 <= 4 p q on average."""
        if not self._by_features:
            return self._room
        n, (of_a, of_b) = self.a.n, self._defined
        p, q = self._dims(self.a, of_a), self._dims(self.b, of_b)
        return self._room and n * n * len(p) * len(q) <= 4 * sum(p) * sum(q)

    @cached_property
    def _packs(self) -> bool:
        """Whether halves of both kernels are kept: of one pair of layers whose entries are float32 and not many."""
        of_a, of_b = self._defined
        if self.kernel.entry != "inner" or self._by_features or not len(of_a) == len(of_b) == 1:
            return False
        sides = (self.a, of_a[0]), (self.b, of_b[0])
        single = all(working_dtype(0.5 * self.a.n**2 * side.layers[i].dim) == np.float32 for side, i in sides)
        return single and self.a.n <= PACKED_ROWS and not any(side.streams(i) for side, i in sides)

    def _packed(self, side: Side, index: int) -> PackedKernel:
        def find() -> PackedKernel:
            drawn = self._find_triangles(side, index) if self.a.n > SKEW_ROWS else None
            return PackedKernel.of(self._made(side, index), drawn)

        drawn = f" seed={self.seed}" if self.a.n > SKEW_ROWS else ""
        return side.keep_matrix(index, f"linear kernel{drawn}", find, PackedKernel)

    def _through_packed(self) -> Float64Array:
        out = self._empty()
        (i,), (j,) = self._defined
        out[i, j] = self._shared_rows(debiased=True).product.sum()
        return out

    def _shared_rows(self, *, debiased: bool) -> ProductRowSums:
        (i,), (j,) = self._defined
        if debiased not in self._rows:
            self._rows[debiased] = self._packed(self.a, i).row_sums_with(self._packed(self.b, j), debiased=debiased)
        return self._rows[debiased]

    def _sigma(self, side: Side, index: int) -> float:
        """The width of a layer's kernel."""
        if self.kernel.sigma != "median":
            return self.kernel.sigma
        seed = self.seed
        return side.keep(index, "median distance", lambda: pairwise.median_distance(side.centred(index), seed))

    def _matrix(self, side: Side, index: int) -> LowerMatrix:
        """The matrix of one layer, kept where all are."""
        return self._stacks[self._letter(side)][1][index] if self._stored else self._made(side, index)

    def _made(self, side: Side, index: int) -> PairMatrix:
        points = pairwise.centre_rows(side.rows(index), side.centred(index).mean)
        return pairwise.pair_matrix(points, self.kernel.entry, self._sigma(side, index), seed=self.seed)

    @cached_property
    def _stacks(self) -> dict[str, tuple[FloatArray, dict[int, StoredMatrix]]]:
        """The kept n x n matrices of both sides, those of a side in one array, and each of them by its layer."""
        sides = {"a": self.a, "b": self.b}
        return {
            letter: self._stack(side, layers)
            for (letter, side), layers in zip(sides.items(), self._defined, strict=True)
        }

    def _stack(self, side: Side, layers: Sequence[int]) -> tuple[FloatArray, dict[int, StoredMatrix]]:
        n = self.a.n
        stack = np.empty((len(layers), n, n), np.float64 if n <= EXACT_ROWS else np.float32)
        stored = {}
        for place, index in enumerate(layers):
            self.report("kernels", place, len(layers))
            stored[index] = self._made(side, index).store(stack[place])
        return stack, stored

    def _empty(self) -> Float64Array:
        return np.full((len(self.a.layers), len(self.b.layers)), np.nan)

    def _through_features(self, permutation: Permutation | None = None) -> Float64Array:
        """Go over the features of every layer pair; the first pair of a layer finds its own sums in the same pass."""
        out = self._empty()
        of_a, of_b = self._defined
        cells = [(i, j) for i in of_a for j in of_b]
        for done, (i, j) in enumerate(cells):
            step = self._step(done, len(cells)) if permutation is None else None
            moments = self._find_pair((i, j), permutation, step)
            norms = self._found["a", i].diagonal, self._found["b", j].diagonal
            out[i, j] = linear_product(moments.cross, norms, permutation)
        for letter, side, index in [("a", self.a, i) for i in of_a] + [("b", self.b, j) for j in of_b]:
            if (letter, index) not in self._found:  # the other side has no layer to go over it with
                rows = side.centred(index)
                self._found[letter, index] = linear_sums(find_own_moments(rows))
        return out

    def _find_pair(self, cell: Cell, permutation: Permutation | None, step: RowProgress | None) -> PairMoments:
        places = ("a", cell[0]), ("b", cell[1])
        own = places[0] not in self._found, places[1] not in self._found
        x, y = self.a.centred(cell[0]), self.b.centred(cell[1])
        moments = find_moments(x, y, own=own, order=permutation, parts=self.a.parts, progress=step)
        for place, found in zip(places, (moments.a, moments.b), strict=True):
            if found is not None:
                self._found[place] = linear_sums(found)
        if all(own):
            self._pair = cell, moments
        return moments

    def _through_blocks(self, permutation: Permutation | None) -> Float64Array:
        """Find sums and products by passes over blocks of as many layers as there is room for."""
        a, b = self.a, self.b
        out = self._empty()
        runs = [(of_a, of_b) for of_a in self._runs(a, self._defined[0]) for of_b in self._runs(b, self._defined[1])]
        for done, (of_a, of_b) in enumerate(runs):
            matrices = [self._matrix(a, i) for i in of_a] + [self._paired(j, permutation) for j in of_b]
            if not matrices:
                continue
            sums, products = find_sums(matrices, self._step(done, len(runs)) if permutation is None else None)
            out[np.ix_(of_a, of_b)] = products[: len(of_a), len(of_a) :]
            if permutation is None:
                names = [("a", i) for i in of_a] + [("b", j) for j in of_b]
                self._found.update(zip(names, sums, strict=True))
        return out

    def _paired(self, index: int, permutation: Permutation | None) -> LowerMatrix:
        side = self.b
        return self._matrix(side, index) if permutation is None else self._made(side, index).take(permutation)

    def _step(self, done: int, runs: int) -> RowProgress:
        return lambda rows, n: self.report("kernels", done * n + rows, runs * n)

    def _runs(self, side: Side, layers: Sequence[int]) -> Iterator[list[int]]:
        """Layers whose points fit in memory together; one run of none where there are none: the other side has sums too."""
        run: list[int] = []
        held = 0
        for index in layers:
            size = 0 if self._stored else 4 * self.a.n * side.layers[index].dim
            if run and held + size > POINTS_BYTES:
                yield run
                run, held = [], 0
            run.append(index)
            held += size
        yield run

    def _through_stored(self, permutation: Permutation) -> Float64Array:
        of_a, of_b = self._defined
        out = self._empty()
        if of_a and of_b:
            out[np.ix_(of_a, of_b)] = permuted_products(self._stacks["a"][0], self._stacks["b"][0], permutation)
        return out


@dataclass(frozen=True)
class Reading:
    """How a metric reads the alignment: as it is, its root, or its angle."""

    value: Callable[[float], float]
    law: Callable[[PearsonNull], ClosedFormNull]
    bounds: Callable[[ConfidenceInterval], ConfidenceInterval]


def _root(value: float) -> float:
    return sqrt(max(0.0, value))


def _angle(value: float) -> float:
    return acos(min(1.0, max(-1.0, value)))


AS_IT_IS = Reading(lambda value: value, lambda law: law, lambda bounds: bounds)
ROOT = Reading(_root, RootNull, lambda bounds: ConfidenceInterval(_root(bounds.low), _root(bounds.high), bounds.method))
ANGLE = Reading(
    _angle, AngleNull, lambda bounds: ConfidenceInterval(_angle(bounds.high), _angle(bounds.low), bounds.method)
)

LINEAR = Kernel("inner")
BIASED = CkaOptions(debiased=False)


def measure_cka(metric: Cka, comparison: Comparison) -> Measurement:
    """Measure the alignment of every layer pair."""
    kernel = LINEAR if metric.kernel == "linear" else Kernel("gaussian", metric.sigma)
    return _measure(comparison, kernel, CkaOptions(metric.debiased, metric.definition), AS_IT_IS)


def measure_rv(metric: Rv, comparison: Comparison) -> Measurement:  # noqa: ARG001 - every measure takes its metric
    """Measure the RV coefficient of every layer pair."""
    return _measure(comparison, LINEAR, BIASED, AS_IT_IS)


def measure_angular_cka(metric: AngularCka, comparison: Comparison) -> Measurement:  # noqa: ARG001 - the same
    """Measure the angle between the kernels of every layer pair."""
    return _measure(comparison, LINEAR, BIASED, ANGLE)


def measure_distance_correlation(metric: DistanceCorrelation, comparison: Comparison) -> Measurement:
    """Measure the distance correlation of every layer pair."""
    options, reading = (CkaOptions(), AS_IT_IS) if metric.bias_corrected else (BIASED, ROOT)
    return _measure(comparison, Kernel("distance"), options, reading)


def _measure(comparison: Comparison, kernel: Kernel, options: CkaOptions, reading: Reading) -> Measurement:
    a, b = comparison.a, comparison.b
    matrices = comparison.keep(
        f"matrices {kernel.name}", lambda: KernelGrid(a, b, comparison.seed, comparison.report, kernel)
    )
    reasons = find_reasons(comparison, lambda side, index: _layer_reason(matrices, side, index, options))

    def read(products: Float64Array, permutation: Permutation | None = None) -> Float64Array:
        grid = np.full(products.shape, np.nan)
        for i, j in (cell for cell in np.ndindex(*grid.shape) if cell not in reasons):
            value = cka(float(products[i, j]), matrices.sums(a, i), matrices.sums(b, j), options, permutation)
            grid[i, j] = reading.value(value)
        return grid

    def law(i: int, j: int) -> ClosedFormNull:
        triangles = matrices.triangles(a, i), matrices.triangles(b, j)
        return reading.law(cka_null(matrices.sums(a, i), matrices.sums(b, j), options, triangles))

    def bounds(i: int, j: int, level: float) -> ConfidenceInterval | Reason:
        found = _bounds(matrices, options, (i, j), level)
        return reading.bounds(found) if isinstance(found, ConfidenceInterval) else found

    def replicates(i: int, j: int) -> Replicates | Reason:
        found = _leave_out_each(matrices, options, (i, j))
        if isinstance(found, Reason):
            return found
        values = np.array([reading.value(float(value)) for value in found])
        return Replicates(values, (a.n - 1) / a.n, "jackknife")

    return Measurement(
        grid=read(matrices.products),
        reasons=reasons,
        law=law,
        permuted=lambda permutation: read(matrices.permuted(permutation), permutation),
        bounds=bounds,
        replicates=replicates,
    )


def _leave_out_each(matrices: KernelGrid, options: CkaOptions, cell: Cell) -> Float64Array | Reason:
    """The alignment of a layer pair with each row left out in turn."""
    if matrices.a.n < 5:
        return Reason(code="too-few-rows", detail="Leaving a row out of 4 leaves the score undefined.")
    sides = matrices.sums(matrices.a, cell[0]), matrices.sums(matrices.b, cell[1])
    return jackknife(
        float(matrices.products[cell]), sides, matrices.pair_rows(cell, debiased=options.debiased), options
    )


def _bounds(matrices: KernelGrid, options: CkaOptions, cell: Cell, level: float) -> ConfidenceInterval | Reason:
    without_each = _leave_out_each(matrices, options, cell)
    if isinstance(without_each, Reason):
        return without_each
    product = float(matrices.products[cell])
    sides = matrices.sums(matrices.a, cell[0]), matrices.sums(matrices.b, cell[1])
    found = jackknife_interval(cka(product, *sides, options), without_each, level)
    if found is None:
        return Reason(code="undefined-without-a-row", detail="Leaving out one of the rows makes the score undefined.")
    return found if options.debiased else ConfidenceInterval(max(0.0, found.low), found.high, found.method)


def _layer_reason(matrices: KernelGrid, side: Side, index: int, options: CkaOptions) -> Reason | None:
    """Say why a layer has no value: no direction, no variation, or a self-similarity that is not above 0."""
    reason = matrices.reason(side, index)
    if reason is not None:
        return reason
    own = self_hsic(matrices.sums(side, index), debiased=options.debiased)
    if own > 0:
        return None
    return Reason(
        code="non-positive-self-similarity",
        detail=f"Layer {side.layers[index].name} has a similarity with itself of {own:.3g}; the score divides by its root.",
    )
