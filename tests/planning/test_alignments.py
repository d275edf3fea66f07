"""Plans of alignments: cost, limits and errors."""

import re

import pytest

from consilience.contract.alignments import ScoringOptions
from consilience.contract.metrics import METRICS
from consilience.errors import ConsilienceError, InvalidRequest, TooExpensive, TooFewRows, UnknownLayer, UnpairedSides
from consilience.planning.alignments import CostLimits, SideShape, choose_gallery_sizes, choose_layers, plan


def shape(n: int = 1000, layers: int = 3, dim: int = 64) -> SideShape:
    return SideShape(n, tuple((str(i), dim) for i in range(layers)))


def options(**fields: object) -> ScoringOptions:
    return ScoringOptions.model_validate(fields)


def test_a_plan_has_the_number_of_cells_and_their_cost() -> None:
    found = plan(options(layers="all", metrics="mutual_knn"), shape(), shape(layers=2, dim=32))
    assert (found.n, found.dim_a, found.dim_b, found.cells) == (1000, 64, 32, 6)
    assert found.flops == pytest.approx(2 * 1000 * 1000 * (3 * 64 + 2 * 32), rel=0.01)


def test_cost_grows_with_rows_layers_and_permutations() -> None:
    base = plan(options(), shape(), shape())
    assert plan(options(), shape(4000), shape(4000)).seconds > base.seconds
    assert plan(options(layers="all"), shape(), shape()).flops > base.flops
    assert plan(options(null={"method": "permutation"}), shape(), shape()).flops > base.flops
    assert plan(options(), shape(dim=4096), shape(dim=4096)).bytes > base.bytes


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("last", ("late",)), ("all", ("early", "late")), (("late", "early", "late"), ("late", "early"))],
)
def test_layers_are_chosen_by_keyword_or_by_name(choice: object, expected: tuple[str, ...]) -> None:
    assert choose_layers(choice, ("early", "late"), "a") == expected  # type: ignore[arg-type]  # parametrised


@pytest.mark.parametrize(
    ("fields", "a", "b", "error", "value"),
    [
        ({}, shape(1000), shape(999), UnpairedSides, "1000 and 999 rows"),
        ({}, shape(3), shape(3), TooFewRows, "3"),
        ({"metrics": {"metric": "mutual_knn", "k": [5, 1000]}}, shape(), shape(), InvalidRequest, "1000"),
        ({"layers": {"a": "last", "b": ["9"]}}, shape(), shape(), UnknownLayer, "9"),
        ({"builder": {"index": "IVF1001,Flat"}}, shape(), shape(), InvalidRequest, "IVF1001,Flat"),
        ({"builder": {"index": "PQ12x4"}}, shape(dim=12), shape(), InvalidRequest, "PQ12x4"),
    ],
)
def test_an_impossible_request_is_refused_with_the_offending_value(
    fields: dict[str, object], a: SideShape, b: SideShape, error: type[ConsilienceError], value: str
) -> None:
    with pytest.raises(error) as caught:
        plan(options(**fields), a, b)
    assert caught.value.value == value
    assert caught.value.pointer or error is TooFewRows


def test_a_job_over_a_limit_is_refused_with_the_limit() -> None:
    with pytest.raises(TooExpensive) as flops:
        plan(options(), shape(), shape(), CostLimits(flops=1e6, bytes=10**12))
    assert flops.value.limit == 1e6
    with pytest.raises(TooExpensive) as memory:
        plan(options(), shape(), shape(), CostLimits(flops=1e18, bytes=1000))
    assert memory.value.limit == 1000


def test_a_job_within_the_limits_is_planned() -> None:
    assert plan(options(), shape(), shape(), CostLimits(flops=1e12, bytes=10**10)).n == 1000


