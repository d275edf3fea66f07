"""Gallery-size curves: each point is the score of its gallery's rows, or an estimate of it."""

import numpy as np
import pytest

from consilience.contract.metric import NeighbourMetric
from consilience.contract.scores import Score
from consilience.errors import InvalidRequest
from consilience.numerics.stats.intervals import draw_row_order
from consilience.scoring import score
from tests.metrics.test_neighbours import cases, name

N = 500
SIZES = (40, 150, 400, N)


def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(N, 6))
    a, b = (shared + 0.4 * rng.normal(size=(N, 6)) for _ in "ab")
    return a.astype(np.float32), b.astype(np.float32)


def score_one(a: object, b: object, metric: object = "mutual_knn", **options: object) -> Score:
    (found,) = score(a, b, metrics=[metric], null={"method": "none"}, **options).scores
    return found


@pytest.mark.parametrize("metric", list(cases()), ids=name)
@pytest.mark.parametrize("grouped", [False, True], ids=["alone", "groups"])
def test_each_point_of_an_exact_curve_is_the_score_of_its_gallery(metric: NeighbourMetric, *, grouped: bool) -> None:
    a, b = pair()
    groups = [str(row // 2) for row in range(N)] if grouped else None
    curve = score_one(a, b, metric.model_dump(), gallery_sizes=SIZES, groups=(groups, None)).gallery_curve
    assert curve is not None
    order = draw_row_order(N, 0)
    for point, size in zip(curve, SIZES, strict=True):
        rows = np.sort(order[:size])
        part = [groups[row] for row in rows] if groups else None
        exact = score_one(a[rows], b[rows], metric.model_dump(), groups=(part, None)).value
        assert point.n == size
        assert point.value == pytest.approx(exact, abs=1e-9)
        assert point.low == point.high == point.value


@pytest.mark.parametrize("metric", list(cases()), ids=name)
def test_points_below_the_number_of_queries_are_exact_and_others_estimated(metric: NeighbourMetric) -> None:
    a, b = pair()
    exact = score_one(a, b, metric.model_dump(), gallery_sizes=SIZES).gallery_curve
    found = score_one(a, b, metric.model_dump(), gallery_sizes=SIZES, estimate={"queries": 200})
    assert exact is not None
    assert found.gallery_curve is not None
    small, large = found.gallery_curve[:2], found.gallery_curve[2:]
    for point, wanted in zip(small, exact, strict=False):
        assert (point.low, point.value, point.high) == pytest.approx((wanted.value,) * 3, abs=1e-9)
    for point in large:
        assert point.low < point.value < point.high
    assert large[-1].value == found.value
    assert found.interval is not None
    assert (large[-1].low, large[-1].high) == (found.interval.low, found.interval.high)


def test_smaller_galleries_are_centred_by_the_mean_of_all_rows() -> None:
    a, b = pair()
    a += 3
    curve = score_one(a, b, preparation="centre_l2", gallery_sizes=[60]).gallery_curve
    rows = np.sort(draw_row_order(N, 0)[:60])
    exact = score_one((a - a.mean(axis=0))[rows], (b - b.mean(axis=0))[rows]).value
    assert curve is not None
    assert curve[0].value == pytest.approx(exact, abs=1e-3)


def test_auto_sizes_end_with_all_rows() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3500, 4)).astype(np.float32)
    curve = score_one(a, a, gallery_sizes="auto", estimate={"queries": 150}).gallery_curve
    assert curve is not None
    assert [point.n for point in curve] == [1000, 3000, 3500]


def test_only_the_max_aggregate_has_a_curve_that_of_the_best_layer_pair() -> None:
    a, b = pair()
    sides = ({"0": b[::-1].copy(), "1": a}, {"0": b})
    found = score_one(*sides, layers="all", gallery_sizes=[100, N])
    assert found.layer_a == "1"
    assert found.gallery_curve is not None
    assert found.gallery_curve[-1].value == found.value
    averaged = score_one(*sides, layers="all", aggregate="row_max_mean", gallery_sizes=[100])
    assert averaged.gallery_curve is None
    assert any("No gallery-size curve" in warning for warning in averaged.warnings)


def test_other_metrics_have_no_curve() -> None:
    assert score_one(*pair(), "cka", gallery_sizes=[100]).gallery_curve is None
    assert score_one(*pair()).gallery_curve is None


@pytest.mark.parametrize(("size", "k"), [(N + 1, 10), (10, 10)])
def test_a_gallery_that_cannot_be_scored_is_refused(size: int, k: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        score_one(*pair(), {"metric": "mutual_knn", "k": k}, gallery_sizes=[100, size])
    assert caught.value.pointer == "/gallery_sizes/1"
