from typing import Any

import pytest
from pydantic import ValidationError

from consilience.contract.search import Approximate, choose_index, parse_index
from consilience.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("IVF256,Flat", {"lists": 256, "code": "Flat", "links": None, "candidate_factor": 1}),
        ("IVF65536_HNSW32,SQfp16", {"lists": 65536, "list_links": 32, "code": "SQfp16", "candidate_factor": 1}),
        ("IVF16,PQ8x10", {"lists": 16, "code": "PQ", "segments": 8, "bits": 10, "candidate_factor": 4}),
        ("HNSW32", {"links": 32, "code": "Flat", "lists": None, "exhaustive": False}),
        ("HNSW32,SQ4", {"links": 32, "code": "SQ4", "candidate_factor": 2}),
        ("SQ8", {"code": "SQ8", "exhaustive": True}),
        (
            "OPQ8_32,IVF4,PQ8",
            {"transform": "OPQ", "transform_segments": 8, "transform_dim": 32, "segments": 8, "bits": 8},
        ),
        ("OPQ8,PQ8", {"transform": "OPQ", "transform_segments": 8, "transform_dim": None}),
        (
            "PCAR64,HNSW16,Flat",
            {"transform": "PCAR", "transform_dim": 64, "transform_segments": None, "links": 16, "candidate_factor": 4},
        ),
        ("RR64,SQ6", {"transform": "RR", "transform_dim": 64, "code": "SQ6"}),
    ],
)
def test_an_index_string_is_parsed(text: str, parts: dict[str, Any]) -> None:
    shape = parse_index(Approximate(index=text).index)
    assert {part: getattr(shape, part) for part in parts} == parts


@pytest.mark.parametrize(
    "text",
    [
        "Flat",
        "HNSW1",
        "IVF8_HNSW1,Flat",
        "PCA8_4,SQ8",
        "IVF0,Flat",
        "IVF8",
        "SQ3",
        "PQ8x7",
        "/etc/passwd",
        "IVF8,Flat,RFlat",
        "",
    ],
)
def test_an_index_string_that_crashes_faiss_or_is_exact_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Approximate(index=text)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("IVF1001,Flat", 1000),
        ("PQ7", 64),
        ("PQ8x10", 1000),
        ("IVF8,PQ8x12", 1000),
        ("PCA65,SQ8", 64),
        ("OPQ7,SQ8", 64),
        ("OPQ8_36,PQ8", 36),
        ("RR129,SQ8", 128),
        ("OPQ8_256,PQ8", 128),
        ("HNSW8,PQ65", 64),
    ],
)
def test_an_index_that_is_impossible_for_the_rows_is_refused_with_the_limit(text: str, limit: int) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        choose_index(Approximate(index=text), 1000, 64, 10)
    assert (refusal.value.value, refusal.value.limit, refusal.value.pointer) == (text, limit, "/builder/index")


def test_an_exhaustive_index_has_no_effort() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        choose_index(Approximate(index="SQ8", effort=3), 1000, 64, 10)
    assert refusal.value.pointer == "/builder/effort"


@pytest.mark.parametrize(
    ("n", "d", "index"),
    [
        (4, 8, "IVF1,Flat"),
        (2048, 384, "IVF51,Flat"),
        (200_000, 768, "IVF1788,Flat"),
        (1_000_000, 768, "IVF4000,SQfp16"),
        (10_000_000, 768, "IVF12648,SQ8"),
    ],
)
def test_auto_depends_on_the_number_and_the_size_of_rows(n: int, d: int, index: str) -> None:
    assert choose_index(Approximate(), n, d, 10).shape.text == index


@pytest.mark.parametrize(
    ("text", "effort", "n", "k", "expected"),
    [
        ("IVF1024,Flat", None, 65536, 10, 32),  # a thirty-second of the rows
        ("IVF1024,Flat", None, 10_240, 10, 200),  # 2000 rows
        ("IVF1024,Flat", None, 10_240, 100, 500),  # 50 for each neighbour
        ("IVF16,Flat", 400, 1000, 10, 16),
        ("HNSW32", None, 65536, 10, 128),
        ("HNSW32", 400, 65536, 10, 400),
        ("SQ8", None, 65536, 10, None),
    ],
)
def test_the_default_effort_depends_on_the_number_of_rows(
    text: str, effort: int | None, n: int, k: int, expected: int | None
) -> None:
    assert choose_index(Approximate(index=text, effort=effort), n, 64, k).effort == expected
