"""The neighbour metrics from rows to score: values, nulls, intervals and undefined cells, against searching again."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from consilience.contract.metric import NeighbourMetric
from consilience.contract.metrics import METRICS
from consilience.contract.scores import Score
from consilience.limits import HALVES
from consilience.metrics.comparison import Comparison, Measurement
from consilience.metrics.graph_sources import FreshGraphs
from consilience.metrics.neighbours import find_score
from consilience.metrics.registry import measure
from consilience.metrics.sides import PreparedSide
from consilience.numerics.knn import build
from consilience.numerics.knn.devices import Gpu
from consilience.numerics.neighbour_overlap.lists import NeighbourLists
from consilience.numerics.rows.arrays import IdArray
from consilience.numerics.rows.sources import ArrayLayer
from consilience.numerics.stats.intervals import ConfidenceInterval, list_length
from consilience.scoring import ignore_progress, score
from tests.laws.variants_neighbours import VARIANTS
from tests.reference_implementations import basic
from tests.reference_implementations import neighbours as reference

N = 90


def cases() -> Iterator[NeighbourMetric]:
    for name, variants in VARIANTS.items():
        for variant in variants:
            yield METRICS[name].model_validate({"metric": name, **variant})  # type: ignore[misc]  # neighbour metrics all


def name(metric: NeighbourMetric) -> str:
    return f"{metric.metric}-{'-'.join(map(str, metric.options().values()))}"


every_metric = pytest.mark.parametrize("metric", list(cases()), ids=name)


def layers(count: int, seed: int, n: int = N) -> list[np.ndarray]:
    shared = np.random.default_rng(5).normal(size=(n, 6))
    rng = np.random.default_rng(seed)
    return [(shared + (1 + i) * rng.normal(size=(n, 6))).astype(np.float32) for i in range(count)]


def open_side(arrays: list[np.ndarray], groups: IdArray | None = None) -> PreparedSide:
    found = [ArrayLayer(str(i), array) for i, array in enumerate(arrays)]
    return PreparedSide(found, [None] * len(found), centre=False, normalise=True, source=FreshGraphs(), groups=groups)


def compare(
    metric: NeighbourMetric, a: list[np.ndarray], b: list[np.ndarray], *, length: int | None = None, seed: int = 0
) -> Measurement:
    n, (k,) = len(a[0]), metric.k
    return measure(metric, Comparison(open_side(a), open_side(b), length or list_length(n, k), seed, ignore_progress))


def score_one(a: object, b: object, metric: NeighbourMetric, **options: object) -> Score:
    (found,) = score(a, b, metrics=[metric.model_dump()], **options).scores
    return found


@every_metric
def test_a_grid_has_the_value_of_each_layer_pair(metric: NeighbourMetric) -> None:
    a, b = layers(3, 1), layers(2, 2)
    expected = [[compare(metric, [x], [y]).grid[0, 0] for y in b] for x in a]
    np.testing.assert_allclose(compare(metric, a, b).grid, expected, atol=1e-12)


@every_metric
def test_a_permuted_grid_is_the_grid_of_the_permuted_rows(metric: NeighbourMetric) -> None:
    a, b = layers(2, 1), layers(3, 2)
    order = np.random.default_rng(3).permutation(N)
    drawn = compare(metric, a, b).permuted(order)
    np.testing.assert_allclose(drawn, compare(metric, a, [y[order] for y in b]).grid, atol=2e-6)


@every_metric
def test_no_permutation_fills_an_undefined_cell(metric: NeighbourMetric) -> None:
    a, b = layers(2, 1), layers(2, 2)
    a[1][7] = 0
    found = compare(metric, a, b)
    assert np.isnan(found.grid).tolist() == [[False, False], [True, True]]
    assert {cell: reason.code for cell, reason in found.reasons.items()} == dict.fromkeys([(1, 0), (1, 1)], "zero-rows")
    drawn = found.permuted(np.random.default_rng(3).permutation(N))
    assert np.isnan(drawn).tolist() == np.isnan(found.grid).tolist()


@pytest.fixture(scope="module")
def halves() -> list[tuple[NeighbourLists, NeighbourLists]]:
    """Both sides' lists in each of the halves that delete-half draws with seed 0, searched again."""
    rng = np.random.default_rng(0)
    kept = [np.sort(rng.permutation(N)[: N // 2]) for _ in range(HALVES)]
    sides = [basic.unit_rows(layers(1, seed)[0]).astype(np.float32) for seed in (1, 2)]
    return [(reference.lists_of(sides[0][rows], 10), reference.lists_of(sides[1][rows], 10)) for rows in kept]


@every_metric
def test_the_interval_equals_that_of_a_new_search_of_each_half(
    metric: NeighbourMetric, halves: list[tuple[NeighbourLists, NeighbourLists]]
) -> None:
    whole = compare(metric, layers(1, 1), layers(1, 2), length=N - 1)
    found = whole.interval(0, 0, 0.95)
    assert isinstance(found, ConfidenceInterval)
    kind, (k,) = find_score(metric), metric.k
    values = [kind.score(*(kind.read(lists, k) for lists in half)) for half in halves]
    width = 1.959964 * np.std(values, ddof=1)
    low, high = whole.grid[0, 0] - width, whole.grid[0, 0] + width
    assert found.low == pytest.approx(low if metric.low is None else max(metric.low, low), abs=1e-5)
    assert found.high == pytest.approx(high if metric.ceiling is None else min(metric.ceiling, high), abs=1e-5)


@every_metric
def test_a_longer_cached_graph_changes_no_number(metric: NeighbourMetric) -> None:
    a, b = layers(1, 1), layers(1, 2)
    length = list_length(N, metric.k[0])
    short = Comparison(open_side(a), open_side(b), length, 0, ignore_progress)
    long = Comparison(open_side(a), open_side(b), length, 0, ignore_progress)
    for side in (long.a, long.b):
        side.graphs.find(0, N - 1)
    assert measure(metric, short).interval(0, 0, 0.95) == measure(metric, long).interval(0, 0, 0.95)


@every_metric
def test_the_closed_form_null_has_the_mean_of_the_permutations(metric: NeighbourMetric) -> None:
    if "analytic" not in metric.nulls:
        return
    found = compare(metric, layers(1, 1), layers(1, 2))
    rng = np.random.default_rng(4)
    draws = [found.permuted(rng.permutation(N))[0, 0] for _ in range(400)]
    null = found.null(0, 0)
    assert null.mean == pytest.approx(np.mean(draws), abs=4 * np.std(draws) / 20)  # type: ignore[union-attr]  # no angle


@every_metric
def test_a_sweep_over_k_equals_separate_requests(metric: NeighbourMetric) -> None:
    (x,), (y,) = layers(1, 1), layers(1, 2)
    swept = score(x, y, metrics=[metric.model_dump() | {"k": [2, 5, 20]}], null={"method": "none"})
    for entry, k in zip(swept.scores, (2, 5, 20), strict=True):
        alone = score_one(x, y, metric.model_copy(update={"k": (k,)}), null={"method": "none"})
        assert entry.interval is not None
        assert entry == alone


@every_metric
def test_related_spaces_are_significant_and_have_an_interval(metric: NeighbourMetric) -> None:
    x, y = reference.views(N, noise=0.5)
    found = score_one(x, y, metric, null={"method": "permutation", "permutations": 99})
    assert found.value is not None
    assert found.null.p_value == 0.01
    assert found.interval is not None
    assert found.interval.low < found.value < found.interval.high
    if metric.ceiling is not None:
        assert found.calibrated is not None
        assert 0 < found.calibrated < 1


def test_raw_and_normalised_lcs_calibrate_alike() -> None:
    (x,), (y,) = layers(1, 1), layers(1, 2)
    plain, raw = (
        score_one(x, y, METRICS["lcs_knn"].model_validate({"k": 7, "raw": raw}), null={"method": "permutation"})  # type: ignore[arg-type]  # it is one
        for raw in (False, True)
    )
    assert raw.value == pytest.approx(7 * plain.value)  # type: ignore[operator]  # both are defined
    assert raw.calibrated == pytest.approx(plain.calibrated)


def test_the_closed_form_null_of_cycle_knn_is_a_mean_with_a_reason() -> None:
    (x,), (y,) = layers(1, 1), layers(1, 2)
    found = score_one(x, y, METRICS["cycle_knn"](metric="cycle_knn"), null={"method": "analytic"})  # type: ignore[arg-type]  # it is one
    assert found.null.mean is not None
    assert found.null.reason is not None
    assert found.null.reason.code == "mean-only"


def test_second_order_cosine_is_undefined_if_an_item_resembles_no_other() -> None:
    _, (y,) = layers(1, 1, 12), layers(1, 2, 12)
    found = score_one(np.eye(12, dtype=np.float32), y, METRICS["second_order_cosine"](metric="second_order_cosine"))  # type: ignore[arg-type]  # it is one
    assert found.status == "undefined"
    assert found.reason is not None
    assert found.reason.code == "zero-similarities"


@pytest.mark.parametrize("variant", ["prh", "paper"])
def test_cknna_is_undefined_without_positive_self_similarity(variant: str) -> None:
    """Orthogonal rows have similarity 0 to each other; centred by row, equal ones."""
    rows = np.eye(8, dtype=np.float32)
    metric = METRICS["cknna"].model_validate({"metric": "cknna", "k": 3, "variant": variant})
    found = score_one(rows, layers(1, 2, 8)[0], metric)  # type: ignore[arg-type]  # it is one
    assert found.status == ("undefined" if variant == "prh" else "defined")
    assert found.reason is None or found.reason.code == "non-positive-self-similarity"


@every_metric
def test_very_few_rows_give_a_value_or_a_reason(metric: NeighbourMetric) -> None:
    for n in range(4, 13):
        found = score_one(
            *(layers(1, seed, n)[0] for seed in (1, 2)), metric.model_copy(update={"k": (min(3, n - 1),)})
        )
        assert (found.value is None) == (found.reason is not None)
        assert found.interval is not None or found.status == "undefined" or "No interval" in found.warnings[0]


def test_a_local_gpu_is_preferred_to_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    side = open_side(layers(1, seed=0))
    monkeypatch.setattr("consilience.metrics.layers.STEPS_MIN", 1)
    monkeypatch.setattr(side.graphs, "executor", SimpleNamespace(is_remote=True))
    assert side.graphs.is_remote(0)
    monkeypatch.setattr(side.graphs, "device", "cuda")
    monkeypatch.setattr(build, "find_gpu", lambda _: Gpu("cuda:0", "of the tests"))
    assert not side.graphs.is_remote(0)
