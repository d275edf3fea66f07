"""Bars and verdicts."""

import pytest

from consilience.cli.check import judge, parse_bar
from consilience.contract.metric import Direction
from consilience.errors import InvalidRequest
from tests.cli.documents import document, score, undefined


def test_a_value_at_its_bar_passes_and_one_below_does_not() -> None:
    scores = document(score(value=0.3))
    assert judge(scores.scores, [parse_bar("mutual_knn=0.3")])[0].passed
    assert not judge(scores.scores, [parse_bar("mutual_knn=0.3000001")])[0].passed


def test_an_undefined_score_is_below_even_a_negative_bar() -> None:
    assert not judge(document(undefined()).scores, [parse_bar("mutual_knn=-1")])[0].passed


def test_a_bar_without_options_holds_for_every_k() -> None:
    scores = document(score(options={"k": 5}, value=0.2), score(options={"k": 10}, value=0.4))
    assert [verdict.passed for verdict in judge(scores.scores, [parse_bar("mutual_knn=0.3")])] == [False, True]


def test_a_bar_with_options_holds_for_their_score_alone() -> None:
    scores = document(score(options={"k": 5}, value=0.2), score(options={"k": 10}, value=0.4))
    (verdict,) = judge(scores.scores, [parse_bar("mutual_knn:k=10=0.3")])
    assert verdict.passed


def test_a_bar_that_concerns_no_score_is_an_error_and_never_a_pass() -> None:
    with pytest.raises(InvalidRequest, match="No score of cka"):
        judge(document(score()).scores, [parse_bar("cka=0.1")])


@pytest.mark.parametrize("word", ["mutual_knn", "mutual_knn=", "mutual_knn=high", "mutual_knn=nan", "mutual_knn=-inf"])
def test_a_bar_needs_a_number(word: str) -> None:
    with pytest.raises(InvalidRequest, match="no bar"):
        parse_bar(word)


def test_a_distance_must_not_be_above_its_bar() -> None:
    far = document(score(metric="angular_cka", options={}, direction="distance", value=1.2))
    assert judge(far.scores, [parse_bar("angular_cka=1.2", "distance")])[0].passed
    assert not judge(far.scores, [parse_bar("angular_cka=1.1", "distance")])[0].passed


@pytest.mark.parametrize(
    ("word", "direction", "option"), [("angular_cka=1", "similarity", "--max"), ("cka=0.3", "distance", "--min")]
)
def test_a_bar_is_on_the_side_of_its_metric(word: str, direction: Direction, option: str) -> None:
    with pytest.raises(InvalidRequest, match=option):
        parse_bar(word, direction)
