"""Builders as words."""

from pathlib import Path
from typing import Any

import pytest

from consilience.cli.parsing import parse_builder
from consilience.errors import InvalidRequest
from tests.cli.conftest import Command

Pair = tuple[Path, Path]


@pytest.mark.parametrize(
    ("word", "builder"),
    [
        ("auto", "auto"),
        ("symmetric", "symmetric"),
        ("approximate", {"index": "auto"}),
        ("IVF256,Flat", {"index": "IVF256,Flat"}),
        ("IVF256,Flat:effort=16", {"index": "IVF256,Flat", "effort": 16}),
        ("HNSW32:effort=64,recall_queries=2000", {"index": "HNSW32", "effort": 64, "recall_queries": 2000}),
    ],
)
def test_a_word_is_a_builder_of_the_contract(word: str, builder: Any) -> None:
    assert parse_builder(word) == builder


@pytest.mark.parametrize("word", ["HNSW32:effort", "HNSW32:effort=much", "HNSW32:index=SQ8", "HNSW32:probes=3"])
def test_an_option_that_no_index_has_is_refused(word: str) -> None:
    with pytest.raises(InvalidRequest, match="effort, recall_queries"):
        parse_builder(word)


def test_the_table_says_that_a_score_is_approximate_and_what_was_found(consilience: Command, pair: Pair) -> None:
    ran = consilience("score", *pair, "--metric", "mutual_knn", "--builder", "IVF8,Flat:effort=8")
    assert ran.status == 0, ran.err
    assert "is approximate: IVF8,Flat found 100.00% of the neighbours" in " ".join(ran.out.split())


def test_an_index_of_no_kind_is_bad_usage(consilience: Command, pair: Pair) -> None:
    ran = consilience("score", *pair, "--builder", "fast")
    assert (ran.status, "fast" in ran.err or "pattern" in ran.err) == (2, True)
