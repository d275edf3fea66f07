"""How many rows ask: as many as the request says, or as many as make every interval narrow enough."""

from collections.abc import Sequence

import numpy as np

from consilience.contract.jobs import ScoringOptions
from consilience.contract.metric import NeighbourMetric
from consilience.contract.search import QUERIES_PILOT, Estimate
from consilience.measures.comparison import Comparison
from consilience.measures.estimated import estimate_cell, find_limits, measure_estimated
from consilience.measures.survey import Survey
from consilience.numerics import estimates
from consilience.numerics.arrays import IdArray

#: Draws after the pilot.
DRAWS_MAX = 3


def draw_survey(options: ScoringOptions, comparison: Comparison) -> Survey | None:
    """Let rows ask for the neighbours that the request's metrics need; None where all rows are to ask.

    With a half width a pilot asks first. Its variances say how many rows are needed; if these are more than half of all rows,
    all of them ask, since an exact graph costs no more than that. The variance that is found then may be larger than the
    pilot's, and up to two more draws follow.
    """
    metrics = [each for metric in options.metrics if isinstance(metric, NeighbourMetric) for each in metric.each()]
    choice, n = options.estimate, comparison.n
    if not metrics or choice == "all":
        return None
    first = choice.queries or QUERIES_PILOT
    if first >= n:
        return None
    survey = Survey(comparison, max(metric.k[0] for metric in metrics), (n,), _order(comparison))
    survey.ask(first)
    return survey if choice.half_width is None or _extend(survey, metrics, choice) else None


def _order(comparison: Comparison) -> IdArray:
    return estimates.order_rows(comparison.n, comparison.seed).astype(np.int32)


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
    return estimates.queries_wanted(found, choice.half_width, choice.level, find_limits(metric))
