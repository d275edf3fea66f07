"""cka on two sides: one set of moments a layer, one cross-product a layer pair."""

import numpy as np

from consilience.contract.kernel_metrics import Cka
from consilience.contract.scores import Reason
from consilience.measures.comparison import Comparison, Side
from consilience.measures.measurement import Measurement, find_reasons
from consilience.numerics import cka
from consilience.numerics.arrays import Float64Array
from consilience.numerics.intervals import Bounds, jackknife_bounds
from consilience.numerics.nulls import NullLaw
from consilience.numerics.permutations import Permutation


def measure_cka(metric: Cka, comparison: Comparison) -> Measurement:
    """Measure the alignment of every layer pair."""
    options = cka.CkaOptions(metric.debiased, metric.definition)
    reasons = find_reasons(comparison, lambda side, index: _layer_reason(side, index, debiased=options.debiased))
    a, b = comparison.a, comparison.b

    def fill(permutation: Permutation | None, stage: str | None) -> Float64Array:
        grid = np.full((len(a.layers), len(b.layers)), np.nan)
        cells = [cell for cell in np.ndindex(*grid.shape) if cell not in reasons]
        for done, (i, j) in enumerate(cells):
            if stage is not None:
                comparison.report(stage, done, len(cells))
            grid[i, j] = cka.cka(a.moments(i), b.moments(j), options, permutation)
        return grid

    def law(i: int, j: int) -> NullLaw:
        return cka.cka_law(a.moments(i), b.moments(j), options)

    def bounds(i: int, j: int, level: float) -> Bounds | Reason:
        return _bounds(comparison, options, (i, j), level)

    return Measurement(
        grid=fill(None, "cka"),
        reasons=reasons,
        law=law,
        permuted=lambda permutation: fill(permutation, None),
        bounds=bounds,
    )


def _bounds(comparison: Comparison, options: cka.CkaOptions, cell: tuple[int, int], level: float) -> Bounds | Reason:
    if comparison.n < 5:
        return Reason(code="too-few-rows", detail="Leaving a row out of 4 leaves CKA undefined.")
    a, b = comparison.a.moments(cell[0]), comparison.b.moments(cell[1])
    found = jackknife_bounds(cka.cka(a, b, options), cka.jackknife(a, b, options), level)
    return found or Reason(code="undefined-without-a-row", detail="Leaving out one of the rows makes CKA undefined.")


def _layer_reason(side: Side, index: int, *, debiased: bool) -> Reason | None:
    """Say why CKA of a layer is undefined: no direction, no variation, or a self-similarity that is not above 0."""
    reason = side.reason(index)
    if reason is not None:
        return reason
    own = cka.self_hsic(side.moments(index), debiased=debiased)
    if own > 0:
        return None
    return Reason(
        code="non-positive-self-similarity",
        detail=f"HSIC of layer {side.layers[index].name} with itself is {own:.3g}; CKA divides by its root.",
    )
