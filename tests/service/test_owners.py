"""One owner's ids do not exist for another, in any operation of the OpenAPI document; without a key nothing does.

Every operation must be of one of the kinds below: a new route that is of none fails here, and so does a new kind of id.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx2
import pytest

from service.app import create_app
from service.settings import Settings
from tests.service.keyed import client_of, make_key
from tests.service.servers import Server, assert_problem, npy, rows, running_service, upload

DOCUMENT = create_app(Settings()).openapi()
#: Everybody may ask.
HEALTH = {"get_liveness", "get_readiness", "get_health"}
#: The same for everybody who has a key.
COMMON = {"get_info", "list_metrics"}
#: Only a key with the scope `admin` may ask: see test_monitoring.
ADMIN = {"get_metrics"}
#: These make something of the caller's own; what they must not take from another has its own tests below.
CREATING = {"create_embedding", "create_alignment"}
A, B = rows(40, seed=1), rows(40, seed=2)


class Operation(NamedTuple):
    """One operation of the document."""

    id: str
    method: str
    path: str
    parameters: tuple[str, ...]


def operations() -> Iterator[Operation]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            parameters = operation.get("parameters", ())
            names = tuple(parameter["name"] for parameter in parameters if parameter["in"] == "path")
            yield Operation(operation["operationId"], method.upper(), path, names)


OPERATIONS = list(operations())
PRIVATE = [each for each in OPERATIONS if each.id not in HEALTH]
OF_ONE = [each for each in PRIVATE if each.parameters]
LISTS = [each for each in PRIVATE if not each.parameters and each.id not in COMMON | ADMIN | CREATING]


class Owners(NamedTuple):
    """Two owners on one service; the ids are ana's."""

    server: Server
    ana: httpx2.Client
    bob: httpx2.Client
    ids: dict[str, str]
    job: dict[str, Any]


@pytest.fixture(scope="module")
def owners(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owners]:
    folder = tmp_path_factory.mktemp("owners")
    tokens = [make_key(folder, owner) for owner in ("ana", "bob")]
    with (
        running_service(folder, f"{redis_server}?db=11") as server,
        client_of(server.url, tokens[0]) as ana,
        client_of(server.url, tokens[1]) as bob,
    ):
        a, b = upload(ana, A)["id"], upload(ana, B)["id"]
        body = {"a": {"embedding": a}, "b": {"embedding": b}}
        job = ana.post("/v1/alignments", json=body, headers={"idempotency-key": "run-1"}).json()
        yield Owners(server, ana, bob, {"embedding_id": a, "job_id": job["id"]}, job)


def name_of(operation: Operation) -> str:
    return operation.id


@pytest.mark.parametrize("operation", PRIVATE, ids=name_of)
def test_without_a_key_nothing_is_answered(owners: Owners, operation: Operation) -> None:
    path = operation.path.format(**owners.ids)

    assert_problem(httpx2.request(operation.method, owners.server.url + path), 401, "unauthenticated")


@pytest.mark.parametrize("operation", OF_ONE, ids=name_of)
def test_what_another_owns_does_not_exist(owners: Owners, operation: Operation) -> None:
    path = operation.path.format(**owners.ids)
    unknown = operation.path.format(**{name: f"{own[:4]}{'0' * 32}" for name, own in owners.ids.items()})

    answer, nothing = (owners.bob.request(operation.method, each) for each in (path, unknown))

    assert_problem(answer, 404, "not-found")
    told, told_of_nothing = ({**each.json(), "request_id": None, "value": None} for each in (answer, nothing))
    assert told == told_of_nothing, "an id of another must not look otherwise than one that never was"
    assert owners.ana.get(owners.job["links"]["self"]).json() == owners.job


@pytest.mark.parametrize("operation", LISTS, ids=name_of)
def test_what_another_owns_is_not_listed(owners: Owners, operation: Operation) -> None:
    assert operation.method == "GET"
    assert owners.ana.get(operation.path).json()["data"]
    assert owners.bob.get(operation.path, params={"limit": 100}).json() == {
        "data": [],
        "has_more": False,
        "next_cursor": None,
    }


@pytest.mark.parametrize("operation", PRIVATE, ids=name_of)
def test_the_document_says_that_a_key_is_needed(operation: Operation) -> None:
    described = DOCUMENT["paths"][operation.path][operation.method.lower()]

    assert described["security"] == [{"ApiKey": []}, {}]
    assert described["responses"].keys() >= {"401", "403", "429", "503"}


def test_a_cursor_of_another_leads_nowhere(owners: Owners) -> None:
    cursor = owners.ana.get("/v1/embeddings", params={"limit": 1}).json()["next_cursor"]

    assert owners.bob.get("/v1/embeddings", params={"cursor": cursor}).json()["data"] == []


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("query", ["", "?dry_run=true"])
def test_a_set_of_another_cannot_be_aligned(owners: Owners, side: str, query: str) -> None:
    body = {"a": {"vectors": A.tolist()}, "b": {"vectors": A.tolist()}, side: {"embedding": owners.ids["embedding_id"]}}
    before = owners.server.contents()

    answer = owners.bob.post(f"/v1/alignments{query}", json=body)

    assert_problem(answer, 404, "not-found", pointer=f"/{side}/embedding")
    assert owners.server.contents() == before


def test_the_same_upload_of_another_is_new_and_shares_only_bytes(owners: Owners) -> None:
    before = owners.server.contents()["files"]

    answer = owners.bob.post("/v1/embeddings?name=test", content=npy(A), headers={"content-type": "application/x-npy"})

    assert (answer.status_code, answer.json()["owner"]) == (201, "bob")
    assert answer.json()["id"] != owners.ids["embedding_id"]
    assert owners.server.contents()["files"] == before
    assert owners.bob.delete(answer.json()["links"]["self"]).status_code == 204
    assert owners.server.contents()["files"] == before


def test_the_idempotency_key_of_another_is_free(owners: Owners) -> None:
    body = {"a": {"vectors": A.tolist()}, "b": {"vectors": B.tolist()}}

    answer = owners.bob.post("/v1/alignments", json=body, headers={"idempotency-key": "run-1"})

    assert answer.status_code == 202
    assert answer.json()["id"] != owners.job["id"]
    owners.bob.post(answer.json()["links"]["cancel"])
    for embedding in ("a", "b"):
        assert (
            owners.bob.delete(f"/v1/embeddings/{answer.json()['request'][embedding]['embedding']}").status_code == 204
        )
