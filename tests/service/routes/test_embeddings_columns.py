"""Ids and groups of uploaded sets."""

import json
from typing import Any

import httpx2
import pytest

from tests.service.servers import Server, assert_problem, npy, rows

A, B = rows(8, seed=11), rows(6, seed=12)
NAMES = [*"abcdefg", 7]


def send(client: httpx2.Client, name: str, **columns: object) -> dict[str, Any]:
    """Upload A with these columns and return the set."""
    files = {"file": ("a.npy", npy(A))} | {key: (key, json.dumps(value)) for key, value in columns.items()}
    answer = client.post("/v1/embeddings", params={"name": name}, files=files)
    assert answer.status_code in {200, 201}, answer.text
    return answer.json()


def test_a_set_describes_its_columns_without_their_strings(client: httpx2.Client) -> None:
    stored = send(client, "told", ids=NAMES, groups=["x"] * 4 + ["y"] * 4)

    assert stored["ids"].keys() == {"digest", "unique"}
    assert (stored["ids"]["unique"], stored["groups"]["unique"]) == (8, 2)
    assert client.get(stored["links"]["self"]).json() == stored
    assert client.get("/v1/embeddings", params={"name": "told"}).json()["data"] == [stored]


def test_a_set_without_columns_has_null_columns(client: httpx2.Client) -> None:
    stored = send(client, "bare")

    assert (stored["ids"], stored["groups"]) == (None, None)


def test_other_columns_make_another_set(client: httpx2.Client) -> None:
    first, again = send(client, "same", ids=NAMES), send(client, "same", ids=[str(each) for each in NAMES])
    others = [send(client, "same"), send(client, "same", groups=NAMES), send(client, "same", ids=NAMES[::-1])]

    assert again == first
    assert len({each["digest"] for each in [first, *others]}) == 4


def test_columns_can_be_sent_in_json(client: httpx2.Client) -> None:
    inside = client.post("/v1/embeddings?name=json", json={"vectors": A.tolist(), "ids": NAMES, "groups": NAMES}).json()

    assert inside["digest"] == send(client, "form", ids=NAMES, groups=NAMES)["digest"]


def test_columns_are_deleted_with_the_last_set_that_uses_them(server: Server, client: httpx2.Client) -> None:
    before = server.contents()
    one, two = send(client, "one", ids=["only", *range(7)]), send(client, "two", groups=["only", *range(7)])
    digest = one["ids"]["digest"]
    assert two["groups"]["digest"] == digest

    client.delete(one["links"]["self"])
    assert f"columns/{digest[:2]}/{digest}" in server.contents()["files"]
    client.delete(two["links"]["self"])

    assert server.contents() == before


def test_an_upload_with_duplicate_ids_is_accepted(client: httpx2.Client) -> None:
    assert send(client, "captions", ids=[1, 1, 2, 2, 3, 3, 4, 4])["ids"]["unique"] == 4


def test_sides_with_different_numbers_of_rows_are_planned_by_id(client: httpx2.Client) -> None:
    stored = send(client, "side", ids=NAMES)
    body = {
        "a": {"embedding": stored["id"]},
        "b": {"vectors": B.tolist(), "ids": NAMES[:6]},
        "pairing": "id",
        "metrics": "cka",
    }
    files = {"a": npy(A), "b": npy(B), "ids_a": json.dumps(NAMES), "ids_b": json.dumps(NAMES[:6])}
    request = {"pairing": "id", "metrics": "cka"}

    planned = client.post("/v1/alignments?dry_run=true", json=body)
    from_files = client.post("/v1/alignments?dry_run=true", files=files, data={"request": json.dumps(request)})
    accepted = client.post("/v1/alignments", json=body)

    assert planned.json() == from_files.json()
    assert (planned.status_code, planned.json()["n"]) == (200, 6)
    assert (accepted.status_code, accepted.json()["request"]["pairing"]) == (202, "id")
    inline = client.get(f"/v1/embeddings/{accepted.json()['request']['b']['embedding']}").json()
    assert inline["ids"]["unique"] == 6


@pytest.mark.parametrize(("groups", "status"), [(None, 422), (["x", "x", *range(6)], 200)])
def test_ids_can_repeat_if_groups_match(client: httpx2.Client, groups: object, status: int) -> None:
    columns = {"ids": [1, 1, 2, 3, 4, 5, 6, 7]} | ({"groups": groups} if groups else {})
    twice, once = send(client, "twice", **columns), send(client, "once", ids=NAMES)
    body = {"a": {"embedding": twice["id"]}, "b": {"embedding": once["id"]}, "pairing": "id", "metrics": "cka"}

    answer = client.post("/v1/alignments?dry_run=true", json=body)

    assert answer.status_code == status, answer.text
    if status == 422:
        assert_problem(answer, 422, "unpaired-sides", pointer="/a", value="8 rows, 7 different ids")


def test_a_job_by_id_reads_the_ids_of_both_sides(busy_client: httpx2.Client) -> None:
    body = {
        "a": {"vectors": A.tolist(), "ids": NAMES},
        "b": {"vectors": A.tolist(), "ids": NAMES, "groups": NAMES},
        "pairing": "id",
        "metrics": "cka",
    }

    job = busy_client.post("/v1/alignments", json=body, headers={"prefer": "wait=30"}).json()

    assert job["status"] == "succeeded", job
    assert job["result"]["scores"][0]["value"] == pytest.approx(1.0)
