import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.openapi.__main__ import render
from tests.service.openapi_document import CREATING, Example, kind_of, make_everything, operations
from tests.service.servers import rows, upload

COMMITTED = Path(__file__).parents[3] / "openapi" / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(COMMITTED.read_text())
OPERATIONS = [
    (method, path, operation) for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
]


def test_the_committed_document_is_up_to_date() -> None:
    assert COMMITTED.read_text() == render(), "run `make openapi` and commit the result"


def test_the_served_document_is_the_committed_one(client: httpx2.Client) -> None:
    assert client.get("/openapi.json").json() == DOCUMENT


def test_every_operation_has_an_id_and_a_description() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]

    assert len(names) == len(set(names))
    assert "create_alignment" in names
    assert all(operation["description"] for _, _, operation in OPERATIONS)


def test_every_summary_is_unique_and_not_the_id() -> None:
    summaries = [operation["summary"] for _, _, operation in OPERATIONS]

    assert len(summaries) == len(set(summaries))
    for _, _, operation in OPERATIONS:
        assert operation["summary"].lower() != operation["operationId"].replace("_", " ")
        assert not operation["summary"].endswith(".")


def test_every_operation_has_one_tag_and_every_tag_a_description() -> None:
    used = [tag for _, _, operation in OPERATIONS for tag in operation["tags"]]

    assert len(used) == len(OPERATIONS)
    assert list(dict.fromkeys(used)) == [tag["name"] for tag in DOCUMENT["tags"]]
    assert all(tag["description"] for tag in DOCUMENT["tags"])


def test_no_response_has_the_default_description() -> None:
    described = [response["description"] for _, _, each in OPERATIONS for response in each["responses"].values()]

    assert "Successful Response" not in described


def test_no_schema_name_holds_a_module_path() -> None:
    assert not [name for name in DOCUMENT["components"]["schemas"] if "__" in name]


def test_every_part_of_a_form_is_described() -> None:
    bodies = [operation["requestBody"]["content"] for _, _, operation in OPERATIONS if "requestBody" in operation]
    forms = [body["multipart/form-data"]["schema"] for body in bodies if "multipart/form-data" in body]

    assert forms
    assert all(part["description"] for form in forms for part in form["properties"].values())


def test_every_reference_can_be_resolved() -> None:
    for reference in references(DOCUMENT):
        _, components, kind, name = reference.split("/")
        assert name in DOCUMENT[components][kind]


def test_the_example_of_an_error_has_its_status() -> None:
    for _, _, operation in OPERATIONS:
        for status, response in operation["responses"].items():
            for code in response.get("content", {}).get("application/problem+json", {}).get("examples", {}):
                assert DOCUMENT["components"]["examples"][code]["value"]["status"] == int(status)


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


def test_every_creating_operation_has_an_example() -> None:
    assert {each.path for each in CREATING if each.examples} == {each.path for each in CREATING}
