"""Kernel and distance metrics from rows to score: values of every strategy, nulls, intervals, undefined cells."""

from collections.abc import Iterator

import numpy as np
import pytest

from consilience.contract.metric import Metric
from consilience.contract.metrics import METRICS
from consilience.contract.scores import Score
from consilience.errors import InvalidRequest
from consilience.metrics import kernel_strategies
from consilience.metrics import rsa as rsa_module
from consilience.metrics.comparison import Comparison, Measurement
from consilience.metrics.graph_sources import FreshGraphs
from consilience.metrics.registry import measure
from consilience.metrics.sides import PreparedSide
from consilience.numerics.rows.sources import ArrayLayer
from consilience.numerics.stats.intervals import ConfidenceInterval
from consilience.scoring import ignore_progress, score
from tests.laws.variants_kernels import VARIANTS

N = 60
ORDERS = [np.random.default_rng(seed).permutation(N) for seed in range(3)]


def cases() -> Iterator[Metric]:
    for name, variants in VARIANTS.items():
        for variant in variants:
            yield METRICS[name].model_validate({"metric": name, **variant})


def name(metric: Metric) -> str:
    return f"{metric.metric}-{'-'.join(map(str, metric.options().values()))}"


every_metric = pytest.mark.parametrize("metric", list(cases()), ids=name)


def layers(count: int, seed: int, d: int = 6, n: int = N) -> list[np.ndarray]:
    shared = np.random.default_rng(5).normal(size=(n, 6))
    rng = np.random.default_rng(seed)
    mixed = [shared @ rng.normal(size=(6, d)) for _ in range(count)]
    return [(part + (1 + i) * rng.normal(size=(n, d))).astype(np.float32) for i, part in enumerate(mixed)]


def open_side(arrays: list[np.ndarray]) -> PreparedSide:
    found = [ArrayLayer(str(i), array) for i, array in enumerate(arrays)]
    return PreparedSide(found, [None] * len(found), centre=False, normalise=True, source=FreshGraphs())


def compare(metric: Metric, a: list[np.ndarray], b: list[np.ndarray]) -> Measurement:
    return measure(metric, Comparison(open_side(a), open_side(b), 0, 0, ignore_progress))


def score_one(a: object, b: object, metric: Metric | dict[str, object], **options: object) -> Score:
    chosen = metric.model_dump() if isinstance(metric, Metric) else metric
    (found,) = score(a, b, metrics=[chosen], **options).scores
    return found


@every_metric
def test_a_grid_has_the_values_of_its_single_pairs(metric: Metric) -> None:
    a, b = layers(3, 0), layers(2, 1, 9)
    together = compare(metric, a, b).grid
    alone = [[compare(metric, [x], [y]).grid[0, 0] for y in b] for x in a]
    np.testing.assert_allclose(together, alone, atol=1e-9)


@every_metric
@pytest.mark.parametrize("d", [6, 200])
def test_a_permuted_grid_is_the_grid_of_permuted_rows(metric: Metric, d: int) -> None:
    a, b = layers(2, 0, d), layers(2, 1, d)
    found = compare(metric, a, b)
    for order in ORDERS:
        permuted = compare(metric, a, [layer[order] for layer in b]).grid
        np.testing.assert_allclose(found.permuted(order), permuted, atol=1e-9)


def test_a_permutation_within_groups_uses_the_permuted_rows() -> None:
    metric = METRICS["rsa"].model_validate({"metric": "rsa", "pairs": 1000})
    a, b = layers(2, 0, n=150), layers(2, 1, n=150)
    found = compare(metric, a, b)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(150)
        expected = compare(metric, a, [layer[order] for layer in b]).grid
        np.testing.assert_allclose(found.permuted(order), expected, atol=1e-12)


def test_two_constant_sides_have_no_values() -> None:
    for metric in cases():
        flat = np.ones((N, 6), np.float32)
        assert np.isnan(compare(metric, [flat], [flat]).grid).all()


