"""Concurrent requests with one idempotency key."""

from collections.abc import Callable
from uuid import uuid4

import httpx2
import pytest

from tests.concurrency import start_together
from tests.service.openapi_document import CREATING, Example, Operation, keep_map, kind_of, make_everything
from tests.service.servers import npy, rows, upload

TIMES = 4
EXAMPLES = [(each, each.examples[0]) for each in CREATING if each.examples]
VECTORS = rows(24, seed=7).tolist()


def several(send: Callable[[], httpx2.Response]) -> list[httpx2.Response]:
    """Send the same request several times at once and return the responses."""
    return [future.result() for future in start_together([send] * TIMES)]


def assert_one(answers: list[httpx2.Response]) -> None:
    assert all(answer.is_success for answer in answers), [answer.text for answer in answers]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert sum(answer.status_code == 201 for answer in answers) <= 1


@pytest.mark.parametrize(("operation", "example"), EXAMPLES, ids=lambda each: getattr(each, "id", ""))
def test_concurrent_equal_requests_create_one_resource(
    client: httpx2.Client, operation: Operation, example: Example
) -> None:
    ids = {kind_of(own): own for own in make_everything(client).values()}
    key = f"at-once-{operation.id}-{uuid4()}"

    assert_one(several(lambda: example.send(client, operation.path, ids, **{"idempotency-key": key})))


def test_a_study_is_extended_once(client: httpx2.Client) -> None:
    study = client.post("/v1/studies", json={"rows": [{"vectors": VECTORS, "label": word} for word in "ab"]}).json()
    more = {"rows": [{"vectors": VECTORS, "label": "c"}]}
    place, headers = f"{study['links']['study']}/models", {"idempotency-key": str(uuid4())}

    assert_one(several(lambda: client.post(place, json=more, headers=headers)))


def test_a_set_is_translated_once(client: httpx2.Client) -> None:
    place = keep_map(client).json()["links"]["apply"]
    body, headers = {"embedding": upload(client, rows(24))["id"]}, {"idempotency-key": str(uuid4())}

    assert_one(several(lambda: client.post(place, json=body, headers=headers)))


def test_a_form_with_new_files_makes_one_job(client: httpx2.Client) -> None:
    files = {"a": ("a", npy(rows(24, seed=71))), "b": ("b", npy(rows(24, seed=72)))}
    headers = {"idempotency-key": str(uuid4())}

    assert_one(several(lambda: client.post("/v1/alignments", files=files, headers=headers)))
