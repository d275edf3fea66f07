"""Laws that hold for metrics by what each declares about itself; a metric that declares nothing fails."""

from collections.abc import Iterator

import numpy as np
import pytest

from consilience.contract.metrics import METRICS, Metric
from consilience.scoring import score

N = 60
VARIANTS: dict[str, list[dict[str, object]]] = {
    "mutual_knn": [{"k": 1}, {"k": 10}],
    "cka": [
        {"debiased": debiased, "definition": definition}
        for debiased in (True, False)
        for definition in ("standard", "prh")
    ],
}


def test_every_metric_has_its_variants_listed() -> None:
    assert VARIANTS.keys() == METRICS.keys()


def cases() -> Iterator[Metric]:
    for name, variants in VARIANTS.items():
        for variant in variants:
            yield METRICS[name].model_validate({"metric": name, **variant})


CASES = list(cases())


def name(metric: Metric) -> str:
    return f"{metric.metric}-{'-'.join(map(str, metric.options().values()))}"


every_metric = pytest.mark.parametrize("metric", CASES, ids=name)


def pair(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(N, 6))
    return latent + rng.normal(size=(N, 6)), latent @ rng.normal(size=(6, 9)) + rng.normal(size=(N, 9))


def value(metric: Metric, a: np.ndarray, b: np.ndarray) -> float:
    (found,) = score(a, b, metrics=[metric.model_dump()], interval=None, null={"method": "none"}).scores
    assert found.value is not None
    return found.value


@every_metric
def test_identical_spaces_agree_wholly(metric: Metric) -> None:
    a, _ = pair()
    tolerance = 1e-4 if getattr(metric, "definition", "") == "prh" else 1e-12
    assert value(metric, a, a) == pytest.approx(metric.high, abs=tolerance)


@every_metric
def test_the_order_of_the_items_does_not_matter(metric: Metric) -> None:
    a, b = pair()
    order = np.random.default_rng(1).permutation(N)
    assert value(metric, a[order], b[order]) == pytest.approx(value(metric, a, b), abs=1e-6)


@every_metric
def test_sides_can_be_swapped_exactly_where_the_metric_says_so(metric: Metric) -> None:
    a, b = pair()
    same = value(metric, a, b) == pytest.approx(value(metric, b, a), abs=1e-9)
    assert same == metric.symmetric


@every_metric
def test_rotating_a_space_changes_nothing_where_the_metric_says_so(metric: Metric) -> None:
    a, b = pair()
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(6, 6)))
    same = value(metric, a @ rotation, b) == pytest.approx(value(metric, a, b), abs=1e-6)
    assert same == metric.rotation_invariant


@every_metric
def test_scaling_a_space_changes_nothing_where_the_metric_says_so(metric: Metric) -> None:
    a, b = pair()
    same = value(metric, 7.5 * a, b) == pytest.approx(value(metric, a, b), abs=1e-6)
    assert same == metric.scale_invariant


@every_metric
def test_values_stay_in_the_declared_range(metric: Metric) -> None:
    for seed in range(10):
        found = value(metric, *pair(seed))
        assert metric.low is None or found >= metric.low - 1e-12
        assert metric.high is None or found <= metric.high + 1e-12


@every_metric
def test_independent_spaces_score_what_the_null_law_expects(metric: Metric) -> None:
    rng = np.random.default_rng(3)
    found = [
        score(rng.normal(size=(N, 5)), rng.normal(size=(N, 5)), metrics=[metric.model_dump()], interval=None).scores[0]
        for _ in range(60)
    ]
    z = [(s.value - s.null.mean) / s.null.sd for s in found]  # type: ignore[operator]  # all are defined
    assert abs(np.mean(z)) < 4 / np.sqrt(60)
    assert 0.7 < np.std(z) < 1.4


@every_metric
def test_p_values_keep_their_level_on_independent_spaces(metric: Metric) -> None:
    rng = np.random.default_rng(4)
    p = [
        score(rng.normal(size=(N, 5)), rng.normal(size=(N, 5)), metrics=[metric.model_dump()], interval=None)
        .scores[0]
        .null.p_value
        for _ in range(200)
    ]
    assert np.mean(np.array(p, dtype=float) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
