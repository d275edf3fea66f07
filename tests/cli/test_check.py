"""`consilience check`: thresholds."""

from pathlib import Path

import pytest

from consilience.cli.check import check_scores, parse_score_threshold
from consilience.contract.metric import Direction
from consilience.contract.scores import ScoreDocument
from consilience.errors import InvalidRequest
from tests.cli.conftest import Command
from tests.cli.documents import document, score, undefined

Pair = tuple[Path, Path]


def test_scores_above_their_thresholds_pass(consilience: Command, pair: Pair) -> None:
    ran = consilience("check", *pair, "--min", "mutual_knn=0.3", "--min", "cka=0.5")
    assert ran.status == 0
    assert ran.out.count("passed") == 2


def test_one_score_below_its_threshold_fails(consilience: Command, pair: Pair) -> None:
    ran = consilience("check", *pair, "--min", "mutual_knn=0.3", "--min", "cka=0.99999")
    assert ran.status == 1
    assert ran.out.count("passed") == 1
    assert ran.out.count("failed") == 1


def test_only_metrics_with_a_threshold_are_computed(consilience: Command, pair: Pair) -> None:
    ran = consilience("check", *pair, "--min", "cka:debiased=false=0.5", "--json")
    (score,) = ScoreDocument.model_validate_json(ran.out).scores
    assert score.options["debiased"] is False
    assert "passed" in ran.err


def test_an_undefined_score_fails(consilience: Command, pair: Pair, constant: Path) -> None:
    assert consilience("check", pair[0], constant, "--min", "cka=-1").status == 1


@pytest.mark.parametrize("words", [(), ("--min", "cka"), ("--min", "cka=0.1", "--metric", "mutual_knn")])
def test_a_missing_or_invalid_threshold_is_bad_usage(consilience: Command, pair: Pair, words: tuple[str, ...]) -> None:
    assert consilience("check", *pair, *words).status == 2


def test_a_value_equal_to_the_threshold_passes_and_a_smaller_one_fails() -> None:
    scores = document(score(value=0.3))
    assert check_scores(scores.scores, [parse_score_threshold("mutual_knn=0.3")])[0].passed
    assert not check_scores(scores.scores, [parse_score_threshold("mutual_knn=0.3000001")])[0].passed


def test_an_undefined_score_fails_even_a_negative_threshold() -> None:
    assert not check_scores(document(undefined()).scores, [parse_score_threshold("mutual_knn=-1")])[0].passed


def test_a_threshold_without_options_applies_to_every_k() -> None:
    scores = document(score(options={"k": 5}, value=0.2), score(options={"k": 10}, value=0.4))
    assert [check.passed for check in check_scores(scores.scores, [parse_score_threshold("mutual_knn=0.3")])] == [
        False,
        True,
    ]


def test_a_threshold_with_options_applies_only_to_scores_with_these_options() -> None:
    scores = document(score(options={"k": 5}, value=0.2), score(options={"k": 10}, value=0.4))
    (check,) = check_scores(scores.scores, [parse_score_threshold("mutual_knn:k=10=0.3")])
    assert check.passed


def test_a_threshold_that_applies_to_no_score_is_an_error() -> None:
    with pytest.raises(InvalidRequest, match="The threshold for cka applies to no score"):
        check_scores(document(score()).scores, [parse_score_threshold("cka=0.1")])


@pytest.mark.parametrize("word", ["mutual_knn", "mutual_knn=", "mutual_knn=high", "mutual_knn=nan", "mutual_knn=-inf"])
def test_a_threshold_needs_a_number(word: str) -> None:
    with pytest.raises(InvalidRequest, match=r"--min needs METRIC=VALUE, for example mutual_knn=0\.3; got"):
        parse_score_threshold(word)


def test_a_distance_above_its_threshold_fails() -> None:
    far = document(score(metric="angular_cka", options={}, direction="distance", value=1.2))
    assert check_scores(far.scores, [parse_score_threshold("angular_cka=1.2", "distance")])[0].passed
    assert not check_scores(far.scores, [parse_score_threshold("angular_cka=1.1", "distance")])[0].passed


@pytest.mark.parametrize(
    ("word", "direction", "option"), [("angular_cka=1", "similarity", "--max"), ("cka=0.3", "distance", "--min")]
)
def test_the_option_of_a_threshold_must_match_the_direction_of_its_metric(
    word: str, direction: Direction, option: str
) -> None:
    with pytest.raises(InvalidRequest, match=option):
        parse_score_threshold(word, direction)


@pytest.mark.parametrize(
    ("word", "direction", "message"),
    [
        ("cka=5", "similarity", "cka is at most 1; a minimum of 5 always fails."),
        ("angular_cka=-1", "distance", "angular_cka is at least 0; a maximum of -1 always fails."),
    ],
)
def test_a_threshold_outside_the_range_of_the_metric_is_refused(word: str, direction: Direction, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse_score_threshold(word, direction)
