"""Metrics of fitted directions from rows to score: values, nulls, intervals, undefined layers."""

import numpy as np
import pytest

from consilience.contract.scores import Score
from consilience.scoring import score
from tests.reference_implementations import basic
from tests.reference_implementations import subspaces as reference

NAMES = [
    "cca_mean",
    "cca_r2",
    "svcca",
    "pwcca",
    "eigenspace_overlap",
    "procrustes",
    "angular_shape",
    "bures",
    "gulp",
    "linear_predictivity",
]
FITTED = ["cca_mean", "cca_r2", "svcca", "pwcca", "procrustes", "angular_shape", "bures"]
WHITENED = ["cca_mean", "cca_r2", "pwcca"]

every_metric = pytest.mark.parametrize("name", NAMES)


def views(n: int = 120, layers: int = 3, d: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, 1, d))
    a, b = (latent + rng.normal(size=(n, layers, d)) * np.linspace(2, 0.5, layers)[:, None] for _ in range(2))
    return a.astype(np.float32), b.astype(np.float32)


def noise(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(n, d))


def score_one(a: np.ndarray, b: np.ndarray, metric: object, **options: object) -> Score:
    (found,) = score(a, b, metrics=metric, **options).scores  # type: ignore[arg-type]  # options by name
    return found


def test_each_metric_equals_its_reference_implementation() -> None:
    a, b = views(d=12)
    x, y = basic.unit_rows(a[:, 2]), basic.unit_rows(b[:, 2])
    expected = {
        "cca_mean": reference.correlations(x, y).mean(),
        "cca_r2": (reference.correlations(x, y) ** 2).mean(),
        "svcca": reference.svcca(x, y, 10, zscore=True),
        "pwcca": reference.pwcca(x, y),
        "eigenspace_overlap": reference.eigenspace_overlap(x, y),
        "procrustes": reference.procrustes(x, y),
        "angular_shape": reference.netrep_angle(x, y, 1.0),
        "bures": np.sqrt(2 - 2 * reference.procrustes(x, y)),
        "gulp": reference.gulp(x, y, 0.01),
    }
    found = score(a, b, metrics=list(expected), null={"method": "none"}, interval=None).scores
    assert [entry.value for entry in found] == pytest.approx(list(expected.values()), abs=1e-5)


@every_metric
def test_a_grid_has_every_layer_pair(name: str) -> None:
    a, b = views()
    found = score_one(a, b[:, :2], name, layers="all", null={"method": "none"}, interval=None)
    assert (len(found.grid), len(found.grid[0])) == (3, 2)
    single = score_one(a[:, 1], b[:, 0], name, null={"method": "none"}, interval=None)
    assert found.grid[1][0] == pytest.approx(single.value, abs=1e-9)
    best = (min if found.direction == "distance" else max)(value for row in found.grid for value in row if value)
    assert found.value == best


@every_metric
def test_shared_structure_is_significant_and_noise_is_not(name: str) -> None:
    a, b = views()
    found = score_one(a[:, 2], b[:, 2], name, null={"method": "permutation", "permutations": 99})
    assert found.null.p_value == pytest.approx(0.01)
    assert found.null.threshold is not None
    assert found.value is not None
    closer = found.value < found.null.threshold if found.direction == "distance" else found.value > found.null.threshold
    assert closer
    assert (found.calibrated is None) == (found.direction == "distance")
    chance = score_one(*noise(120, 6), name, null={"method": "permutation", "permutations": 99})
    assert chance.null.p_value is not None
    assert chance.null.p_value > 0.02


@pytest.mark.parametrize("name", ["cca_r2", "eigenspace_overlap"])
def test_the_closed_form_null_agrees_with_permutations(name: str) -> None:
    a, b = views()
    exact = score_one(a[:, 2], b[:, 2], name, null={"method": "analytic"})
    drawn = score_one(a[:, 2], b[:, 2], name, null={"method": "permutation", "permutations": 400})
    assert exact.null.mean is not None
    assert drawn.null.mean is not None
    assert drawn.null.sd is not None
    assert abs(exact.null.mean - drawn.null.mean) < 4 * drawn.null.sd / 20
    if name == "cca_r2":
        assert exact.null.sd == pytest.approx(drawn.null.sd, rel=0.15)
        assert exact.null.threshold == pytest.approx(drawn.null.threshold, rel=0.1)
        assert score_one(a[:, 2], b[:, 2], name).null.method == "analytic"


@pytest.mark.parametrize("name", FITTED)
def test_the_interval_of_a_fit_is_that_of_the_held_out_value(name: str) -> None:
    a, b = noise(200, 40)
    found = score_one(a, b, {"metric": name}, null={"method": "none"})
    assert found.interval is not None
    assert found.interval.method == "held-out"
    assert any("held-out" in warning for warning in found.warnings)
    at_chance = np.pi / 2 if name == "angular_shape" else np.sqrt(2) if name == "bures" else 0.0
    assert found.interval.low - 0.01 <= at_chance <= found.interval.high + 0.01
    assert found.value is not None
    assert not found.interval.low <= found.value <= found.interval.high


