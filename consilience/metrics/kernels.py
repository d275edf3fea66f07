"""cka, rv, angular_cka and distance_correlation of two sides: transformations of one alignment of centred matrices."""

from collections.abc import Callable
from dataclasses import dataclass
from math import acos, sqrt

import numpy as np

from consilience.contract.kernel_metrics import AngularCka, Cka, DistanceCorrelation, Rv
from consilience.contract.scores import Reason
from consilience.metrics.comparison import Cell, Comparison, LayerRef, Measurement, find_reasons
from consilience.metrics.kernel_strategies import Kernel, KernelLayers, KernelStrategy, choose_strategy
from consilience.metrics.sides import CacheKey, PreparedSide
from consilience.numerics.kernels.cka import CkaOptions, cka, cka_null, jackknife, self_hsic
from consilience.numerics.kernels.matrices import MatrixSums
from consilience.numerics.rows.arrays import Float64Array
from consilience.numerics.stats.intervals import ConfidenceInterval, Replicates, jackknife_interval
from consilience.numerics.stats.nulls import AngleNull, ClosedFormNull, PearsonNull, Permutation, RootNull


@dataclass(frozen=True)
class Transformation:
    """Transformation of the alignment into a metric: the identity, the square root or the arc cosine."""

    value: Callable[[float], float]
    null: Callable[[PearsonNull], ClosedFormNull]
    is_decreasing: bool = False

    def interval(self, found: ConfidenceInterval) -> ConfidenceInterval:
        """Interval of the metric from that of the alignment."""
        low, high = self.value(found.low), self.value(found.high)
        return (
            ConfidenceInterval(high, low, found.method)
            if self.is_decreasing
            else ConfidenceInterval(low, high, found.method)
        )


IDENTITY = Transformation(lambda value: value, lambda null: null)
ROOT = Transformation(lambda value: sqrt(max(0.0, value)), RootNull)
ANGLE = Transformation(lambda value: acos(min(1.0, max(-1.0, value))), AngleNull, is_decreasing=True)

LINEAR = Kernel("inner")
BIASED = CkaOptions(debiased=False)


def measure_cka(metric: Cka, comparison: Comparison) -> Measurement:
    """Measure the alignment of every layer pair."""
    kernel = LINEAR if metric.kernel == "linear" else Kernel("gaussian", metric.sigma)
    return _measure(comparison, kernel, CkaOptions(metric.debiased, metric.definition), IDENTITY)


def measure_rv(metric: Rv, comparison: Comparison) -> Measurement:  # noqa: ARG001 - every measure takes its metric
    """Measure the RV coefficient of every layer pair."""
    return _measure(comparison, LINEAR, BIASED, IDENTITY)


def measure_angular_cka(metric: AngularCka, comparison: Comparison) -> Measurement:  # noqa: ARG001 - the same
    """Measure the angle between the kernels of every layer pair."""
    return _measure(comparison, LINEAR, BIASED, ANGLE)


def measure_distance_correlation(metric: DistanceCorrelation, comparison: Comparison) -> Measurement:
    """Measure the distance correlation of every layer pair."""
    options, transformation = (CkaOptions(), IDENTITY) if metric.bias_corrected else (BIASED, ROOT)
    return _measure(comparison, Kernel("distance"), options, transformation)


@dataclass(frozen=True)
class GridKey(CacheKey["KernelGrid"]):
    """Sums and products of all layers under one kernel, which its metrics share."""

    kernel: Kernel


class KernelGrid:
    """Layers of both sides under one kernel, and the strategy for their sums and products."""

    def __init__(self, comparison: Comparison, kernel: Kernel) -> None:
        self.layers = KernelLayers(comparison, kernel)
        self.strategy: KernelStrategy = choose_strategy(self.layers)

    def sums(self, cell: Cell) -> tuple[MatrixSums, MatrixSums]:
        """Return the sums of both layers of a pair."""
        return self.strategy.sums(LayerRef("a", cell[0])), self.strategy.sums(LayerRef("b", cell[1]))

    def reason(self, side: PreparedSide, index: int, options: CkaOptions) -> Reason | None:
        """Reason why a layer has no value: no matrix, no variation, or a self-similarity that is not above 0."""
        reason = self.layers.reason(side, index)
        if reason is not None:
            return reason
        layer = LayerRef("a" if side is self.layers.a else "b", index)
        own = self_hsic(self.strategy.sums(layer), debiased=options.debiased)
        if own > 0:
            return None
        name = side.layers[index].name
        return Reason(
            code="non-positive-self-similarity",
            detail=f"Layer {name} has a similarity of {own:.3g} with itself; the score divides by its root.",
        )

    def null(self, cell: Cell, options: CkaOptions) -> PearsonNull:
        """Null distribution of the alignment of a layer pair."""
        triangles = self.strategy.triangles(LayerRef("a", cell[0])), self.strategy.triangles(LayerRef("b", cell[1]))
        return cka_null(*self.sums(cell), options, triangles)

    def leave_one_out(self, cell: Cell, options: CkaOptions) -> Float64Array | Reason:
        """Alignment of a layer pair with each row left out in turn."""
        if self.layers.n < 5:
            return Reason(code="too-few-rows", detail="Without one of its 4 rows the score is undefined.")
        product = float(self.strategy.products[cell])
        row_sums = self.strategy.row_sums(cell, debiased=options.debiased)
        return jackknife(product, self.sums(cell), row_sums, options)

    def interval(self, cell: Cell, options: CkaOptions, level: float) -> ConfidenceInterval | Reason:
        """Jackknife interval of the alignment of a layer pair."""
        values = self.leave_one_out(cell, options)
        if isinstance(values, Reason):
            return values
        alignment = cka(float(self.strategy.products[cell]), *self.sums(cell), options)
        found = jackknife_interval(alignment, values, level)
        if found is None:
            return Reason(code="undefined-without-a-row", detail="Without one of the rows the score is undefined.")
        return found if options.debiased else ConfidenceInterval(max(0.0, found.low), found.high, found.method)


def _measure(
    comparison: Comparison, kernel: Kernel, options: CkaOptions, transformation: Transformation
) -> Measurement:
    matrices = comparison.memoize(GridKey(kernel), lambda: KernelGrid(comparison, kernel))
    reasons = find_reasons(comparison, lambda side, index: matrices.reason(side, index, options))

    def transform(products: Float64Array, permutation: Permutation | None = None) -> Float64Array:
        grid = np.full(products.shape, np.nan)
        for cell in (cell for cell in np.ndindex(*comparison.shape) if cell not in reasons):
            grid[cell] = transformation.value(cka(float(products[cell]), *matrices.sums(cell), options, permutation))
        return grid

    def interval(i: int, j: int, level: float) -> ConfidenceInterval | Reason:
        found = matrices.interval((i, j), options, level)
        return found if isinstance(found, Reason) else transformation.interval(found)

    def replicates(i: int, j: int) -> Replicates | Reason:
        found = matrices.leave_one_out((i, j), options)
        if isinstance(found, Reason):
            return found
        values = np.array([transformation.value(float(value)) for value in found])
        return Replicates(values, (comparison.n - 1) / comparison.n, "jackknife")

    return Measurement(
        grid=transform(matrices.strategy.products),
        reasons=reasons,
        null=lambda i, j: transformation.null(matrices.null((i, j), options)),
        permuted=lambda permutation: transform(matrices.strategy.permuted(permutation), permutation),
        interval=interval,
        replicates=replicates,
    )
