"""Plans of maps and translations: cost, limits and errors."""

from typing import Any

import pytest

from consilience.contract.maps import MapOptions
from consilience.errors import InvalidRequest, TooExpensive, TooFewRows, UnknownLayer, UnpairedSides
from consilience.planning.alignments import CostLimits, SideShape
from consilience.planning.maps import plan_map, plan_translation

A, B = SideShape(1_000_000, (("0", 768),)), SideShape(1_000_000, (("first", 32), ("last", 1024)))


def plan(**fields: Any) -> Any:
    return plan_map(MapOptions.model_validate(fields), A, B)


def test_a_plan_has_the_mapped_dimensions_and_grows_with_the_work() -> None:
    assert (plan().dim_a, plan().dim_b) == (768, 1024)
    assert plan(layers={"b": "first"}).dim_b == 32
    assert plan(map="mlp").flops > 10 * plan().flops
    assert plan(map={"kind": "relative", "anchors": 8000}).bytes > plan().bytes + 1e9
    assert plan(max_queries=100_000).seconds > plan().seconds


def test_a_million_rows_are_planned_within_three_minutes_and_three_gigabytes() -> None:
    assert plan().seconds < 180
    assert plan().bytes < 3e9


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"map": {"kind": "low_rank", "rank": 769}}, InvalidRequest),
        ({"layers": {"a": "7"}}, UnknownLayer),
    ],
)
def test_an_impossible_map_is_refused(fields: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        plan(**fields)


def test_sides_without_enough_paired_rows_are_refused() -> None:
    with pytest.raises(UnpairedSides):
        plan_map(MapOptions(), A, SideShape(5, B.layers))
    few = SideShape(7, A.layers)
    with pytest.raises(TooFewRows):
        plan_map(MapOptions(), few, few)
    some = SideShape(50, A.layers)
    with pytest.raises(InvalidRequest, match="needs 256 anchors, but there are only 50 rows"):
        plan_map(MapOptions.model_validate({"map": "relative"}), some, some)


@pytest.mark.parametrize("limits", [CostLimits(flops=1e9), CostLimits(seconds=1), CostLimits(bytes=10_000_000)])
def test_a_map_over_a_limit_is_refused(limits: CostLimits) -> None:
    with pytest.raises(TooExpensive):
        plan_map(MapOptions(), A, B, limits)


def test_a_translation_is_planned_by_its_dimensions() -> None:
    found = plan_translation(A, "last", (768, 1024))
    assert (found.n, found.flops) == (1_000_000, 2.0 * 1_000_000 * 768 * 1024)
    with pytest.raises(InvalidRequest, match="has 768 dimensions, but the map takes 700"):
        plan_translation(A, "last", (700, 10))
    with pytest.raises(UnknownLayer):
        plan_translation(A, "7", (768, 1024))
