"""Choice of the query rows of a request: a requested number, or enough for every confidence interval to be narrow."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from consilience.contract.alignments import ScoringOptions
from consilience.contract.metric import Metric, NeighbourMetric
from consilience.contract.search import QUERIES_PILOT, Estimate, EstimateChoice
from consilience.metrics.comparison import Comparison, Measurement
from consilience.metrics.estimated import (
    QuerySample,
    estimate_cell,
    find_limits,
    measure_estimated,
    sample_galleries,
    trace_curve,
)
from consilience.metrics.registry import measure
from consilience.numerics.stats.intervals import draw_row_order, required_queries

#: Number of times that the sample grows after the pilot.
EXTENSIONS_MAX = 3


@dataclass(frozen=True)
class QuerySampling:
    """The query rows of all neighbour metrics of a request.

    Attributes
    ----------
    sample : the queries and their neighbours; None if all rows are queries, in graphs
    galleries : neighbours in smaller galleries; None if there are none
    sizes : sizes of the galleries of a curve; empty if there is no curve
    rule : rule for the number of queries
    """

    sample: QuerySample | None = None
    galleries: QuerySample | None = None
    sizes: tuple[int, ...] = ()
    rule: EstimateChoice = "all"

    def measure(self, metric: Metric, comparison: Comparison) -> Measurement:
        """Measure one metric: a neighbour metric on the queries, any other metric on all rows."""
        if not isinstance(metric, NeighbourMetric):
            return measure(metric, comparison)
        measured = measure(metric, comparison) if self.sample is None else measure_estimated(metric, self.sample)
        curve = trace_curve(metric, measured, self.galleries, self.sizes) if self.sizes else None
        return replace(measured, curve=curve, warnings=(*measured.warnings, *self._warn_of_width(metric)))

    def _warn_of_width(self, metric: NeighbourMetric) -> tuple[str, ...]:
        """Warn if the interval is wider than requested."""
        if self.sample is None or self.rule == "all" or self.rule.half_width is None:
            return ()
        count, width = self.sample.count, self.rule.half_width
        if (required := _count_required(metric, self.sample, self.rule)) <= count:
            return ()
        return (
            (
                f"The half-width of the interval is above the requested {width:g}: that needs about {required} query rows, and "
                f"{count} were used."
            ),
        )


def sample_queries(options: ScoringOptions, comparison: Comparison, sizes: tuple[int, ...]) -> QuerySampling:
    """Sample as many query rows as the request needs, and search for their neighbours in galleries of some sizes.

    With a half-width, a pilot sample comes first. Its variances give the required number of queries; if that is more than half
    of all rows, all rows are used, since an exact graph costs no more. The variance of the larger sample may exceed that of the
    pilot, so that up to two more extensions follow.
    """
    metrics = [each for metric in options.metrics if isinstance(metric, NeighbourMetric) for each in metric.each()]
    if not metrics:
        return QuerySampling()
    k, n = max(metric.k[0] for metric in metrics), comparison.n
    order = draw_row_order(n, comparison.seed).astype(np.int32)
    choice = options.estimate
    if choice != "all" and (first := choice.queries or QUERIES_PILOT) < n:
        sample = QuerySample(comparison, k, (*(size for size in sizes if size < n), n), order)
        sample.extend(first)
        if choice.half_width is None or _extend(sample, metrics, choice):
            return QuerySampling(sample, sample, sizes, choice)
    return QuerySampling(None, sample_galleries(comparison, k, sizes, order), sizes)


def _extend(sample: QuerySample, metrics: Sequence[NeighbourMetric], choice: Estimate) -> bool:
    """Add queries until every interval is narrow enough; return False if all rows should be queries instead."""
    for _ in range(EXTENSIONS_MAX):
        required = max(_count_required(metric, sample, choice) for metric in metrics)
        if required <= sample.count:
            return True
        if 2 * required >= sample.n:
            return False
        sample.extend(required)
    return True


def _count_required(metric: NeighbourMetric, sample: QuerySample, choice: Estimate) -> int:
    """Return the number of queries that make the interval of a metric's best layer pair narrow enough."""
    grid = measure_estimated(metric, sample).grid
    if np.isnan(grid).all():
        return sample.count
    i, j = np.unravel_index(int(np.nanargmax(grid)), grid.shape)
    found = estimate_cell(metric, sample, (int(i), int(j)))
    if found is None or choice.half_width is None:
        return sample.count
    return required_queries(found, choice.half_width, choice.level, find_limits(metric))
