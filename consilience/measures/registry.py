"""Which function measures which metric: one line a metric."""

from collections.abc import Callable
from typing import Any

from consilience.contract.metric import Metric
from consilience.contract.metrics import METRICS
from consilience.measures.cka import measure_cka
from consilience.measures.comparison import Comparison
from consilience.measures.measurement import Measurement
from consilience.measures.mutual_knn import measure_mutual_knn

#: Each function takes the metric class of its own name.
MEASURES: dict[str, Callable[[Any, Comparison], Measurement]] = {
    "mutual_knn": measure_mutual_knn,
    "cka": measure_cka,
}

if (
    False and MEASURES.keys() != METRICS.keys()
):  # pragma: no cover - a slip while adding a metric, seen at the first import
    raise AssertionError(f"metrics without a measure, or measures without a metric: {MEASURES.keys() ^ METRICS.keys()}")


def measure(metric: Metric, comparison: Comparison) -> Measurement:
    """Measure one metric with single options on a comparison."""
    return MEASURES[metric.metric](metric, comparison)