@pytest.mark.parametrize(
    ("name", "method"),
    [("gulp", "block-jackknife"), ("eigenspace_overlap", "block-jackknife"), ("linear_predictivity", "held-out")],
)
def test_the_intervals_of_other_metrics_contain_the_score(name: str, method: str) -> None:
    a, b = views()
    found = score_one(a[:, 2], b[:, 2], name, null={"method": "none"})
    assert found.interval is not None
    assert found.value is not None
    assert found.interval.method == method
    assert found.interval.low < found.value < found.interval.high
    assert found.warnings == ()


@pytest.mark.parametrize("metric", [*WHITENED, {"metric": "angular_shape", "alpha": 0}, {"metric": "gulp", "ridge": 0}])
def test_whitened_metrics_are_undefined_with_as_many_dimensions_as_rows(metric: object) -> None:
    a, b = noise(30, 29)
    found = score_one(a, b, metric)
    assert found.status == "undefined"
    assert found.reason is not None
    assert found.reason.code == "not-enough-rows"
    assert "29 directions" in found.reason.detail
    assert score_one(a[:, :12], b[:, :12], metric).status == "defined"


def test_eigenspace_overlap_needs_fewer_dimensions_than_rows() -> None:
    assert score_one(*noise(30, 30), "eigenspace_overlap").reason is not None
    assert score_one(*noise(30, 29), "eigenspace_overlap").status == "defined"


@pytest.mark.parametrize("name", ["svcca", "procrustes", "angular_shape", "bures", "gulp", "linear_predictivity"])
def test_other_metrics_are_defined_with_more_dimensions_than_rows(name: str) -> None:
    found = score_one(*noise(30, 50), name)
    assert found.status == "defined"
    assert found.interval is not None


def test_a_warning_counts_directions_that_two_layers_must_share() -> None:
    found = score_one(*noise(30, 20), "cca_mean")
    assert any("share 11 directions" in warning for warning in found.warnings)
    correlations = reference.correlations(*(basic.unit_rows(side) for side in noise(30, 20)))
    assert (correlations > 1 - 1e-9).sum() == 11
    assert not any("share" in warning for warning in score_one(*noise(60, 20), "cca_mean").warnings)


@every_metric
def test_a_layer_of_constant_rows_is_undefined(name: str) -> None:
    a, b = views()
    a[:, 0] = 0.3
    found = score_one(a, b, name, layers="all", null={"method": "none"}, interval=None)
    assert found.grid[0] == (None, None, None)
    assert found.status == "defined"
    assert score_one(a[:, 0], b[:, 0], name).reason is not None


@every_metric
def test_the_smallest_number_of_rows_gives_a_value_or_a_reason(name: str) -> None:
    a, b = noise(4, 2)
    found = score_one(a, b, name)
    assert (found.value is None) == (found.reason is not None)
    if name == "linear_predictivity":
        assert found.reason is not None
        assert "fewer folds" in found.reason.detail
        assert score_one(a, b, {"metric": name, "folds": 2}).status == "defined"


@pytest.mark.parametrize("direction", ["ab", "ba", "mean"])
def test_predictivity_is_measured_in_the_requested_direction(direction: str) -> None:
    """Three of the columns of a are all that b has: a predicts b, b does not predict a."""
    a = np.random.default_rng(0).normal(size=(150, 9))
    options = {"preparation": {"profile": "none"}, "null": {"method": "none"}}
    found = score_one(a, a[:, :3], {"metric": "linear_predictivity", "direction": direction}, **options)
    expected = {"ab": 1.0, "ba": 0.29, "mean": 0.645}[direction]
    assert found.value == pytest.approx(expected, abs=0.05)
    swapped = score_one(a[:, :3], a, {"metric": "linear_predictivity", "direction": direction}, **options)
    other = {"ab": 0.29, "ba": 1.0, "mean": 0.645}[direction]
    assert swapped.value == pytest.approx(other, abs=0.05)


def test_permutations_pair_rows_alike_in_both_directions() -> None:
    """At chance, the mean over both directions of a symmetric pair equals each of them."""
    a, b = views()
    null = {"method": "permutation", "permutations": 50}
    means = [
        score_one(a[:, 2], b[:, 2], {"metric": "linear_predictivity", "direction": direction}, null=null).null.mean
        for direction in ("ab", "ba", "mean")
    ]
    assert means[2] == pytest.approx((means[0] + means[1]) / 2, abs=1e-9)  # type: ignore[operator]  # all are defined


def test_metrics_of_one_request_share_one_decomposition_per_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    from consilience.metrics import subspaces

    taken = []
    exact = subspaces.find_spectrum

    def counted(rows: np.ndarray, *, centre: bool, zscore: bool, leading: int | None) -> object:
        taken.append((centre, zscore))
        return exact(rows, centre=centre, zscore=zscore, leading=leading)

    monkeypatch.setattr(subspaces, "find_spectrum", counted)
    a, b = views()
    score(a, b, metrics=NAMES[:9], layers="all", null={"method": "none"}, interval=None)
    assert sorted(taken) == [(False, False)] * 6 + [(True, False)] * 6 + [(True, True)] * 6
