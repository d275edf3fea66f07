"""Properties that each metric declares, checked on data; a metric that declares none fails."""

from collections.abc import Iterator
from itertools import permutations

import numpy as np
import pytest

from consilience.contract.metrics import METRICS, Metric
from consilience.contract.scores import Score
from consilience.scoring import score
from tests.laws import variants_kernels, variants_neighbours, variants_subspace
from tests.reference_implementations import basic, neighbours

N = 60
#: Independent pairs: of closed forms, and of permutations with 20 draws each, whose level is exact by construction.
PAIRS, PERMUTED_PAIRS = 200, 40
VARIANTS = variants_neighbours.VARIANTS | variants_kernels.VARIANTS | variants_subspace.VARIANTS


def cases() -> Iterator[Metric]:
    for name, variants in VARIANTS.items():
        for variant in variants:
            yield METRICS[name].model_validate({"metric": name, **variant})


CASES = list(cases())


def name(metric: Metric) -> str:
    return f"{metric.metric}-{'-'.join(map(str, metric.options().values()))}"


def is_seeded(metric: Metric) -> bool:
    """Return True if the seed assigns rows to folds or to groups of pairs, so that their order matters."""
    return metric.metric == "linear_predictivity" or isinstance(getattr(metric, "pairs", None), int)


every_metric = pytest.mark.parametrize("metric", CASES, ids=name)
every_distance = pytest.mark.parametrize("metric", [m for m in CASES if m.triangle], ids=name)
every_closed_form = pytest.mark.parametrize("metric", [m for m in CASES if m.nulls[0] == "analytic"], ids=name)


def pair(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(N, 6))
    return latent + rng.normal(size=(N, 6)), latent @ rng.normal(size=(6, 9)) + rng.normal(size=(N, 9))


def value(metric: Metric, a: np.ndarray, b: np.ndarray) -> float:
    (found,) = score(a, b, metrics=[metric.model_dump()], interval=None, null={"method": "none"}).scores
    assert found.value is not None
    return found.value


@pytest.fixture(scope="module")
def by_chance() -> dict[str, list[Score]]:
    """The scores of independent Gaussian pairs under each metric's default null, by the metric's name and options."""
    found: dict[str, list[Score]] = {name(metric): [] for metric in CASES}
    rng = np.random.default_rng(3)
    for number in range(PAIRS):
        sides = rng.normal(size=(2, N, 5))
        requested = [m for m in CASES if number < PERMUTED_PAIRS or m.nulls[0] == "analytic"]
        for start in range(0, len(requested), 32):  # as many as one request takes
            part = requested[start : start + 32]
            document = score(*sides, metrics=[m.model_dump() for m in part], interval=None, null={"permutations": 20})
            for metric, entry in zip(part, document.scores, strict=True):
                found[name(metric)].append(entry)
    return found


def test_every_metric_has_its_variants_listed() -> None:
    assert VARIANTS.keys() == METRICS.keys()


@every_metric
def test_identical_spaces_have_the_perfect_score(metric: Metric) -> None:
    a, _ = pair()
    if metric.metric == "linear_predictivity":  # shrunk, and fitted on other rows
        assert 0.99 < value(metric, a, a) <= 1
    elif metric.metric == "cycle_knn":  # not all items have a neighbour whose neighbour they are
        ids = basic.neighbours(basic.unit_rows(a), metric.options()["k"])
        assert value(metric, a, a) == pytest.approx(neighbours.cycle_knn(ids, ids))
    elif metric.score_direction == "distance":  # the root, or the arc cosine, of a difference of 1e-16
        assert value(metric, a, a) == pytest.approx(0, abs=1e-7)
    else:
        tolerance = 1e-4 if "prh" in metric.options().values() else 1e-12
        assert value(metric, a, a) == pytest.approx(metric.ceiling or 1.0, abs=tolerance)


