"""Unusable ids and groups are refused with their position, and nothing of them is stored."""

import json
from typing import Any

import httpx2
import pytest

from tests.hostile.conftest import COLUMN_LIMIT_BYTES
from tests.service.servers import Server, assert_problem, npy, rows

A, B = rows(6, seed=1), rows(5, seed=2)
BY_ID = {"pairing": "id", "metrics": "cka"}


def test_a_column_over_its_limit_is_refused_while_it_arrives(server: Server, client: httpx2.Client) -> None:
    before = server.contents()
    files = {"ids": ("ids", b"[" + b" " * COLUMN_LIMIT_BYTES), "file": ("a", npy(A))}

    answer = client.post("/v1/embeddings", files=files)

    assert_problem(answer, 413, "too-large", limit=COLUMN_LIMIT_BYTES, pointer="/ids")
    assert server.contents() == before
    assert client.get("/v1/info").json()["limits"]["column_limit_bytes"] == COLUMN_LIMIT_BYTES


def test_a_column_at_its_limit_is_read(client: httpx2.Client) -> None:
    names = json.dumps([1, 2, 3, 4, 5, 6]).encode().ljust(COLUMN_LIMIT_BYTES)

    answer = client.post("/v1/embeddings", files={"file": npy(A), "ids": names})

    assert answer.status_code in {200, 201}, answer.text


@pytest.mark.parametrize(
    ("columns", "pointer", "message"),
    [
        ({"ids_a": "[1]"}, "/ids_a", "1 entries, but there are 6 rows"),
        ({"ids_b": "[1, 2, 3, 4, 5, 6]"}, "/ids_b", "6 entries, but there are 5 rows"),
        ({"groups_b": "[1, 2, 3, 4, true]"}, "/groups_b/4", "a boolean"),
        ({"groups_a": "{}"}, "/groups_a", "not a list"),
        ({"groups_a": "nothing"}, "/groups_a", "not valid JSON"),
        ({"ids_a": "[1, 2, 3, 4, 5, 6]"}, "/pairing", "b has none"),
        ({}, "/pairing", "a has none"),
        ({"ids_a": "[1, 2, 3, 4, 5, 5]", "ids_b": "[1, 2, 3, 4, 5]"}, "/a", "1 of 6 rows of a"),
        ({"ids_a": "[1, 2, 3, 4, 5, 6]", "ids_b": '[1, "1", 3, 4, 1]'}, "/b", "2 of 5 rows of b"),
    ],
)
def test_bad_columns_of_two_files_are_refused_by_their_form_part(
    server: Server, client: httpx2.Client, columns: dict[str, str], pointer: str, message: str
) -> None:
    before = server.contents()
    files = {"a": ("a", npy(A)), "b": ("b", npy(B))} | {name: ("x", text) for name, text in columns.items()}

    answer = client.post("/v1/alignments", files=files, data={"request": json.dumps(BY_ID)})

    document = assert_problem(answer, 422, answer.json()["type"].rsplit("/", 1)[-1], pointer=pointer)
    assert message in document["detail"]
    assert server.contents() == before


@pytest.mark.parametrize(
    ("side", "pointer", "message"),
    [
        ({"ids": [1, 2]}, "/a/ids", "2 entries"),
        ({"ids": [1, 2, 3, 4, 5, 6.5]}, "/a/ids/5", "not an integer"),
        ({"ids": [1, 2, 3, 4, 5, 10**30]}, "/a/ids/5", "not an integer"),
        ({"ids": "abcdef"}, "/a/ids", "not a list"),
        ({"groups": [["x"]] * 6}, "/a/groups/0", "a list"),
        ({"groups": ["x" * 257] * 6}, "/a/groups/0", "257 characters"),
        ({"ids": ["\u0000"] * 6}, "/a/ids/0", "not printable"),
        ({"ids": list(range(100_000))}, "/a/ids", "100000 entries"),
        ({"ids": None}, "/pairing", "a has none"),
        ({"names": [1]}, "/a/names", "names"),
    ],
)
def test_bad_inline_columns_are_refused_with_their_pointer(
    server: Server, client: httpx2.Client, side: dict[str, Any], pointer: str, message: str
) -> None:
    before = server.contents()
    body = {"a": {"vectors": A.tolist(), **side}, "b": {"vectors": A.tolist(), "ids": [1, 2, 3, 4, 5, 6]}, **BY_ID}

    answer = client.post("/v1/alignments", json=body)

    document = assert_problem(answer, 422, "invalid-request", pointer=pointer)
    assert message in document["detail"]
    assert server.contents() == before


@pytest.mark.parametrize("count", [6, 20_000])
def test_ids_beside_a_stored_set_are_refused(client: httpx2.Client, count: int) -> None:
    stored = client.post("/v1/embeddings", content=npy(A), headers={"content-type": "application/x-npy"}).json()
    side = {"embedding": stored["id"], "ids": list(range(count))}

    answer = client.post("/v1/alignments", json={"a": side, "b": side})

    assert_problem(answer, 422, "invalid-request")


@pytest.mark.parametrize("document", [{"vectors": A.tolist(), "ids": [1]}, {"layers": {"x": A.tolist()}, "groups": 7}])
def test_bad_columns_inside_a_json_set_are_refused(
    server: Server, client: httpx2.Client, document: dict[str, Any]
) -> None:
    before = server.contents()

    assert_problem(client.post("/v1/embeddings", json=document), 422, "invalid-request")

    assert server.contents() == before


def test_columns_both_inside_and_beside_a_json_set_are_refused(server: Server, client: httpx2.Client) -> None:
    before, names = server.contents(), [1, 2, 3, 4, 5, 6]
    inside = json.dumps({"vectors": A.tolist(), "ids": names})

    answer = client.post("/v1/embeddings", files={"file": ("a.json", inside), "ids": ("x", json.dumps(names))})

    assert_problem(answer, 422, "invalid-request", pointer="/ids")
    assert server.contents() == before


def test_an_unknown_pairing_is_refused_with_the_valid_ones(client: httpx2.Client) -> None:
    body = {"a": {"vectors": A.tolist()}, "b": {"vectors": A.tolist()}, "pairing": "ids"}

    document = assert_problem(client.post("/v1/alignments", json=body), 422, "invalid-request", pointer="/pairing")

    assert "'row' or 'id'" in document["detail"]
