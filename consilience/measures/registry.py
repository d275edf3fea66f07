"""Which function measures which metric: one line a metric."""

from collections.abc import Callable
from typing import Any

from consilience.contract.metric import Metric
from consilience.contract.metrics import METRICS
from consilience.measures.comparison import Comparison
from consilience.measures.kernels import measure_angular_cka, measure_cka, measure_distance_correlation, measure_rv
from consilience.measures.measurement import Measurement
from consilience.measures.neighbours import measure_neighbours
from consilience.measures.predictivity import measure_linear_predictivity
from consilience.measures.rsa import measure_rsa
from consilience.measures.subspace import (
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