@every_metric
@pytest.mark.parametrize("d", [6, 200])
def test_little_memory_changes_no_number(monkeypatch: pytest.MonkeyPatch, metric: Metric, d: int) -> None:
    a, b = layers(3, 0, d), layers(3, 1, d)
    roomy = compare(metric, a, b)
    expected = roomy.grid, roomy.permuted(ORDERS[0]), roomy.interval(1, 2, 0.95)
    for module in (kernel_strategies, rsa_module):
        monkeypatch.setattr(module, "MATRICES_BYTES", 4 * N * N * 4)
    monkeypatch.setattr(kernel_strategies, "POINTS_BYTES", 4 * N * d * 2)
    tight = compare(metric, a, b)
    np.testing.assert_allclose(tight.grid, expected[0], atol=1e-9)
    np.testing.assert_allclose(tight.permuted(ORDERS[0]), expected[1], atol=1e-9)
    found, wanted = tight.interval(1, 2, 0.95), expected[2]
    assert isinstance(found, ConfidenceInterval)
    assert isinstance(wanted, ConfidenceInterval)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


@every_metric
def test_the_closed_form_agrees_with_permutations(metric: Metric) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(N, 3)), rng.normal(size=(N, 5))
    closed = score_one(a, b, metric, interval=None)
    drawn = score_one(a, b, metric, interval=None, null={"method": "permutation", "permutations": 1000})
    assert closed.null.method == "analytic"
    assert closed.value == drawn.value
    assert drawn.null.sd is not None
    assert closed.null.threshold == pytest.approx(drawn.null.threshold, abs=0.35 * drawn.null.sd)
    if closed.null.sd is not None:  # the null distribution of a root or an angle has no moments
        assert closed.null.mean == pytest.approx(drawn.null.mean, abs=0.15 * drawn.null.sd)
        assert closed.null.sd == pytest.approx(drawn.null.sd, rel=0.12)


@every_metric
def test_the_interval_contains_the_value_and_stays_in_the_range(metric: Metric) -> None:
    found = score_one(*layers(1, 0), *layers(1, 1), metric)
    assert found.interval is not None
    assert found.value is not None
    assert found.interval.method == "jackknife"
    assert found.interval.low < found.value < found.interval.high
    assert metric.low is None or found.interval.low >= metric.low
    assert metric.high is None or found.interval.high <= metric.high


@pytest.mark.parametrize(
    "metric",
    [
        {"metric": "cka"},
        {"metric": "cka", "kernel": "rbf"},
        {"metric": "distance_correlation"},
        {"metric": "angular_cka"},
        {"metric": "rsa"},
        {"metric": "rsa", "method": "pearson", "distance": "euclidean"},
    ],
)
def test_the_jackknife_interval_covers_the_mean_of_fresh_samples(metric: dict[str, object]) -> None:
    rng = np.random.default_rng(1)

    def draw() -> Score:
        latent = rng.normal(size=(120, 8))
        return score_one(*(latent + 0.8 * rng.normal(size=(120, 8)) for _ in range(2)), metric, null={"method": "none"})

    found = [draw() for _ in range(120)]
    centre = np.mean([s.value for s in found])
    covered = np.mean([s.interval.low <= centre <= s.interval.high for s in found if s.interval is not None])
    assert 0.87 <= covered <= 0.99


@every_metric
def test_a_constant_layer_makes_only_its_own_cells_undefined(metric: Metric) -> None:
    a, b = layers(2, 0), layers(2, 1)
    expected = compare(metric, a, b)
    flat = np.ones((N, 6), np.float32)
    found = compare(metric, [a[0], flat, a[1]], b)
    np.testing.assert_allclose(found.grid[[0, 2]], expected.grid, atol=1e-12)
    assert np.isnan(found.grid[1]).all()
    assert found.reasons.keys() == {(1, 0), (1, 1)}
    assert {reason.code for reason in found.reasons.values()} == {"constant-rows"}
    permuted = found.permuted(ORDERS[0])
    assert np.isnan(permuted[1]).all()
    np.testing.assert_allclose(permuted[[0, 2]], expected.permuted(ORDERS[0]), atol=1e-9)


