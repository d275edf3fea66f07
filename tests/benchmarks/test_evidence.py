"""The short version of `make evidence`: two metrics with closed forms, 200 samples of each kind of data."""

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.evidence import level_of, measure, sum_up_level
from benchmarks.evidence_data import BY_NAME, UNRELATED

SAMPLES = 200
METRICS = ("mutual_knn", "cka")
ERROR = (0.05 * 0.95 / SAMPLES) ** 0.5


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return measure(SAMPLES, METRICS)


@pytest.mark.parametrize("metric", METRICS)
def test_p_values_of_unrelated_spaces_have_the_nominal_error_rate(found: dict[str, Any], metric: str) -> None:
    rows = [row for row in found["level"] if row["metric"] == metric]
    assert {row["data"] for row in rows} == {data.name for data in UNRELATED if metric in data.metrics}
    for row in rows:
        assert row["null"] == "analytic"
        assert row["at_5"] == pytest.approx(0.05, abs=3.5 * ERROR), row


@pytest.mark.parametrize("metric", METRICS)
def test_intervals_hold_the_mean_over_all_samples(found: dict[str, Any], metric: str) -> None:
    rows = [row for row in found["coverage"] if row["metric"] == metric]
    assert {row["data"] for row in rows} == {"shared latent", "real"}
    for row in rows:
        assert row["covered"] >= 0.95 - 3.5 * ERROR, row
        assert 0.9 < row["width_ratio"] < 1.6, row


def test_the_row_of_an_undefined_metric_says_undefined() -> None:
    data = replace(BY_NAME["level"]["gaussian 256"], metrics=("cca_mean",))
    (row,) = sum_up_level(data, level_of(data, range(2)))
    assert (row["missing"], row["times"]) == ("not-enough-rows", 2)