def test_a_null_without_closed_form_costs_its_permutations() -> None:
    one, many = (
        plan(options(metrics="procrustes", null={"permutations": draws}), shape(), shape()) for draws in (20, 200)
    )
    assert many.flops > 2 * one.flops
    none = plan(options(metrics="procrustes", null={"method": "none"}), shape(), shape())
    assert none.flops < one.flops


def test_metrics_of_all_pairs_grow_with_the_square_of_the_rows() -> None:
    small, large = (plan(options(metrics="distance_correlation"), shape(n), shape(n)) for n in (1000, 4000))
    assert large.flops == pytest.approx(16 * small.flops, rel=0.01)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_has_a_cost(metric: str) -> None:
    found = plan(options(metrics=metric, layers="all"), shape(), shape())
    assert found.flops > 0
    assert 0 < found.seconds < 10_000


def by_id(n: int, unique: int | None, *, groups: bool = False) -> SideShape:
    return SideShape(n, (("0", 8),), unique_ids=unique, has_groups=groups)


@pytest.mark.parametrize(
    ("a", "b", "n"),
    [
        (by_id(20, 20), by_id(30, 30), 20),
        (by_id(30, 30), by_id(20, 20), 20),
        (by_id(20, 20), by_id(100, 20, groups=True), 100),
        (by_id(100, 20, groups=True), by_id(500, 500), 100),
        (by_id(100, 90, groups=True), by_id(50, 40, groups=True), 150),
    ],
)
def test_a_plan_of_sides_paired_by_id_assumes_the_most_possible_rows(a: SideShape, b: SideShape, n: int) -> None:
    assert plan(options(pairing="id"), a, b).n == n


@pytest.mark.parametrize(
    ("a", "b", "error", "pointer"),
    [
        (by_id(20, None), by_id(20, 20), InvalidRequest, "/pairing"),
        (by_id(20, 20), by_id(20, None, groups=True), InvalidRequest, "/pairing"),
        (by_id(20, 19), by_id(20, 20), UnpairedSides, "/a"),
        (by_id(20, 20, groups=True), by_id(20, 1), UnpairedSides, "/b"),
        (by_id(3, 3), by_id(20, 20), TooFewRows, None),
        (by_id(10, 10), by_id(20, 20), InvalidRequest, "/metrics/0/k"),
    ],
)
def test_sides_that_cannot_be_paired_by_id_are_refused(
    a: SideShape, b: SideShape, error: type[ConsilienceError], pointer: str | None
) -> None:
    with pytest.raises(error) as caught:
        plan(options(pairing="id"), a, b)
    assert caught.value.pointer == pointer


def seconds(n: int, **fields: object) -> float:
    return plan(options(metrics="mutual_knn", **fields), shape(n), shape(n)).seconds


def test_query_rows_cost_their_share_of_a_search() -> None:
    found = plan(options(metrics="mutual_knn", estimate={"queries": 1000}), shape(100_000), shape(100_000))
    assert found.flops == pytest.approx(2 * 1000 * 100_000 * 128, rel=0.01)
    assert seconds(100_000, estimate={"queries": 2000}) < seconds(100_000, estimate={"queries": 8000})
    assert seconds(100_000, estimate={"half_width": 0.01}) < seconds(100_000, estimate={"half_width": 0.005})
    assert seconds(5000, estimate={"half_width": 0.001}) == seconds(5000)
    assert seconds(5000, estimate={"queries": 9000}) == seconds(5000)


def test_metrics_of_neighbours_of_neighbours_cost_more_queries() -> None:
    cycle = plan(options(metrics="cycle_knn", estimate={"queries": 1000}), shape(100_000), shape(100_000))
    assert cycle.flops == pytest.approx(11 * 2 * 1000 * 100_000 * 128, rel=0.01)


