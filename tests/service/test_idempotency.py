"""Idempotency keys of all creating operations of the OpenAPI document."""

from typing import Any

import httpx2
import pytest

from tests.service.openapi_document import (
    CREATING,
    DOCUMENT,
    MAKING,
    MAKING_MORE,
    MORE,
    Example,
    Operation,
    kind_of,
    make_everything,
    operations,
)
from tests.service.servers import assert_problem, rows, upload

EXAMPLES = [(each, each.examples[0]) for each in CREATING if each.examples]


def test_every_creating_operation_documents_the_key() -> None:
    assert {each.id for each in operations() if each.method == "POST" and each not in MAKING} == {"cancel_job"}
    for operation in MAKING:
        described = DOCUMENT["paths"][operation.path]["post"]
        headers = {parameter["name"] for parameter in described["parameters"] if parameter["in"] == "header"}
        assert "idempotency-key" in headers, operation.id


def other(value: Any) -> Any:
    """Return the same body with other numbers and another name."""
    if isinstance(value, dict):
        changed = {name: other(inner) for name, inner in value.items()}
        return changed | ({"name": f"{value['name']}-2"} if isinstance(value.get("name"), str) else {})
    if isinstance(value, list):
        return [other(inner) for inner in value]
    return value + 1.0 if isinstance(value, float) else value


@pytest.mark.parametrize(("operation", "example"), EXAMPLES, ids=lambda each: getattr(each, "id", ""))
def test_an_idempotency_key_creates_one_resource(client: httpx2.Client, operation: Operation, example: Example) -> None:
    ids = {kind_of(own): own for own in make_everything(client).values()}
    headers = {"idempotency-key": f"walk-{operation.id}"}

    first, again = (example.send(client, operation.path, ids, **headers) for _ in range(2))

    assert first.is_success, first.text
    assert again.headers["location"] == first.headers["location"]
    assert again.json()["id"] == first.json()["id"]
    candidates = (example._replace(value=other(example.value)), *operation.examples[1:])
    changed = next((each for each in candidates if each.value != example.value), None)
    assert changed, "an example with a fraction or a name in it, or a second one, is another body"
    assert_problem(
        changed.send(client, operation.path, ids, **headers),
        422,
        "idempotency-key-reused",
        value=f"walk-{operation.id}",
    )


@pytest.mark.parametrize("operation", MAKING_MORE, ids=lambda each: each.id)
def test_an_idempotency_key_creates_one_derived_resource(client: httpx2.Client, operation: Operation) -> None:
    place, body = MORE[operation.id].place(client), MORE[operation.id].body
    one, other_one = (upload(client, rows(24, seed=seed))["id"] for seed in (81, 82))
    headers = {"idempotency-key": f"more-{operation.id}"}

    first, again = (client.post(place, json=body(one), headers=headers) for _ in range(2))
    refused = client.post(place, json=body(other_one), headers=headers)

    assert first.is_success, first.text
    assert (again.headers["location"], again.json()["id"]) == (first.headers["location"], first.json()["id"])
    assert_problem(refused, 422, "idempotency-key-reused", value=f"more-{operation.id}")
