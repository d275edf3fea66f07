"""Parsing of command-line values."""

from pathlib import Path
from typing import Any

import pytest

from consilience.cli.parsing import (
    parse_builder,
    parse_bytes,
    parse_estimate,
    parse_gallery_sizes,
    parse_layers,
    parse_metric,
    read_qrels,
    with_default_k,
)
from consilience.errors import InputError, InvalidRequest
from tests.cli.conftest import Command


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
def test_a_metric_is_parsed_with_its_options(word: str, choice: dict[str, Any]) -> None:
    assert parse_metric(word) == choice


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("mutal_knn", "no metric 'mutal_knn'.*mutual_knn, jaccard_knn.*Did you mean `mutual_knn`"),
        ("", "no metric ''"),
        ("cka:k=5", "no cka option 'k'.*kernel, debiased, definition"),
        ("cka:metric=x", "no cka option 'metric'"),
        ("cka:debiased", "debiased of cka needs a value"),
    ],
)
def test_an_unknown_metric_or_option_is_reported_with_the_allowed_ones(word: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse_metric(word)


def test_the_default_k_applies_to_metrics_that_have_a_k_and_set_none() -> None:
    assert with_default_k({"metric": "mutual_knn"}, [3, 4]) == {"metric": "mutual_knn", "k": [3, 4]}
    assert with_default_k({"metric": "mutual_knn", "k": 7}, [3]) == {"metric": "mutual_knn", "k": 7}
    assert with_default_k({"metric": "cka"}, [3]) == {"metric": "cka"}
    assert with_default_k({"metric": "mutual_knn"}, None) == {"metric": "mutual_knn"}


@pytest.mark.parametrize(
    ("words", "layers"),
    [
        (["last"], {"a": "last", "b": "last"}),
        (["all"], {"a": "all", "b": "all"}),
        (["4,6"], {"a": ["4", "6"], "b": ["4", "6"]}),
        (["a=6"], {"a": ["6"], "b": "last"}),
        (["all", "b=2"], {"a": "all", "b": ["2"]}),
        (["encoder.layer=3"], {"a": ["encoder.layer=3"], "b": ["encoder.layer=3"]}),
    ],
)
def test_layers_are_chosen_for_both_sides_or_for_one(words: list[str], layers: dict[str, object]) -> None:
    assert parse_layers(words) == layers


@pytest.mark.parametrize("word", ["", "a="])
def test_an_empty_choice_of_layers_is_rejected(word: str) -> None:
    with pytest.raises(InvalidRequest, match="--layers needs `last`, `all` or names"):
        parse_layers([word])


@pytest.mark.parametrize(
    ("word", "choice"),
    [("all", "all"), ("4096", {"queries": 4096}), ("1e4", {"queries": 10_000}), ("0.005", {"half_width": 0.005})],
)
def test_an_estimate_is_all_a_number_of_queries_or_a_half_width(word: str, choice: object) -> None:
    assert parse_estimate(word) == choice


@pytest.mark.parametrize("word", ["some", "0", "-1", "nan", "inf", "99", "400.5"])
def test_another_estimate_is_rejected(word: str) -> None:
    with pytest.raises(InvalidRequest, match="--estimate must be `all`, a number of query rows"):
        parse_estimate(word)


@pytest.mark.parametrize(
    ("word", "sizes"), [(None, None), ("auto", "auto"), ("1000", [1000]), ("1000,3000", [1000, 3000])]
)
def test_gallery_sizes_are_numbers_of_rows(word: str | None, sizes: object) -> None:
    assert parse_gallery_sizes(word) == sizes


@pytest.mark.parametrize("word", ["", "1000,", "few", "1.5"])
def test_other_gallery_sizes_are_rejected(word: str) -> None:
    with pytest.raises(InvalidRequest, match="--gallery-sizes must be `auto` or numbers of rows"):
        parse_gallery_sizes(word)


@pytest.mark.parametrize(
    ("word", "size"),
    [("1000", 1000), ("2GB", 2 * 10**9), ("1.5GiB", 3 * 2**29), ("512 mb", 512 * 10**6), ("3g", 3 * 10**9)],
)
def test_a_memory_size_has_a_unit(word: str, size: int) -> None:
    assert parse_bytes(word) == size


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
def test_a_builder_is_an_exact_method_or_an_index_with_options(word: str, builder: Any) -> None:
    assert parse_builder(word) == builder


@pytest.mark.parametrize("word", ["HNSW32:effort", "HNSW32:effort=much", "HNSW32:index=SQ8", "HNSW32:probes=3"])
def test_an_unknown_option_of_an_index_is_rejected(word: str) -> None:
    with pytest.raises(InvalidRequest, match="effort, recall_queries"):
        parse_builder(word)


def test_the_table_shows_that_a_score_is_approximate_with_its_recall(consilience: Command, pair: Pair) -> None:
    ran = consilience("score", *pair, "--metric", "mutual_knn", "--builder", "IVF8,Flat:effort=8")
    assert ran.status == 0, ran.err
    assert "is approximate: IVF8,Flat found 100.00% of the neighbours of 64 sampled rows" in " ".join(ran.out.split())


def test_an_unknown_index_is_bad_usage(consilience: Command, pair: Pair) -> None:
    ran = consilience("score", *pair, "--builder", "fast")
    assert (ran.status, "fast" in ran.err or "pattern" in ran.err) == (2, True)


EXPECTED = {"q1": ["d1", "d2"], "q2": ["d3"]}


@pytest.mark.parametrize(
    "text",
    [
        '{"q1": ["d1", "d2"], "q2": ["d3"]}',
        '{"q1": {"d1": 1, "d2": 2, "d9": 0}, "q2": {"d3": 1}}',
        "q1 0 d1 1\nq1 0 d2 2\nq1 0 d9 0\n\nq2 0 d3 1\n",
        "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t1\nq2\td3\t1\n",
    ],
    ids=["lists", "relevances", "TREC", "BEIR"],
)
def test_every_format_of_relevance_judgments_is_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "qrels"
    path.write_text(text)
    assert read_qrels(path) == EXPECTED


@pytest.mark.parametrize(
    "text", ['{"q1": "d1"}', '{"q1": [', "q1 d1\n", "q1 0 d1 much\n", '{"q1": {"d1": "much"}}', "q1 0 d1 1 5\n"]
)
def test_malformed_relevance_judgments_are_rejected(tmp_path: Path, text: str) -> None:
    path = tmp_path / "qrels"
    path.write_text(text)
    with pytest.raises(InputError):
        read_qrels(path)


def test_a_binary_file_of_relevance_judgments_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "qrels"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError):
        read_qrels(path)
