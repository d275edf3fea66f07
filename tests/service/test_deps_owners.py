"""Isolation of owners in all operations of the OpenAPI document.

The owner ana creates one of each resource by the examples of the document, and the owner bob tries to read, list and use them.
A new route is covered as soon as it is in the document. The test fails for a route whose kind of id is not known below.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx2
import pytest

from tests.service.api_keys import client_of, make_key
from tests.service.openapi_document import (
    CREATING,
    DOCUMENT,
    ID,
    MAKING_MORE,
    MORE,
    Example,
    Operation,
    kind_of,
    make_everything,
    operations,
)
from tests.service.servers import Server, assert_problem, npy, rows, running_service, upload

#: Everybody may ask.
HEALTH = {"get_liveness", "get_readiness", "get_health"}
#: The same for everybody who has a key.
COMMON = {"get_info", "list_metrics"}
#: Only a key with the scope `admin` may ask: see test_monitoring.
ADMIN = {"get_metrics"}
A, B = rows(40, seed=1), rows(40, seed=2)

PRIVATE = [each for each in operations() if each.id not in HEALTH]
OF_ONE = [each for each in PRIVATE if each.parameters]
LISTS = [each for each in PRIVATE if not each.parameters and each not in CREATING and each.id not in COMMON | ADMIN]
NAMING = [(each, example) for each in CREATING for example in each.examples if example.ids]


class Owners(NamedTuple):
    """Two owners on one service; all resources belong to ana."""

    server: Server
    ana: httpx2.Client
    bob: httpx2.Client
    parameters: dict[str, str]
    """By the name of the path parameter."""
    ids: dict[str, str]
    """The same, by the prefix of the id."""
    job: dict[str, Any]

    def path(self, operation: Operation) -> str:
        """Return the path of the resource of ana."""
        missing = set(operation.parameters) - self.parameters.keys()
        assert not missing, f"nothing that ana made has a {missing}: give a creating operation an example, or a recipe"
        return operation.path.format(**self.parameters)


@pytest.fixture(scope="module")
def owners(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owners]:
    folder = tmp_path_factory.mktemp("owners")
    tokens = [make_key(folder, owner) for owner in ("ana", "bob")]
    with (
        running_service(folder, f"{redis_server}?db=11") as server,
        client_of(server.url, tokens[0]) as ana,
        client_of(server.url, tokens[1]) as bob,
    ):
        parameters = make_everything(ana)
        a, b = upload(ana, A)["id"], upload(ana, B)["id"]
        body = {"a": {"embedding": a}, "b": {"embedding": b}}
        job = ana.post("/v1/alignments", json=body, headers={"idempotency-key": "run-1"}).json()
        parameters |= {"embedding_id": a, "job_id": job["id"]}
        ids = {kind_of(own): own for own in parameters.values()}
        yield Owners(server, ana, bob, parameters, ids, job)


def name_of(operation: Operation) -> str:
    return operation.id


@pytest.mark.parametrize("operation", PRIVATE, ids=name_of)
def test_every_operation_needs_a_key(owners: Owners, operation: Operation) -> None:
    assert_problem(httpx2.request(operation.method, owners.server.url + owners.path(operation)), 401, "unauthenticated")


@pytest.mark.parametrize("operation", OF_ONE, ids=name_of)
def test_records_of_another_owner_are_not_found(owners: Owners, operation: Operation) -> None:
    path = owners.path(operation)
    unknown = ID.sub(lambda found: found[1] + "0" * 32, path)
    example = next(iter(operation.examples), None)
    body = {"content": example.body(owners.ids), "headers": {"content-type": example.media_type}} if example else {}

    answer, nothing = (owners.bob.request(operation.method, each, **body) for each in (path, unknown))

    assert_problem(answer, 404, "not-found")
    told, told_of_nothing = ({**each.json(), "request_id": None, "value": None} for each in (answer, nothing))
    assert told == told_of_nothing, "an id of another must not look otherwise than one that never was"
    assert owners.ana.get(owners.job["links"]["self"]).json() == owners.job


@pytest.mark.parametrize("operation", LISTS, ids=name_of)
def test_records_of_another_owner_are_not_listed(owners: Owners, operation: Operation) -> None:
    assert operation.method == "GET"
    hers, his = (each.get(operation.path, params={"limit": 100}) for each in (owners.ana, owners.bob))

    own = {each["id"] for each in hers.json()["data"] if ID.fullmatch(each["id"])}
    assert own & set(owners.parameters.values())
    assert not any(each in his.text for each in own)


@pytest.mark.parametrize(("operation", "example"), NAMING, ids=lambda each: getattr(each, "id", None) or each.name)
def test_records_of_another_owner_cannot_be_used_in_a_request(
    owners: Owners, operation: Operation, example: Example
) -> None:
    before = owners.server.contents()

    assert_problem(example.send(owners.bob, operation.path, owners.ids), 404, "not-found")

    assert owners.server.contents() == before


@pytest.mark.parametrize("operation", MAKING_MORE, ids=name_of)
@pytest.mark.parametrize("query", ["", "?dry_run=true"])
def test_records_of_another_owner_cannot_be_used_with_own_ones(
    owners: Owners, operation: Operation, query: str
) -> None:
    with client_of(owners.server.url, make_key(owners.server.folder, "carl")) as carl:
        place, body = MORE[operation.id].place(carl), MORE[operation.id].body
        hers, his = (upload(each, rows(24, seed=83))["id"] for each in (owners.ana, carl))
        before = owners.server.contents()

        assert_problem(carl.post(place + query, json=body(hers)), 404, "not-found", value=hers)

        assert owners.server.contents() == before
        assert carl.post(place + query, json=body(his)).is_success, "it is not refused for another reason"


@pytest.mark.parametrize("operation", PRIVATE, ids=name_of)
def test_the_openapi_document_requires_a_key(operation: Operation) -> None:
    described = DOCUMENT["paths"][operation.path][operation.method.lower()]

    assert described["security"] == [{"ApiKey": []}, {}]
    assert described["responses"].keys() >= {"401", "403", "429", "503"}


def test_a_cursor_of_another_owner_gives_no_records(owners: Owners) -> None:
    cursor = owners.ana.get("/v1/embeddings", params={"limit": 1}).json()["next_cursor"]

    assert owners.bob.get("/v1/embeddings", params={"cursor": cursor}).json()["data"] == []


@pytest.mark.parametrize("operation", LISTS, ids=name_of)
def test_a_forged_cursor_gives_no_records_of_another_owner(owners: Owners, operation: Operation) -> None:
    newer = json.dumps(["9999-01-01T00:00:00+00:00", f"zz_{'f' * 32}"]).encode()
    params = {"cursor": base64.urlsafe_b64encode(newer).decode().rstrip("="), "limit": 100}

    hers, his = (each.get(operation.path, params=params) for each in (owners.ana, owners.bob))

    own = {each["id"] for each in hers.json()["data"] if ID.fullmatch(each["id"])}
    assert own & set(owners.parameters.values()), "the cursor is before everything"
    assert not any(each in his.text for each in own)


@pytest.mark.parametrize("operation", LISTS, ids=name_of)
@pytest.mark.parametrize("row_id", ["\ud800", "\0", "", "emb_", ["x"], 7, None])
def test_a_cursor_with_anything_else_than_an_id_is_refused(
    owners: Owners, operation: Operation, row_id: object
) -> None:
    forged = json.dumps(["2026-01-01T00:00:00+00:00", row_id]).encode()

    answer = owners.bob.get(operation.path, params={"cursor": base64.urlsafe_b64encode(forged).decode().rstrip("=")})

    assert_problem(answer, 422, "invalid-request", pointer="cursor")


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("query", ["", "?dry_run=true"])
def test_a_set_of_another_owner_cannot_be_aligned(owners: Owners, side: str, query: str) -> None:
    body = {
        "a": {"vectors": A.tolist()},
        "b": {"vectors": A.tolist()},
        side: {"embedding": owners.parameters["embedding_id"]},
    }
    before = owners.server.contents()

    answer = owners.bob.post(f"/v1/alignments{query}", json=body)

    assert_problem(answer, 404, "not-found", pointer=f"/{side}/embedding")
    assert owners.server.contents() == before


def test_equal_uploads_of_two_owners_share_only_blobs(owners: Owners) -> None:
    before = owners.server.contents()["files"]

    answer = owners.bob.post("/v1/embeddings?name=test", content=npy(A), headers={"content-type": "application/x-npy"})

    assert (answer.status_code, answer.json()["owner"]) == (201, "bob")
    assert answer.json()["id"] != owners.parameters["embedding_id"]
    assert owners.server.contents()["files"] == before
    assert owners.bob.delete(answer.json()["links"]["self"]).status_code == 204
    assert owners.server.contents()["files"] == before


def test_idempotency_keys_of_owners_are_independent(owners: Owners) -> None:
    body = {"a": {"vectors": A.tolist()}, "b": {"vectors": B.tolist()}}

    answer = owners.bob.post("/v1/alignments", json=body, headers={"idempotency-key": "run-1"})

    assert answer.status_code == 202
    assert answer.json()["id"] != owners.job["id"]
    owners.bob.post(answer.json()["links"]["cancel"])
    for embedding in ("a", "b"):
        assert (
            owners.bob.delete(f"/v1/embeddings/{answer.json()['request'][embedding]['embedding']}").status_code == 204
        )