def test_a_curve_costs_a_search_of_its_largest_inner_gallery() -> None:
    plain = plan(options(metrics="mutual_knn"), shape(100_000), shape(100_000))
    curve = plan(options(metrics="mutual_knn", gallery_sizes=[1000, 30_000]), shape(100_000), shape(100_000))
    assert curve.flops - plain.flops == pytest.approx(2 * 30_000**2 * 128, rel=0.01)
    with_queries = {"estimate": {"queries": 1000}}
    assert seconds(100_000, gallery_sizes=[1000], **with_queries) == seconds(100_000, **with_queries)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"estimate": {"queries": 200}, "null": {"method": "permutation"}}, "/null/method"),
        ({"estimate": {"queries": 200}, "builder": {"index": "HNSW32"}}, "/builder"),
        ({"gallery_sizes": "auto", "builder": {"index": "HNSW32"}}, "/gallery_sizes"),
        ({"gallery_sizes": [100, 1001]}, "/gallery_sizes/1"),
        ({"gallery_sizes": [10]}, "/gallery_sizes/0"),
    ],
)
def test_options_that_queries_or_galleries_exclude_are_refused(fields: dict[str, object], pointer: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        plan(options(**fields), shape(), shape())
    assert caught.value.pointer == pointer


def test_metrics_without_queries_ignore_the_options_of_queries() -> None:
    plan(options(metrics="cka", estimate={"queries": 200}, null={"method": "permutation"}), shape(), shape())
    plan(options(metrics="cka", gallery_sizes=[5000]), shape(), shape())
    plan(options(estimate={"queries": 1000}, null={"method": "permutation"}), shape(), shape())


@pytest.mark.parametrize(
    ("n", "sizes"),
    [(600, (600,)), (1000, (1000,)), (9999, (1000, 3000, 9999)), (100_000, (1000, 3000, 10_000, 30_000, 100_000))],
)
def test_auto_sizes_are_1_and_3_times_powers_of_ten_up_to_all_rows(n: int, sizes: tuple[int, ...]) -> None:
    assert choose_gallery_sizes(options(gallery_sizes="auto"), n) == sizes
    assert choose_gallery_sizes(options(), n) == ()


def test_rows_that_do_not_fit_the_budget_are_streamed() -> None:
    large = shape(1_000_000, 1, 768)
    budget = 1_500_000_000
    held = plan(options(metrics="cka"), large, large, CostLimits(bytes=10**11))
    read = plan(options(metrics="cka"), large, large, CostLimits(bytes=budget))
    assert (held.streamed, read.streamed) == (False, True)
    assert read.bytes <= budget < held.bytes
    assert read.memory_budget_bytes == budget
    requested = plan(options(metrics="cka", memory_budget_bytes=budget), large, large, CostLimits(bytes=10**11))
    assert (requested.streamed, requested.memory_budget_bytes) == (True, budget)


def test_a_budget_above_the_limit_is_refused_with_both_numbers() -> None:
    with pytest.raises(InvalidRequest) as caught:
        plan(options(memory_budget_bytes=4 * 10**9), shape(), shape(), CostLimits(bytes=10**9))
    assert (caught.value.value, caught.value.limit) == (str(4 * 10**9), 10**9)
    assert caught.value.pointer == "/memory_budget_bytes"


@pytest.mark.parametrize(
    "metric",
    [{"metric": "cka", "kernel": "rbf"}, "distance_correlation", "mutual_knn", "cca_mean", "linear_predictivity"],
)
def test_a_job_over_budget_is_refused_with_its_estimate_and_the_budget(metric: object) -> None:
    large = shape(10_000_000, 1, 768)
    with pytest.raises(TooExpensive) as caught:
        plan(options(metrics=metric), large, large, CostLimits(bytes=3 * 10**9))
    assert float(caught.value.value or 0) > 3 * 10**9 == caught.value.limit
    assert "3 GB" in str(caught.value.detail)
    assert caught.value.hint


@pytest.mark.parametrize("metric", ["cknna", "second_order_cosine"])
def test_metrics_that_look_up_rows_need_memory_for_both_sides(metric: str) -> None:
    large, limits = shape(300_000, 1, 768), CostLimits(bytes=25 * 10**8)
    assert plan(options(metrics="mutual_knn"), large, large, limits).streamed
    with pytest.raises(TooExpensive, match="GB of memory"):
        plan(options(metrics=metric), large, large, limits)


def test_a_job_longer_than_the_limit_is_refused_with_its_estimate() -> None:
    large = shape(1_000_000, 1, 768)
    limits = CostLimits(bytes=10**10, seconds=3600)
    with pytest.raises(TooExpensive) as caught:
        plan(options(), large, large, limits)
    assert float(caught.value.value or 0) > 3600 == caught.value.limit
    assert "60 minutes" in caught.value.detail
    assert re.search(r"about (?!60 minutes)[\d.]+ (h|minutes);", caught.value.detail)
    assert "estimate" in (caught.value.hint or "")
    some = plan(options(estimate={"half_width": 0.005}), large, large, limits)
    assert some.seconds < 600
    assert some.queries is not None
    assert some.queries_max is not None
    assert 3000 < some.queries < 4000 < some.queries_max < 40_000


def test_permutations_of_streamed_rows_cost_single_reads() -> None:
    large = shape(1_000_000, 1, 768)
    found = plan(options(metrics="procrustes", interval=None), large, large, CostLimits(bytes=2 * 10**9))
    assert found.streamed
    assert found.seconds > 3600


def test_a_concatenated_layer_costs_its_whole_width() -> None:
    plain, concat = (plan(options(metrics="cka", concat=value), shape(), shape()) for value in (False, True))
    assert (concat.cells, concat.dim_a) == (4, 192)
    assert concat.flops > 4 * plain.flops


def test_an_index_costs_nothing_without_neighbour_metrics() -> None:
    assert plan(options(metrics="cka", builder={"index": "IVF5000,Flat"}), shape(), shape()).flops > 0


@pytest.mark.parametrize(
    "index",
    [
        "IVF99999,Flat",
        "HNSW999",
        "IVF50000_HNSW999,PQ256x12",
        "PQ512x12",
        "OPQ512_2048,PQ512x12",
        "RR2048,SQ8",
        "SQ4",
    ],
)
def test_an_index_that_takes_hours_is_too_expensive(index: str) -> None:
    large = shape(1_000_000, layers=1, dim=1024)
    with pytest.raises(TooExpensive):
        plan(options(metrics="mutual_knn", builder={"index": index}), large, large, CostLimits(2e14, 64 * 10**9))


def test_an_index_that_takes_too_much_memory_is_too_expensive() -> None:
    narrow = shape(1_000_000, layers=1, dim=4)
    with pytest.raises(TooExpensive) as refusal:
        plan(options(metrics="mutual_knn", builder={"index": "HNSW999"}), narrow, narrow, CostLimits(1e18, 4 * 10**9))
    assert "memory" in refusal.value.detail


def test_an_approximate_graph_of_many_rows_costs_less_than_an_exact_one() -> None:
    many = shape(500_000, layers=1, dim=768)
    found, exact = [plan(options(metrics="mutual_knn", builder=builder), many, many) for builder in ({}, "auto")]
    assert found.seconds < exact.seconds / 2


def test_lists_that_will_be_too_short_cost_an_exact_search() -> None:
    side = shape(50_000, layers=1)
    short, long = [
        plan(options(metrics="mutual_knn", builder={"index": "IVF25000,SQ8", "effort": effort}), side, side).flops
        for effort in (1, 100)
    ]
    assert short > long


def test_a_duration_just_over_the_limit_is_not_rounded_to_the_limit() -> None:
    large = shape(1_000_000, 1, 768)
    seconds = plan(options(), large, large, CostLimits(bytes=10**10)).seconds
    with pytest.raises(TooExpensive) as caught:
        plan(options(), large, large, CostLimits(bytes=10**10, seconds=seconds * 0.995))
    about, most = re.findall(r"[\d.]+ (?:h|minutes)", caught.value.detail)
    assert about != most
