"""Registry of metrics: the function that measures each metric, one line for each."""

from collections.abc import Callable
from typing import Any

from consilience.contract.metric import Metric
from consilience.contract.metrics import METRICS
from consilience.metrics.comparison import Comparison, Measurement
from consilience.metrics.kernels import measure_angular_cka, measure_cka, measure_distance_correlation, measure_rv
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

#: Each function takes the metric class of its own name.
FUNCTIONS: dict[str, Callable[[Any, Comparison], Measurement]] = {
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

if FUNCTIONS.keys() != METRICS.keys():  # pragma: no cover - a slip while adding a metric, seen at the first import
    raise AssertionError(
        f"The registry and the metric classes differ in these metrics: {FUNCTIONS.keys() ^ METRICS.keys()}"
    )


def measure(metric: Metric, comparison: Comparison) -> Measurement:
    """Measure one metric with single options on a comparison."""
    return FUNCTIONS[metric.metric](metric, comparison)