@every_metric
def test_a_score_of_constant_layers_is_undefined(metric: Metric) -> None:
    found = score_one(np.ones((N, 6), np.float32), layers(1, 1)[0], metric)
    assert found.status == "undefined"
    assert found.reason is not None
    assert found.reason.code == "constant-rows"


@pytest.mark.parametrize(
    ("metric", "code"),
    [
        ({"metric": "cka"}, "non-positive-self-similarity"),
        ({"metric": "cka", "kernel": "rbf"}, "non-positive-self-similarity"),
        ({"metric": "distance_correlation"}, "non-positive-self-similarity"),
        ({"metric": "rsa"}, "constant-distances"),
        ({"metric": "rsa", "method": "pearson"}, "constant-distances"),
        ({"metric": "rsa", "method": "pearson", "distance": "euclidean"}, "constant-distances"),
    ],
)
def test_a_score_of_equidistant_rows_is_undefined(metric: dict[str, object], code: str) -> None:
    found = score_one(np.eye(40, dtype=np.float32), layers(1, 1, n=40)[0], metric)
    assert found.status == "undefined"
    assert found.reason is not None
    assert found.reason.code == code


def test_a_kernel_too_narrow_for_any_pair_of_rows_is_undefined() -> None:
    found = score_one(*layers(1, 0), *layers(1, 1), {"metric": "cka", "kernel": "rbf", "sigma": 1e-4})
    assert found.reason is not None
    assert found.reason.code == "non-positive-self-similarity"


def test_a_median_distance_of_0_makes_the_kernel_undefined() -> None:
    mostly = np.ones((N, 6), np.float32)
    mostly[:5] = layers(1, 0)[0][:5]
    found = score_one(mostly, layers(1, 1)[0], {"metric": "cka", "kernel": "rbf"})
    assert found.reason is not None
    assert found.reason.code == "zero-median-distance"
    assert score_one(mostly, layers(1, 1)[0], {"metric": "cka", "kernel": "rbf", "sigma": 1.0}).status == "defined"


def test_a_row_of_equal_values_makes_correlations_undefined() -> None:
    x = layers(1, 0)[0]
    x[7] = 2.0
    found = score_one(x, layers(1, 1)[0], {"metric": "rsa"})
    assert found.reason is not None
    assert found.reason.code == "rows-without-direction"
    assert score_one(x, layers(1, 1)[0], {"metric": "rsa", "distance": "cosine"}).status == "defined"


def test_four_rows_have_a_value_and_no_interval() -> None:
    for metric in cases():
        found = score_one(layers(1, 0)[0][:4], layers(1, 1)[0][:4], metric)
        if found.status == "defined":
            assert found.interval is None
            assert "No interval" in found.warnings[0]


def test_all_pairs_of_too_many_rows_are_refused_with_a_hint() -> None:
    x = np.random.default_rng(0).normal(size=(rsa_module.ALL_ROWS_MAX + 1, 2)).astype(np.float32)
    with pytest.raises(InvalidRequest, match="allows at most 8192 rows, but there are 8193"):
        score(x, x, metrics={"metric": "rsa", "pairs": "all"})


def test_sampled_pairs_of_many_rows_agree_with_all_pairs() -> None:
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(4200, 6))
    a, b = (latent + rng.normal(size=latent.shape) for _ in range(2))
    options: dict[str, object] = {"null": {"method": "none"}, "interval": None}
    sampled = score_one(a, b, {"metric": "rsa", "pairs": 200_000}, **options)
    whole = score_one(a, b, {"metric": "rsa", "pairs": "all"}, **options)
    assert sampled.value == pytest.approx(whole.value, abs=0.02)
    assert sampled.value != whole.value


def test_only_the_seed_chooses_the_pairs() -> None:
    a, b = layers(1, 0, n=150)[0], layers(1, 1, n=150)[0]
    first, again, other = (score_one(a, b, {"metric": "rsa", "pairs": 1000}, seed=seed).value for seed in (1, 1, 2))
    assert first == again != other
