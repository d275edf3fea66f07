import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np
import pyarrow as pa
import pytest

from tests.formats.tables.table_files import KINDS, MEDIA_TYPES, vectors, write
from tests.service.servers import Server, assert_problem, npy, rows, running_service, upload

NPY = {"content-type": "application/x-npy"}


def test_a_raw_body_becomes_a_set(client: httpx2.Client) -> None:
    answer = client.post(
        "/v1/embeddings",
        params={"name": "docs v1", "metadata": '{"run": 7}'},
        content=npy(rows(10, 3, seed=1)),
        headers=NPY,
    )

    document = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == document["links"]["self"] == f"/v1/embeddings/{document['id']}"
    assert (document["name"], document["n"], document["metadata"], document["bytes"]) == (
        "docs v1",
        10,
        {"run": 7},
        120,
    )
    assert [(layer["name"], layer["dim"], layer["dtype"]) for layer in document["layers"]] == [("0", 3, "F32")]
    assert client.get(answer.headers["location"]).json() == document


def test_a_form_becomes_the_same_set_as_a_raw_body(client: httpx2.Client) -> None:
    data = npy(rows(10, 3, seed=2))
    raw = client.post("/v1/embeddings", params={"name": "x", "metadata": '{"run": 8}'}, content=data, headers=NPY)

    form = client.post(
        "/v1/embeddings",
        files={
            "file": ("../../evil", data),
            "name": (None, '"x"', "application/json"),
            "metadata": (None, '{"run": 8}'),
        },
    )

    assert (form.status_code, form.json()) == (200, raw.json())


def test_sets_with_equal_content_share_layers(server: Server, client: httpx2.Client) -> None:
    array = rows(10, 3, seed=3)
    first = upload(client, array, "one")
    before = server.contents()

    again, other = upload(client, array, "one"), upload(client, array, "two")

    assert again == first
    assert other["id"] != first["id"]
    assert other["digest"] == first["digest"]
    assert server.contents()["files"] == before["files"]


def test_the_format_is_detected_without_a_media_type(client: httpx2.Client) -> None:
    for headers in ({}, {"content-type": "application/octet-stream"}):
        assert client.post("/v1/embeddings", content=npy(rows(5, 3, seed=4)), headers=headers).status_code in {200, 201}


def test_layers_of_one_array_are_numbered(client: httpx2.Client) -> None:
    document = upload(client, np.ones((5, 12, 4), np.float16))

    assert [layer["name"] for layer in document["layers"]] == [str(i) for i in range(12)]


def test_vectors_in_json_are_an_upload_too(client: httpx2.Client) -> None:
    answer = client.post("/v1/embeddings", json={"vectors": rows(6, 2).tolist()})

    assert (answer.status_code, answer.json()["n"]) == (201, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_is_a_set_with_its_ids_and_the_same_layers_as_any_file(client: httpx2.Client, kind: str) -> None:
    array, names = rows(6, 3, seed=7), list("abcdef")
    table = write(kind, pa.table({"id": names, "0": vectors(array)}))

    said = client.post("/v1/embeddings", content=table, headers={"content-type": MEDIA_TYPES[kind]})
    sniffed = client.post("/v1/embeddings", content=table)

    columns = {"file": npy(array), "ids": json.dumps(names), "name": "unnamed"}
    assert said.status_code in {200, 201}
    assert said.json() == sniffed.json() == client.post("/v1/embeddings", files=columns).json()
    assert MEDIA_TYPES[kind] in client.get("/v1/info").json()["formats"]


def test_sets_are_listed_newest_first_page_by_page(client: httpx2.Client) -> None:
    ids = [upload(client, rows(5, 2, seed=i), "paged")["id"] for i in range(5)]

    first = client.get("/v1/embeddings", params={"name": "paged", "limit": 3}).json()
    rest = client.get("/v1/embeddings", params={"name": "paged", "limit": 3, "cursor": first["next_cursor"]}).json()

    assert [item["id"] for item in first["data"] + rest["data"]] == ids[::-1]
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)


def test_sets_are_found_by_metadata(client: httpx2.Client) -> None:
    params = {"metadata": '{"model": "m", "step": 1}', "name": "found"}
    stored = client.post("/v1/embeddings", params=params, content=npy(rows(5, 2, seed=40)), headers=NPY).json()

    found = client.get("/v1/embeddings", params={"metadata": '{"step": 1}'}).json()
    others = client.get("/v1/embeddings", params={"metadata": '{"step": 2}'}).json()

    assert ([item["id"] for item in found["data"]], others["data"]) == ([stored["id"]], [])


def test_a_deleted_set_and_its_layers_are_removed(server: Server, client: httpx2.Client) -> None:
    before = server.contents()
    document = upload(client, rows(9, 5, seed=5))

    assert client.delete(document["links"]["self"]).status_code == 204

    assert server.contents() == before
    assert_problem(client.get(document["links"]["self"]), 404, "not-found", value=document["id"])


