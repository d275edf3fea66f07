"""cka, rv, angular_cka and distance_correlation on two sides: one algebra of centred matrices, four readings of it."""

from collections.abc import Callable
from dataclasses import dataclass
from math import acos, sqrt

import numpy as np

from consilience.contract.kernel_metrics import AngularCka, Cka, DistanceCorrelation, Rv
from consilience.contract.scores import Reason
from consilience.measures.comparison import Comparison, Side
from consilience.measures.kernel_grid import Cell, Kernel, KernelGrid
from consilience.measures.measurement import Measurement, find_reasons
from consilience.numerics.arrays import Float64Array
from consilience.numerics.cka import CkaOptions, cka, cka_law, jackknife, self_hsic
from consilience.numerics.intervals import Bounds, Replicates, jackknife_bounds
from consilience.numerics.nulls import AngleLaw, Law, NullLaw, RootLaw
from consilience.numerics.permutations import Permutation


@dataclass(frozen=True)
class Reading:
    """How a metric reads the alignment: as it is, its root, or its angle."""

    value: Callable[[float], float]
    law: Callable[[NullLaw], Law]
    bounds: Callable[[Bounds], Bounds]


def _root(value: float) -> float:
    return sqrt(max(0.0, value))


def _angle(value: float) -> float:
    return acos(min(1.0, max(-1.0, value)))


AS_IT_IS = Reading(lambda value: value, lambda law: law, lambda bounds: bounds)
ROOT = Reading(_root, RootLaw, lambda bounds: Bounds(_root(bounds.low), _root(bounds.high), bounds.method))
ANGLE = Reading(_angle, AngleLaw, lambda bounds: Bounds(_angle(bounds.high), _angle(bounds.low), bounds.method))

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

    def law(i: int, j: int) -> Law:
        triangles = matrices.triangles(a, i), matrices.triangles(b, j)
        return reading.law(cka_law(matrices.sums(a, i), matrices.sums(b, j), options, triangles))

    def bounds(i: int, j: int, level: float) -> Bounds | Reason:
        found = _bounds(matrices, options, (i, j), level)
        return reading.bounds(found) if isinstance(found, Bounds) else found

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


def _bounds(matrices: KernelGrid, options: CkaOptions, cell: Cell, level: float) -> Bounds | Reason:
    without_each = _leave_out_each(matrices, options, cell)
    if isinstance(without_each, Reason):
        return without_each
    product = float(matrices.products[cell])
    sides = matrices.sums(matrices.a, cell[0]), matrices.sums(matrices.b, cell[1])
    found = jackknife_bounds(cka(product, *sides, options), without_each, level)
    if found is None:
        return Reason(code="undefined-without-a-row", detail="Leaving out one of the rows makes the score undefined.")
    return found if options.debiased else Bounds(max(0.0, found.low), found.high, found.method)


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
