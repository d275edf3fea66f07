import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.examples import EXAMPLE_ID
from service.openapi import render
from tests.service.servers import rows, upload

COMMITTED = Path(__file__).parents[2] / "openapi" / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(COMMITTED.read_text())
OPERATIONS = [
    (method, path, operation) for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
]


def test_the_committed_document_is_that_of_the_code() -> None:
    assert COMMITTED.read_text() == render(), "run `make openapi` and commit the result"


def test_the_served_document_is_the_committed_one(client: httpx2.Client) -> None:
    assert client.get("/openapi.json").json() == DOCUMENT


def test_every_operation_has_a_name_and_says_what_it_does() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]

    assert len(names) == len(set(names))
    assert "create_alignment" in names
    assert all(operation["description"] for _, _, operation in OPERATIONS)


def test_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]

    for reference in references(DOCUMENT):
        assert reference.removeprefix("#/components/schemas/") in schemas


def test_every_error_is_documented_as_a_problem() -> None:
    for method, path, operation in OPERATIONS:
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"], (method, path, status)


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == "$ref")
        node = list(node.values())
    for inner in node if isinstance(node, list) else ():
        yield from references(inner)


def examples() -> list[tuple[str, str, str, object]]:
    """Each request example: path, media type, name, value."""
    return [
        (path, media_type, name, example["value"])
        for _, path, operation in OPERATIONS
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items()
        for name, example in content.get("examples", {}).items()
    ]


@pytest.mark.parametrize(("path", "media_type", "name", "value"), examples(), ids=lambda item: str(item)[:30])
def test_every_example_works(busy_client: httpx2.Client, path: str, media_type: str, name: str, value: object) -> None:
    stored = upload(busy_client, rows(32))
    body = json.dumps(value).replace(EXAMPLE_ID, stored["id"])

    answer = busy_client.post(path, content=body, headers={"content-type": media_type, "prefer": "wait=30"})

    assert answer.status_code in {200, 201}, answer.text
    assert answer.json().get("status", "succeeded") == "succeeded"


def test_there_are_examples_for_both_posts() -> None:
    assert {path for path, *_ in examples()} == {"/v1/embeddings", "/v1/alignments"}
