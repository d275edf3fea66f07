"""Plans of alignments against a reference set: cost, limits and errors."""

import pytest

from consilience.contract.alignments import ScoringOptions
from consilience.errors import InvalidRequest, TooExpensive, UnpairedSides
from consilience.planning.alignments import CostLimits, SideShape, plan
from consilience.planning.studies import mutual_options, plan_reference

A = SideShape(1024, (("0", 768),))
MEMBERS = [SideShape(1024, (("0", 512), ("1", width))) for width in (768, 768, 1024)]


def options(**fields: object) -> ScoringOptions:
    return ScoringOptions.model_validate(fields)


def test_cells_count_the_layer_pairs_of_all_comparisons() -> None:
    assert plan_reference(options(), A, MEMBERS).cells == 3 + 3
    assert plan_reference(options(layers="all"), A, MEMBERS).cells == 3 * 2 + 3 * 4
    assert plan_reference(options(metrics="linear_predictivity"), A, MEMBERS).cells == 3 + 6


def test_members_of_equal_shape_are_planned_once_and_counted_each() -> None:
    many = plan_reference(options(), A, [MEMBERS[0]] * 20)

    assert many.cells == 20 + 190
    one, pair = plan(options(), A, MEMBERS[0]), plan(mutual_options(options()), MEMBERS[0], MEMBERS[0])
    assert many.flops == pytest.approx(20 * one.flops + 190 * pair.flops)
    assert max(one.bytes, pair.bytes) == many.bytes


def test_one_member_has_no_pairs() -> None:
    assert plan_reference(options(), A, MEMBERS[:1]).cells == 1


def test_the_total_cost_is_compared_with_the_limits() -> None:
    one = plan(options(), A, MEMBERS[0])
    with pytest.raises(TooExpensive):
        plan_reference(options(), A, MEMBERS, CostLimits(seconds=one.seconds))
    with pytest.raises(TooExpensive, match="Against member 0"):
        plan_reference(options(), A, MEMBERS, CostLimits(bytes=10_000_000))


def test_an_error_names_the_member() -> None:
    with pytest.raises(UnpairedSides, match="Against member 1"):
        plan_reference(options(), A, [MEMBERS[0], SideShape(9, (("0", 4),))])
    with pytest.raises(InvalidRequest, match="Against member 0"):
        plan_reference(options(pairing="id"), A, MEMBERS)
