"""Metrics as words."""

from typing import Any

import pytest

from consilience.cli.parsing import parse_metric, with_k
from consilience.errors import InvalidRequest


@pytest.mark.parametrize(
    ("word", "choice"),
    [
        ("cka", {"metric": "cka"}),
        ("cka:debiased=false", {"metric": "cka", "debiased": False}),
        ("cka:definition=prh,debiased=true", {"metric": "cka", "definition": "prh", "debiased": True}),
        ("mutual_knn:k=5", {"metric": "mutual_knn", "k": 5}),
        ("mutual_knn:k=5,k=10,k=50", {"metric": "mutual_knn", "k": [5, 10, 50]}),
        ("mutual_knn:", {"metric": "mutual_knn"}),
    ],
)
def test_a_word_is_a_metric_of_the_contract(word: str, choice: dict[str, Any]) -> None:
    assert parse_metric(word) == choice


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("mutal_knn", "no metric 'mutal_knn'.*mutual_knn, jaccard_knn.*Did you mean mutual_knn"),
        ("", "no metric ''"),
        ("cka:k=5", "no option of cka 'k'.*kernel, debiased, definition"),
        ("cka:metric=x", "no option of cka 'metric'"),
        ("cka:debiased", "debiased needs a value"),
    ],
)
def test_an_unknown_word_is_answered_with_those_that_there_are(word: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse_metric(word)


def test_k_goes_to_the_metrics_that_have_one_and_yields_to_a_k_of_their_own() -> None:
    assert with_k({"metric": "mutual_knn"}, [3, 4]) == {"metric": "mutual_knn", "k": [3, 4]}
    assert with_k({"metric": "mutual_knn", "k": 7}, [3]) == {"metric": "mutual_knn", "k": 7}
    assert with_k({"metric": "cka"}, [3]) == {"metric": "cka"}
    assert with_k({"metric": "mutual_knn"}, None) == {"metric": "mutual_knn"}
