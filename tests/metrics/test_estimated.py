"""Estimates of neighbour metrics from query rows: unbiased by enumeration, exact with all rows, labelled otherwise."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from consilience.contract.alignments import ScoringOptions
from consilience.contract.kernel_metrics import Cknna
from consilience.contract.metric import NeighbourMetric
from consilience.contract.scores import GraphUse, Score, ScoreDocument
from consilience.errors import InvalidRequest
from consilience.execution.alignment import CachedGraphs
from consilience.metrics.comparison import Comparison, LayerRef
from consilience.metrics.estimated import QuerySample, estimate_cell
from consilience.metrics.registry import measure
from consilience.numerics.rows.arrays import IdArray
from consilience.numerics.rows.sources import ArrayLayer, SideSource
from consilience.numerics.stats.intervals import SampledMean
from consilience.scoring import ignore_progress, score, score_sources
from consilience.stores.graph_cache import DiskCache
from tests.metrics.test_neighbours import cases, layers, name, open_side

every_metric = pytest.mark.parametrize("metric", list(cases()), ids=name)
#: Means of row scores, for which an estimate is unbiased.
every_mean = pytest.mark.parametrize("metric", [each for each in cases() if each.metric != "cknna"], ids=name)

GROUPS = np.array([0, 0, 1, 2, 2, 3, 4, 5, 6], np.int32)


def compare(n: int, metric: NeighbourMetric, groups: IdArray | None = None) -> Comparison:
    sides = [open_side(layers(1, seed, n), groups) for seed in (0, 1)]
    return Comparison(*sides, metric.k[0], 0, ignore_progress, groups)


def estimate(comparison: Comparison, metric: NeighbourMetric, chosen: Sequence[int]) -> SampledMean:
    order = np.array([*chosen, *(row for row in range(comparison.n) if row not in chosen)], np.int32)
    sample = QuerySample(comparison, metric.k[0], (comparison.n,), order)
    sample.extend(len(chosen))
    found = estimate_cell(metric, sample, (0, 0))
    assert found is not None
    return found


@every_mean
@pytest.mark.parametrize("groups", [None, GROUPS], ids=["alone", "groups"])
def test_estimates_over_all_subsets_are_unbiased_and_have_the_right_variance(
    metric: NeighbourMetric, groups: IdArray | None
) -> None:
    metric = metric.model_copy(update={"k": (min(metric.k[0], 3),)})
    comparison = compare(len(GROUPS), metric, groups)
    exact = measure(metric, comparison).grid[0, 0]
    found = [estimate(comparison, metric, chosen) for chosen in combinations(range(len(GROUPS)), 4)]
    values = np.array([each.value for each in found])
    assert values.mean() == pytest.approx(exact, abs=1e-12)
    assert np.mean([each.se**2 for each in found]) == pytest.approx(values.var(), abs=1e-12)


@every_metric
@pytest.mark.parametrize("groups", [None, np.arange(60, dtype=np.int32) // 2], ids=["alone", "groups"])
def test_an_estimate_from_all_rows_equals_the_exact_score(metric: NeighbourMetric, groups: IdArray | None) -> None:
    comparison = compare(60, metric, groups)
    order = np.random.default_rng(0).permutation(60)
    found = estimate(comparison, metric, order.tolist())
    assert found.value == pytest.approx(measure(metric, comparison).grid[0, 0], abs=1e-9)
    assert found.se == 0


def pair(n: int = 600, seed: int = 0, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 8))
    a, b = (shared + noise * rng.normal(size=(n, 8)) for _ in "ab")
    return a.astype(np.float32), b.astype(np.float32)


ALL = [each.model_dump() for each in cases()]


def score_views(metrics: object = "mutual_knn", n: int = 600, **options: object) -> ScoreDocument:
    return score(*pair(n), metrics=metrics, **options)


def the_score(document: ScoreDocument) -> Score:
    (found,) = document.scores
    return found


def test_an_estimate_is_labelled_and_close_to_the_exact_score() -> None:
    found, exact = the_score(score_views(estimate={"queries": 200})), the_score(score_views())
    assert (found.estimator, found.queries, exact.estimator, exact.queries) == ("estimated", 200, "exact", 600)
    assert found.value == pytest.approx(exact.value, abs=0.05)
    assert found.interval is not None
    assert (found.interval.target, found.interval.method) == ("gallery", "query-subset")
    assert found.interval.low < exact.value < found.interval.high
    assert found.neighbours is not None
    assert (found.neighbours.builder, found.neighbours.recall) == ("queries", 1.0)


def test_as_many_queries_as_rows_give_the_exact_score() -> None:
    document, exact = score_views(ALL, estimate={"queries": 600}), score_views(ALL)
    assert [each.model_dump() for each in document.scores] == [each.model_dump() for each in exact.scores]
    assert document.scores[0].estimator == "exact"


def test_a_larger_sample_extends_the_smaller_one() -> None:
    comparison = Comparison(*(open_side([x]) for x in pair()), 10, 0, ignore_progress)
    order = np.random.default_rng(0).permutation(600).astype(np.int32)
    at_once, by_draws = (QuerySample(comparison, 10, (600,), order) for _ in "ab")
    at_once.extend(300)
    for m in (100, 250, 300):
        by_draws.extend(m)
    first = LayerRef("a", 0)
    np.testing.assert_array_equal(at_once.neighbours(first).ids, by_draws.neighbours(first).ids)


def test_queries_are_added_until_every_interval_is_narrow_enough() -> None:
    metrics = [{"metric": "mutual_knn", "k": [5, 20]}, "cycle_knn"]
    document = score_views(metrics, n=6000, estimate={"half_width": 0.015}, null={"method": "none"})
    for each in document.scores:
        assert each.estimator == "estimated"
        assert each.interval is not None
        assert each.interval.high - each.interval.low <= 0.03
    assert len({each.queries for each in document.scores}) == 1
    assert 1000 < document.scores[0].queries < 3000


def test_a_half_width_that_needs_most_rows_uses_all_rows() -> None:
    found = the_score(score_views(n=2200, estimate={"half_width": 0.0005}))
    assert (found.estimator, found.queries) == ("exact", 2200)
    assert found.interval is not None
    assert found.interval.target == "population"


def test_identical_sides_need_only_the_pilot_and_keep_an_uncertain_interval() -> None:
    a, _ = pair(4000)
    found = the_score(score(a, a, metrics="mutual_knn", estimate={"half_width": 0.005}))
    assert (found.value, found.queries) == (1.0, 1000)
    assert found.interval is not None
    assert 0.99 < found.interval.low < found.interval.high == 1.0


def test_the_null_of_an_estimate_is_its_mean_if_that_is_known() -> None:
    document = score_views(ALL, estimate={"queries": 150})
    for each in document.scores:
        assert each.null.reason is not None
        assert each.null.reason.code == "query-subset"
        assert (each.null.p_value, each.null.sd, each.null.threshold, each.calibrated) == (None, None, None, None)
        known = each.metric == "mutual_knn"
        assert each.null.mean == (pytest.approx(each.options["k"] / 599) if known else None)
        assert each.null.method == ("analytic" if known else "none")


def test_a_permutation_null_of_an_estimate_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="needs the neighbours of every row"):
        score_views(estimate={"queries": 200}, null={"method": "permutation"})
    assert the_score(score_views(estimate={"queries": 600}, null={"method": "permutation"})).null.p_value is not None


def test_an_estimate_has_no_population_interval_and_a_warning() -> None:
    found = the_score(score_views(estimate={"queries": 200}, interval={"target": "population"}))
    assert found.interval is None
    assert any("population" in warning for warning in found.warnings)
    assert the_score(score_views(estimate={"queries": 200}, interval=None)).warnings == ()


def test_other_metrics_of_the_request_stay_exact() -> None:
    exact, estimated = score_views("cka"), score_views(["cka", "mutual_knn"], estimate={"queries": 200})
    assert estimated.scores[0].model_dump() == exact.scores[0].model_dump()


def test_a_grid_has_the_interval_of_its_best_pair() -> None:
    (a, b), (c, d) = pair(), pair(noise=3.0)
    document = score({"0": a, "1": c}, {"0": d, "1": b}, layers="all", metrics="mutual_knn", estimate={"queries": 300})
    found = the_score(document)
    assert (found.layer_a, found.layer_b) == ("0", "1")
    assert found.interval is not None
    assert found.interval.low < found.value < found.interval.high
    assert any("does not account for the selection" in warning for warning in found.warnings)
    assert found.null.method == "bonferroni"
    averaged = the_score(
        score(
            {"0": a, "1": c}, b, layers="all", aggregate="row_max_mean", metrics="mutual_knn", estimate={"queries": 300}
        )
    )
    assert averaged.interval is None


def test_a_score_undefined_on_all_rows_is_undefined_on_a_sample() -> None:
    a, b = pair()
    found = the_score(score(np.ones_like(a), b, metrics="mutual_knn", estimate={"half_width": 0.01}))
    assert found.reason is not None
    assert found.reason.code == "constant-rows"


@pytest.mark.parametrize("variant", ["prh", "paper", "biased"])
def test_estimates_of_cknna_spread_around_the_exact_score_by_their_errors(variant: str) -> None:
    metric = Cknna(variant=variant)  # type: ignore[arg-type]  # one of its variants
    comparison = Comparison(*(open_side([x]) for x in pair(400)), 10, 0, ignore_progress)
    exact, rng = measure(metric, comparison).grid[0, 0], np.random.default_rng(0)
    found = [estimate(comparison, metric, rng.permutation(400)[:100].tolist()) for _ in range(30)]
    values, errors = (np.array([getattr(each, name) for each in found]) for name in ("value", "se"))
    assert values.mean() == pytest.approx(exact, abs=4 * values.std() / np.sqrt(30))
    assert errors.mean() == pytest.approx(values.std(), rel=0.4)


def test_an_unbounded_estimate_of_identical_sides_has_no_interval() -> None:
    a, _ = pair(3000)
    found = the_score(score(a, a, metrics={"metric": "cknna", "variant": "paper"}, estimate={"half_width": 0.01}))
    assert (found.value, found.queries, found.interval) == (pytest.approx(1.0, abs=1e-4), 1000, None)
    assert any("have the same score" in warning for warning in found.warnings)


def test_an_estimate_refuses_an_approximate_graph() -> None:
    with pytest.raises(InvalidRequest, match="exact neighbours") as caught:
        score_views(estimate={"queries": 200}, builder={"index": "HNSW32"})
    assert caught.value.pointer == "/builder"


def test_intervals_that_stay_too_wide_name_the_required_number_of_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consilience.metrics.query_sampling.EXTENSIONS_MAX", 0)
    found = the_score(score_views(n=3000, estimate={"half_width": 0.003}))
    assert found.queries == 1000
    assert any("above the requested 0.003" in warning and "and 1000 were used" in warning for warning in found.warnings)


def test_an_estimate_with_the_same_seed_reads_its_lists_from_the_cache(tmp_path: Path) -> None:
    a, b = (SideSource(side, [ArrayLayer("0", x)]) for side, x in zip("ab", pair(), strict=True))

    def run(**fields: object) -> ScoreDocument:
        options = ScoringOptions.model_validate({"metrics": ["mutual_knn", "cycle_knn"], **fields})
        return score_sources(options, a, b, CachedGraphs(DiskCache(tmp_path, 10**8), ignore_progress), ignore_progress)

    chosen: dict[str, object] = {"estimate": {"queries": 150}, "gallery_sizes": [100, 600]}
    first, again, other = run(**chosen), run(**chosen), run(**chosen, seed=1)
    assert first.graphs is not None
    count = first.graphs.misses
    assert first.graphs == other.graphs == GraphUse(hits=0, misses=count)
    assert again.graphs == GraphUse(hits=count, misses=0)
    assert [each.value for each in again.scores] == [each.value for each in first.scores]
    assert again.scores[0].neighbours is not None
    assert again.scores[0].neighbours.cache == "hit"
