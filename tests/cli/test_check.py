"""`consilience check`: the gate."""

from pathlib import Path

import pytest

from consilience.contract.scores import ScoreDocument
from tests.cli.conftest import Command

Pair = tuple[Path, Path]


def test_scores_above_their_bars_pass(consilience: Command, pair: Pair) -> None:
    ran = consilience("check", *pair, "--min", "mutual_knn=0.3", "--min", "cka=0.5")
    assert ran.status == 0
    assert ran.out.count("passed") == 2


def test_one_score_below_its_bar_fails(consilience: Command, pair: Pair) -> None:
    ran = consilience("check", *pair, "--min", "mutual_knn=0.3", "--min", "cka=0.99999")
    assert ran.status == 1
    assert ran.out.count("passed") == 1
    assert ran.out.count("failed") == 1


def test_only_metrics_with_a_bar_are_measured(consilience: Command, pair: Pair) -> None:
    ran = consilience("check", *pair, "--min", "cka:debiased=false=0.5", "--json")
    (score,) = ScoreDocument.model_validate_json(ran.out).scores
    assert score.options["debiased"] is False
    assert "passed" in ran.err


def test_an_undefined_score_is_below_the_bar(consilience: Command, pair: Pair, constant: Path) -> None:
    assert consilience("check", pair[0], constant, "--min", "cka=-1").status == 1


@pytest.mark.parametrize("words", [(), ("--min", "cka"), ("--min", "cka=0.1", "--metric", "mutual_knn")])
def test_a_gate_without_a_sound_bar_is_bad_usage(consilience: Command, pair: Pair, words: tuple[str, ...]) -> None:
    assert consilience("check", *pair, *words).status == 2
