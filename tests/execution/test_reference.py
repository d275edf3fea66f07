"""Ranks of a model in small references, counted by hand."""

import pytest

from consilience.contract.scores import NullDistribution, Reason, ReferenceRank, Score
from consilience.execution.reference import MemberNames, rank_model

NAMES = MemberNames(["emb_" + digit * 32 for digit in "0123"], ["one", "two", "three", "four"])


def score(value: float | None, direction: str = "similarity") -> Score:
    return Score(
        metric="cka",
        options={},
        definition="standard",
        direction=direction,
        status="undefined" if value is None else "defined",
        reason=Reason(code="constant-rows", detail="All rows are equal.") if value is None else None,
        value=value,
        aggregate="max",
        layer_a=None,
        layer_b=None,
        grid=((value,),),
        null=NullDistribution(method="none", layer_pairs=1),
        queries=4,
    )


def rank_in_reference(
    values: list[float | None],
    mutual: dict[tuple[int, int], float | None],
    own: int | None = None,
    direction: str = "similarity",
) -> ReferenceRank:
    both = mutual | {(j, i): value for (i, j), value in mutual.items()}
    names = MemberNames(NAMES.ids[: len(values)], NAMES.names[: len(values)])
    return rank_model([score(value, direction) for value in values], both, names, own)


#: Means of the members against the other two: 0.3, 0.4, 0.5.
THREE = {(0, 1): 0.2, (0, 2): 0.4, (1, 2): 0.6}


@pytest.mark.parametrize(
    ("values", "rank", "ties", "outranked_share"),
    [
        ([0.6, 0.6, 0.6], 1, 0, 1.0),
        ([0.5, 0.4, 0.45], 2, 0, 2 / 3),
        ([0.4, 0.4, 0.4], 2, 1, 0.5),
        ([0.1, 0.2, 0.3], 4, 0, 0.0),
    ],
    ids=["best", "second", "as good as the second", "last"],
)
def test_the_rank_is_one_more_than_the_members_that_do_better(
    values: list[float | None], rank: int, ties: int, outranked_share: float
) -> None:
    result = rank_in_reference(values, THREE)

    assert (result.rank, result.n_ranked, result.ties, result.n_scores) == (rank, 4, ties, 3)
    assert result.outranked_share == pytest.approx(outranked_share)
    assert [each.value for each in result.members] == pytest.approx([0.3, 0.4, 0.5])
    assert [each.name for each in result.members] == ["one", "two", "three"]


def test_the_smallest_distance_has_the_best_rank() -> None:
    assert rank_in_reference([0.1, 0.1, 0.1], THREE, direction="distance").rank == 1
    assert rank_in_reference([0.45, 0.45, 0.45], THREE, direction="distance").rank == 3


def test_means_that_differ_by_rounding_are_equal() -> None:
    tenth = {(0, 1): 0.1, (0, 2): 0.2, (1, 2): 0.3}
    result = rank_in_reference([0.1 + 0.2, 0.1, 0.2], {**tenth, (0, 1): 0.3 - 1e-16, (0, 2): 0.1, (1, 2): 0.9})
    assert (result.rank, result.ties) == (3, 1)


def test_a_member_has_the_rank_of_its_own_mean() -> None:
    result = rank_in_reference([0.2, 1.0, 0.6], THREE, own=1)

    assert (result.value, result.n_scores) == (pytest.approx(0.4), 2)
    assert (result.rank, result.n_ranked, result.ties) == (2, 3, 0)


def test_undefined_scores_count_for_nothing() -> None:
    result = rank_in_reference([0.45, None, 0.45], {**THREE, (0, 1): None, (1, 2): None})

    assert (result.value, result.n_scores) == (0.45, 2)
    assert [each.value for each in result.members] == [0.4, None, 0.4]
    assert (result.rank, result.n_ranked) == (1, 3)


@pytest.mark.parametrize(
    ("values", "mutual", "own", "code"),
    [
        ([0.5], {}, None, "one-member"),
        ([1.0], {}, 0, "undefined-scores"),
        ([None, None], {(0, 1): 0.5}, None, "undefined-scores"),
        ([0.5, 0.5], {(0, 1): None}, None, "no-other-means"),
    ],
    ids=["one member", "the model alone", "an undefined model", "undefined members"],
)
def test_a_missing_rank_has_a_reason(
    values: list[float | None], mutual: dict[tuple[int, int], float | None], own: int | None, code: str
) -> None:
    result = rank_in_reference(values, mutual, own)

    assert (result.rank, result.outranked_share, result.ties) == (None, None, 0)
    assert result.reason is not None
    assert result.reason.code == code
