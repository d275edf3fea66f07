import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.openapi.__main__ import render
from tests.service.documented import CREATING, Example, kind_of, make_everything, operations
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


EXAMPLES = [(operation.path, example) for operation in operations() for example in operation.examples]


@pytest.mark.parametrize(("path", "example"), EXAMPLES, ids=lambda item: getattr(item, "name", item))
def test_every_example_works(busy_client: httpx2.Client, path: str, example: Example) -> None:
    parameters = make_everything(busy_client) | {"embedding_id": upload(busy_client, rows(32))["id"]}
    body = {"name": "of the same items", "embeddings": [parameters["embedding_id"]]}
    parameters["reference_id"] = busy_client.post("/v1/references", json=body).json()["id"]
    ids = {kind_of(own): own for own in parameters.values()}

    answer = example.send(busy_client, path.format(**parameters), ids, prefer="wait=30")

    assert answer.status_code in {200, 201}, answer.text
    assert answer.json().get("status", "succeeded") == "succeeded"


def test_whatever_makes_something_shows_how() -> None:
    assert {each.path for each in CREATING if each.examples} == {each.path for each in CREATING}