def test_a_layer_is_kept_while_another_set_uses_it(server: Server, client: httpx2.Client) -> None:
    one, two = (upload(client, rows(9, 5, seed=6), name) for name in ("one", "two"))

    client.delete(one["links"]["self"])

    digest = two["layers"][0]["digest"]
    assert f"layers/{digest[:2]}/{digest}" in server.contents()["files"]


def test_a_set_that_a_waiting_job_needs_is_not_deleted(client: httpx2.Client) -> None:
    stored = upload(client, rows(20, seed=7))
    job = client.post(
        "/v1/alignments", json={"a": {"embedding": stored["id"]}, "b": {"embedding": stored["id"]}}
    ).json()

    refused = client.delete(stored["links"]["self"])

    assert_problem(refused, 409, "in-use")
    assert job["id"] in refused.json()["detail"]
    client.post(job["links"]["cancel"])
    assert client.delete(stored["links"]["self"]).status_code == 204


def test_equal_uploads_at_the_same_time_are_one_set(client: httpx2.Client) -> None:
    array = rows(2000, 64, seed=8)

    with ThreadPoolExecutor(8) as pool:
        ids = {document["id"] for document in pool.map(lambda _: upload(client, array, "race"), range(8))}

    assert len(ids) == 1


def test_uploads_and_deletions_at_the_same_time_leave_no_set_without_its_layers(
    server: Server, client: httpx2.Client
) -> None:
    array = rows(500, 16, seed=9)

    def upload_and_delete(number: int) -> None:
        document = upload(client, array, f"n{number}")
        if number % 4:
            client.delete(document["links"]["self"])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(upload_and_delete, range(48)))

    kept = [item for item in client.get("/v1/embeddings?limit=100").json()["data"] if item["n"] == 500]
    assert len(kept) == 12
    digest = kept[0]["layers"][0]["digest"]
    assert f"layers/{digest[:2]}/{digest}" in server.contents()["files"]


@pytest.mark.parametrize("form", [False, True])
def test_a_large_upload_does_not_grow_the_process(redis_server: str, tmp_path: Path, form: bool) -> None:
    """300 MB here, to save time; 2 GB behave the same."""
    with running_service(tmp_path, f"{redis_server}?db=6") as server:
        parts, content_type = zeros_npy(150_000, 512), "application/x-npy"
        if form:
            head = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
            parts, content_type = [head, *parts, b"\r\n--XX--\r\n"], "multipart/form-data; boundary=XX"
        httpx2.get(server.url + "/readyz")
        idle = server.memory_bytes("VmRSS")

        answer = httpx2.post(
            server.url + "/v1/embeddings", content=iter(parts), headers={"content-type": content_type}, timeout=60
        )

        assert answer.status_code == 201, answer.text
        assert server.memory_bytes("VmHWM") - idle < 100e6


def zeros_npy(n: int, dim: int) -> list[bytes]:
    """An npy file of (n, dim) float32 in pieces of a megabyte, all the same object."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (n, dim)})
    block, size = bytes(2**20), n * dim * 4
    return [header.getvalue(), *(block for _ in range(size // 2**20)), bytes(size % 2**20)]


def test_an_idempotency_key_belongs_to_one_upload(client: httpx2.Client) -> None:
    def send(seed: int, name: str = "keyed", key: str = "upload-17") -> httpx2.Response:
        headers = {**NPY, "idempotency-key": key}
        return client.post(
            "/v1/embeddings", params={"name": name}, content=npy(rows(10, 3, seed=seed)), headers=headers
        )

    first, same = send(171), send(171)
    assert (first.status_code, same.status_code, same.json()) == (201, 200, first.json())
    for other in (send(172), send(171, name="renamed")):
        problem = assert_problem(other, 422, "idempotency-key-reused", value="upload-17")
        assert "new key" in problem["hint"]
    assert send(172, key="upload-18").status_code == 201
    assert client.get("/v1/embeddings", params={"name": "renamed"}).json()["data"] == []

    client.delete(first.json()["links"]["self"])
    assert send(172, name="renamed").status_code == 201, "a key goes with its set"


def test_idempotency_keys_of_uploads_and_jobs_are_independent(client: httpx2.Client) -> None:
    headers = {"idempotency-key": "both"}
    stored = client.post("/v1/embeddings", content=npy(rows(30, 3, seed=173)), headers={**NPY, **headers}).json()
    side = {"embedding": stored["id"]}
    assert client.post("/v1/alignments", json={"a": side, "b": side}, headers=headers).status_code == 202


def test_uploads_with_one_key_at_the_same_time_are_one_set_or_refused(client: httpx2.Client) -> None:
    def send(seed: int) -> httpx2.Response:
        headers = {**NPY, "idempotency-key": "at-once"}
        return client.post("/v1/embeddings", content=npy(rows(10, 3, seed=seed)), headers=headers)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, [174, 175] * 8))
    assert {answer.status_code for answer in answers} == {200, 201, 422}
    assert len({answer.json()["id"] for answer in answers if answer.status_code != 422}) == 1
