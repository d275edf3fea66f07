"""Whatever makes something takes an Idempotency-Key: this walks the OpenAPI document, so that a new route is held to it too."""

from typing import Any

import httpx2
import pytest

from tests.service.documented import CREATING, DOCUMENT, Example, Operation, kind_of, make_everything
from tests.service.servers import assert_problem

EXAMPLES = [(each, each.examples[0]) for each in CREATING if each.examples]


def test_every_creating_operation_documents_the_key() -> None:
    for operation in CREATING:
        described = DOCUMENT["paths"][operation.path]["post"]
        headers = {parameter["name"] for parameter in described["parameters"] if parameter["in"] == "header"}
        assert "idempotency-key" in headers, operation.id


def other(value: Any) -> Any:
    """The same body with other fractions and another name in it."""
    if isinstance(value, dict):
        changed = {name: other(inner) for name, inner in value.items()}
        return changed | ({"name": f"{value['name']}-2"} if isinstance(value.get("name"), str) else {})
    if isinstance(value, list):
        return [other(inner) for inner in value]
    return value + 1.0 if isinstance(value, float) else value


@pytest.mark.parametrize(("operation", "example"), EXAMPLES, ids=lambda each: getattr(each, "id", ""))
def test_a_key_means_one_thing_made_and_is_refused_for_another(
    client: httpx2.Client, operation: Operation, example: Example
) -> None:
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
