"""How many rows ask: as many as the request says, or as many as make every interval narrow enough."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from consilience.contract.alignments import ScoringOptions
from consilience.contract.metric import Metric, NeighbourMetric
from consilience.contract.metrics import METRICS
from consilience.contract.search import QUERIES_PILOT, Estimate, EstimateChoice
from consilience.metrics.comparison import Comparison
from consilience.metrics.estimated import (
    Survey,
    estimate_cell,
    find_limits,
    measure_estimated,
    open_galleries,
    trace_curve,
)
from consilience.metrics.kernels import measure_angular_cka, measure_cka, measure_distance_correlation, measure_rv
from consilience.metrics.measurement import Measurement
from consilience.metrics.neighbours import measure_neighbours
from consilience.metrics.predictivity import measure_linear_predictivity
from consilience.metrics.rsa import measure_rsa
from consilience.metrics.subspaces import (
    measure_angular_shape,
    measure_bures,
    measure_cca_mean,
    measure_cca_r2,
    measure_eigenspace_overlap,
    measure_gulp,
    measure_procrustes,
    measure_pwcca,
    measure_svcca,
)
from consilience.numerics.stats import intervals

#: Each function takes the metric class of its own name.
MEASURES: dict[str, Callable[[Any, Comparison], Measurement]] = {
    "mutual_knn": measure_neighbours,
    "jaccard_knn": measure_neighbours,
    "rank_similarity": measure_neighbours,
    "lcs_knn": measure_neighbours,
    "edit_distance_knn": measure_neighbours,
    "second_order_cosine": measure_neighbours,
    "cycle_knn": measure_neighbours,
    "cknna": measure_neighbours,
    "cka": measure_cka,
    "rv": measure_rv,
    "angular_cka": measure_angular_cka,
    "distance_correlation": measure_distance_correlation,
    "rsa": measure_rsa,
    "cca_mean": measure_cca_mean,
    "cca_r2": measure_cca_r2,
    "svcca": measure_svcca,
    "pwcca": measure_pwcca,
    "eigenspace_overlap": measure_eigenspace_overlap,
    "linear_predictivity": measure_linear_predictivity,
    "procrustes": measure_procrustes,
    "angular_shape": measure_angular_shape,
    "bures": measure_bures,
    "gulp": measure_gulp,
}

if MEASURES.keys() != METRICS.keys():  # pragma: no cover - a slip while adding a metric, seen at the first import
    raise AssertionError(f"metrics without a measure, or measures without a metric: {MEASURES.keys() ^ METRICS.keys()}")


def measure(metric: Metric, comparison: Comparison) -> Measurement:
    """Measure one metric with single options on a comparison."""
    return MEASURES[metric.metric](metric, comparison)


#: Draws after the pilot.
DRAWS_MAX = 3


@dataclass(frozen=True)
class Drawn:
    """Who was asked, for all neighbour metrics of a request.

    Attributes
    ----------
    survey : what the rows that ask were told; None: all rows are asked, by graphs
    galleries : what rows were told in galleries of fewer rows; None where there are none
    sizes : rows of the galleries of a curve; none where there is none
    rule : how many rows were to ask
    """

    survey: Survey | None = None
    galleries: Survey | None = None
    sizes: tuple[int, ...] = ()
    rule: EstimateChoice = "all"

    def measure(self, metric: Metric, comparison: Comparison) -> Measurement:
        """Measure one metric: one of neighbours on what the rows were told, any other on all rows."""
        if not isinstance(metric, NeighbourMetric):
            return measure(metric, comparison)
        measured = measure(metric, comparison) if self.survey is None else measure_estimated(metric, self.survey)
        curve = trace_curve(metric, measured, self.galleries, self.sizes) if self.sizes else None
        return replace(measured, curve=curve, warnings=(*measured.warnings, *self._shortfall(metric)))

    def _shortfall(self, metric: NeighbourMetric) -> tuple[str, ...]:
        """What the draws did not reach, if anything."""
        if self.survey is None or self.rule == "all" or self.rule.half_width is None:
            return ()
        if (wanted := _wanted(metric, self.survey, self.rule)) <= self.survey.asked:
            return ()
        asked, width = self.survey.asked, self.rule.half_width
        return (
            f"The interval is wider than {width:g} each way: {asked} rows asked, and about {wanted} would be needed.",
        )


def draw(options: ScoringOptions, comparison: Comparison, sizes: tuple[int, ...]) -> Drawn:
    """Ask as many rows as the request says, in galleries of some sizes too, for the neighbours that its metrics need.

    With a half width a pilot asks first. Its variances say how many rows are needed; if these are more than half of all rows,
    all of them are asked, since an exact graph costs no more than that. The variance that is found then may be larger than the
    pilot's, and up to two more draws follow.
    """
    metrics = [each for metric in options.metrics if isinstance(metric, NeighbourMetric) for each in metric.each()]
    if not metrics:
        return Drawn()
    k, n = max(metric.k[0] for metric in metrics), comparison.n
    order = intervals.draw_row_order(n, comparison.seed).astype(np.int32)
    choice = options.estimate
    if choice != "all" and (first := choice.queries or QUERIES_PILOT) < n:
        survey = Survey(comparison, k, (*(size for size in sizes if size < n), n), order)
        survey.ask(first)
        if choice.half_width is None or _extend(survey, metrics, choice):
            return Drawn(survey, survey, sizes, choice)
    return Drawn(None, open_galleries(comparison, k, sizes, order), sizes)


def _extend(survey: Survey, metrics: Sequence[NeighbourMetric], choice: Estimate) -> bool:
    """Draw more rows until every interval is narrow enough; False where all rows had better ask."""
    for _ in range(DRAWS_MAX):
        wanted = max(_wanted(metric, survey, choice) for metric in metrics)
        if wanted <= survey.asked:
            return True
        if 2 * wanted >= survey.n:
            return False
        survey.ask(wanted)
    return True


def _wanted(metric: NeighbourMetric, survey: Survey, choice: Estimate) -> int:
    """How many rows make the interval of a metric's best layer pair narrow enough."""
    grid = measure_estimated(metric, survey).grid
    if np.isnan(grid).all():
        return survey.asked
    i, j = np.unravel_index(int(np.nanargmax(grid)), grid.shape)
    found = estimate_cell(metric, survey, (int(i), int(j)))
    if found is None or choice.half_width is None:
        return survey.asked
    return intervals.required_queries(found, choice.half_width, choice.level, find_limits(metric))