@every_metric
def test_the_order_of_the_items_does_not_matter(metric: Metric) -> None:
    a, b = pair()
    order = np.random.default_rng(1).permutation(N)
    tolerance = 0.1 if is_seeded(metric) else 1e-6
    assert value(metric, a[order], b[order]) == pytest.approx(value(metric, a, b), abs=tolerance)


@every_metric
def test_swapping_sides_changes_nothing_exactly_if_declared(metric: Metric) -> None:
    a, b = pair()
    same = value(metric, a, b) == pytest.approx(value(metric, b, a), abs=1e-9)
    assert same == metric.is_symmetric


@every_metric
def test_rotating_a_space_changes_nothing_exactly_if_declared(metric: Metric) -> None:
    a, b = pair()
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(6, 6)))
    same = value(metric, a @ rotation, b) == pytest.approx(value(metric, a, b), abs=1e-6)
    assert same == metric.is_rotation_invariant


@every_metric
def test_scaling_a_space_changes_nothing_exactly_if_declared(metric: Metric) -> None:
    a, b = pair()
    same = value(metric, 7.5 * a, b) == pytest.approx(value(metric, a, b), abs=1e-6)
    assert same == metric.scale_invariant


@every_metric
def test_values_stay_in_the_declared_range(metric: Metric) -> None:
    for seed in range(10):
        found = value(metric, *pair(seed))
        assert metric.low is None or found >= metric.low - 1e-12
        assert metric.ceiling is None or found <= metric.ceiling + 1e-12


@every_distance
def test_declared_distances_obey_the_triangle_inequality(metric: Metric) -> None:
    for seed in range(4):
        spaces = [*pair(seed), np.random.default_rng(seed).normal(size=(N, 4))]
        for a, b, c in permutations(spaces):
            assert value(metric, a, c) <= value(metric, a, b) + value(metric, b, c) + 1e-9


def test_only_symmetric_distances_claim_the_triangle_inequality() -> None:
    assert {m.metric for m in CASES if m.triangle} == {m.metric for m in CASES if m.score_direction == "distance"}
    assert all(m.is_symmetric for m in CASES if m.triangle)


@every_metric
def test_independent_spaces_score_as_the_null_expects(metric: Metric, by_chance: dict[str, list[Score]]) -> None:
    entries = [s for s in by_chance[name(metric)] if s.null.mean is not None]
    means, sds = np.array([[s.null.mean, s.null.sd] for s in entries], dtype=float).reshape(-1, 2).T
    assert len(entries) in (0, PERMUTED_PAIRS, PAIRS)  # 0: a null distribution without moments
    if not entries:
        return
    z = (np.array([s.value for s in entries], dtype=float) - means) / sds
    assert abs(np.mean(z)) < 4 / np.sqrt(len(z))
    assert 0.7 < np.std(z) < 1.4


@every_metric
def test_p_values_keep_their_level_on_independent_spaces(metric: Metric, by_chance: dict[str, list[Score]]) -> None:
    p = np.array([s.null.p_value for s in by_chance[name(metric)]], dtype=float)
    assert np.mean(p <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(p))
    assert 0.5 - 4 * np.sqrt(1 / 12 / len(p)) < p.mean() < 0.8  # a coarse value has ties, which count against it


@every_closed_form
def test_a_closed_form_agrees_with_permutations(metric: Metric) -> None:
    a, b = pair()[0], pair(1)[1]
    requested = {"metrics": [metric.model_dump()], "interval": None}
    (closed,) = score(a, b, **requested).scores
    (drawn,) = score(a, b, **requested, null={"method": "permutation", "permutations": 400}).scores
    assert closed.null.threshold is not None
    assert drawn.null.threshold is not None
    assert drawn.null.mean is not None
    assert drawn.null.sd is not None
    assert closed.null.threshold == pytest.approx(drawn.null.threshold, abs=0.7 * drawn.null.sd)
    if closed.null.mean is not None:
        assert closed.null.mean == pytest.approx(drawn.null.mean, abs=4 * drawn.null.sd / np.sqrt(400))
        assert closed.null.sd == pytest.approx(drawn.null.sd, rel=0.2)
