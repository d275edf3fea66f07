"""Scores of galleries of fewer rows, each inside the next: neighbour scores fall as the gallery grows."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from consilience.contract.metric import NeighbourMetric
from consilience.contract.scores import GalleryPoint, Reason
from consilience.measures.comparison import Comparison
from consilience.measures.estimated import estimate_cell, find_bounds
from consilience.measures.measurement import Curve, Measurement
from consilience.measures.survey import Survey
from consilience.numerics.arrays import IdArray


def open_galleries(comparison: Comparison, k: int, sizes: Sequence[int], order: IdArray) -> Survey | None:
    """Let every row of every gallery ask, where the score itself comes from the graphs of all rows.

    The galleries are those that queries would have been asked in: the first rows of the same order, prepared as all rows are.
    None where there are no sizes below all rows.
    """
    inner = tuple(size for size in sizes if size < comparison.n)
    if not inner:
        return None
    members = np.sort(order[: inner[-1]])
    a, b = (side.select(members) for side in (comparison.a, comparison.b))
    selected = replace(comparison, a=a, b=b, groups=a.groups, _kept={})
    survey = Survey(selected, k, inner, np.searchsorted(members, order[: inner[-1]]).astype(np.int32))
    survey.ask(inner[-1])
    return survey


def trace_curve(metric: NeighbourMetric, measured: Measurement, survey: Survey | None, sizes: Sequence[int]) -> Curve:
    """Give the points of any layer pair: one for each size that has a value.

    Parameters
    ----------
    measured : the score in the gallery of all rows
    survey : what the rows were told in smaller galleries; None where there are none
    sizes : rows of the galleries that are wanted
    """

    def point(size: int, cell: tuple[int, int], level: float) -> GalleryPoint | None:
        if survey is not None and size in survey.sizes:
            return _find_point(metric, survey, size, cell, level)
        value = float(measured.grid[cell])
        return GalleryPoint(n=size, value=value, low=value, high=value)

    def trace(cell: tuple[int, int], level: float) -> tuple[GalleryPoint, ...]:
        points = (point(size, cell, level) for size in sizes)
        return tuple(found for found in points if found is not None)

    return trace


def _find_point(
    metric: NeighbourMetric, survey: Survey, size: int, cell: tuple[int, int], level: float
) -> GalleryPoint | None:
    found = estimate_cell(metric, survey, cell, survey.sizes.index(size))
    if found is None:
        return None
    bounds = find_bounds(metric, found, level)
    if isinstance(bounds, Reason):
        return GalleryPoint(n=size, value=found.value, low=found.value, high=found.value)
    return GalleryPoint(n=size, value=found.value, low=bounds.low, high=bounds.high)
