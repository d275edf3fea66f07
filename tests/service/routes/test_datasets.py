"""Datasets over HTTP: uploads, built-in datasets, lists and deletion."""

import json
import platform
import sqlite3
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.formats.items.item_files import ITEMS, image_archive, jsonl, table, tarred, zipped
from tests.service.servers import Server, assert_problem

JSONL = "application/jsonl"
FORMATS = {
    JSONL: jsonl(ITEMS),
    "application/x-ndjson": jsonl(ITEMS),
    "application/vnd.apache.parquet": table({name: [item[name] for item in ITEMS] for name in ITEMS[0]}),
    "application/zip": zipped(image_archive()),
    "application/x-tar": tarred(image_archive()),
}
DEV_ITEMS = Path(__file__).parents[2] / "datasets" / "stdlib_dev_items.json"
UNKNOWN = "ds_" + "0" * 32


def send(client: httpx2.Client, data: bytes, media_type: str = JSONL, **params: str) -> httpx2.Response:
    return client.post("/v1/datasets", params=params, content=data, headers={"content-type": media_type})


def add(client: httpx2.Client, data: bytes = FORMATS[JSONL], media_type: str = JSONL, **params: str) -> dict[str, Any]:
    answer = send(client, data, media_type, **params)
    assert answer.status_code in {200, 201}, answer.text
    return dict(answer.json())


@pytest.mark.parametrize("named", [True, False], ids=["named", "told by its bytes"])
@pytest.mark.parametrize("media_type", FORMATS)
def test_every_format_is_stored(client: httpx2.Client, media_type: str, named: bool) -> None:
    stored = add(client, FORMATS[media_type], media_type if named else "application/octet-stream", name=media_type[:9])
    views = {view["name"]: view["kind"] for view in stored["views"]}
    pictures = "zip" in media_type or "tar" in media_type
    assert views == ({"image": "image", "text": "text"} if pictures else {"text": "text", "code": "code"})
    assert (stored["n"], stored["source"], stored["ids"]["unique"]) == (3, "upload", 3)
    assert client.get(stored["links"]["self"]).json() == stored


def test_a_form_can_contain_name_and_views(client: httpx2.Client) -> None:
    answer = client.post(
        "/v1/datasets",
        files={"file": ("x", FORMATS[JSONL], JSONL)},
        data={"name": "by form", "metadata": '{"run": 7}', "views": '{"code": "text"}'},
    )
    assert answer.status_code == 201, answer.text
    stored = answer.json()
    assert (stored["name"], stored["metadata"]) == ("by form", {"run": 7})
    assert [(view["name"], view["kind"]) for view in stored["views"]] == [("code", "text")]
    assert answer.headers["location"] == stored["links"]["self"]


def test_new_content_with_the_same_name_is_another_version(
    client: httpx2.Client,
) -> None:
    first = send(client, FORMATS[JSONL], name="versions")
    again = send(client, FORMATS["application/vnd.apache.parquet"], "application/vnd.apache.parquet", name="versions")
    other = send(client, jsonl(ITEMS[:2]), name="versions")
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 201)
    assert again.json() == first.json()
    assert other.json()["digest"] != first.json()["digest"]
    listed = client.get("/v1/datasets", params={"name": "versions"}).json()["data"]
    assert [each["id"] for each in listed] == [other.json()["id"], first.json()["id"]]


def test_pages_go_through_all_datasets(client: httpx2.Client) -> None:
    made = [add(client, name="pages", metadata=json.dumps({"page": number}))["id"] for number in range(3)]
    first = client.get("/v1/datasets", params={"name": "pages", "limit": 2}).json()
    second = client.get("/v1/datasets", params={"name": "pages", "limit": 2, "cursor": first["next_cursor"]}).json()
    assert [each["id"] for page in (first, second) for each in page["data"]] == made[::-1]
    assert (first["has_more"], second["has_more"]) == (True, False)


def test_an_idempotency_key_is_honoured(client: httpx2.Client) -> None:
    headers = {"content-type": JSONL, "idempotency-key": "items-1"}
    first, again = (client.post("/v1/datasets?name=key", content=jsonl(ITEMS), headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code, first.json()) == (201, 200, again.json())
    other = client.post("/v1/datasets?name=key", content=jsonl(ITEMS[:1]), headers=headers)
    assert_problem(other, 422, "idempotency-key-reused")


def test_selected_scenes_are_generated_once_in_the_requested_order(client: httpx2.Client) -> None:
    first, again = (client.post("/v1/datasets", json={"builtin": "scenes:seed=5,n=9"}) for _ in range(2))
    assert (first.status_code, again.status_code, again.json()) == (201, 200, first.json())
    stored = first.json()
    assert (stored["name"], stored["n"], stored["source"]) == ("scenes", 9, "builtin")
    assert stored["metadata"]["builtin"] == "scenes:n=9,seed=5"
    assert [view["name"] for view in stored["views"]] == [
        "image",
        "code",
        *(f"caption_{level}" for level in range(1, 6)),
    ]
    wanted = {
        "builtin": "scenes:n=9,seed=5",
        "ids": ["scene-000004", "scene-000001"],
        "name": "two",
        "metadata": {"a": 1},
    }
    chosen = client.post("/v1/datasets", json=wanted).json()
    assert (chosen["name"], chosen["n"]) == ("two", 2)
    assert chosen["metadata"] == {"a": 1, "builtin": "scenes:n=9,seed=5", "version": "generation 1, Python any"}


@pytest.mark.skipif(platform.python_version() != "3.11.7", reason="another Python has another library")
def test_the_512_reference_functions_are_a_dataset_by_their_ids(client: httpx2.Client) -> None:
    ids = [item for item, _, _ in json.loads(DEV_ITEMS.read_text())]
    wanted = {"builtin": "stdlib-docs", "ids": ids, "name": "dev"}
    stored = client.post("/v1/datasets", json=wanted, timeout=100).json()  # all of the library is parsed
    assert (stored["name"], stored["n"]) == ("dev", 512)
    assert [view["name"] for view in stored["views"]] == ["text", "code"]
    assert stored["metadata"] == {"builtin": "stdlib-docs", "version": "generation 1, Python 3.11.7"}
    assert stored["digest"] == "4ba7be69d067ab6013e45da29477dec64e57a45b5241a2fbf437cf164d36f9af"


@pytest.mark.parametrize(
    ("body", "status", "code", "value"),
    [
        ({"builtin": "imagenet"}, 404, "not-found", "imagenet"),
        ({"builtin": "scenes:n=0"}, 422, "invalid-request", "0"),
        ({"builtin": "scenes:n=4", "ids": ["scene-000009"]}, 422, "bad-item", "scene-000009"),
        ({"builtin": "scenes:n=4", "ids": ["scene-000001"] * 2}, 422, "bad-item", "scene-000001"),
        ({"builtin": "scenes:n=4", "ids": []}, 422, "invalid-request", None),
        ({"items": []}, 422, "invalid-request", None),
        ([], 422, "invalid-request", None),
    ],
)
def test_an_invalid_builtin_dataset_is_refused(
    client: httpx2.Client, body: object, status: int, code: str, value: str | None
) -> None:
    document = assert_problem(client.post("/v1/datasets", json=body), status, code)
    assert value is None or document["value"] == value


@pytest.mark.parametrize("views", ["[]", '{"text": "prose"}', '{"text": 1}', "{", '{"image": "image"}', "{}"])
def test_invalid_views_are_refused(client: httpx2.Client, views: str) -> None:
    answer = send(client, FORMATS[JSONL], views=views)
    assert answer.status_code in {415, 422}, answer.text
    assert_problem(answer, answer.status_code, answer.json()["type"].rsplit("/", 1)[-1])


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("unknown", [UNKNOWN, "ds_", "nothing", "emb_" + "0" * 32])
def test_an_unknown_dataset_is_not_found(client: httpx2.Client, method: str, unknown: str) -> None:
    assert_problem(client.request(method, f"/v1/datasets/{unknown}"), 404, "not-found")


def test_blobs_are_deleted_with_the_last_dataset_that_uses_them(server: Server, client: httpx2.Client) -> None:
    data = jsonl([{"id": "only", "text": "here and nowhere else"}])
    before = server.contents()["files"]
    first, second = add(client, data, name="one"), add(client, data, name="two")
    assert client.delete(first["links"]["self"]).status_code == 204
    assert_problem(client.get(first["links"]["self"]), 404, "not-found")
    assert len(server.contents()["files"]) == len(before) + 2
    assert client.delete(second["links"]["self"]).status_code == 204
    assert server.contents()["files"] == before


def test_a_dataset_cannot_be_deleted_while_a_job_uses_it(server: Server, client: httpx2.Client) -> None:
    dataset = add(client, name="used")
    circle = {"vectors": [[1, 0], [0, 1], [-1, 0], [0, -1], [1, 1]]}
    job = client.post("/v1/alignments", json={"a": circle, "b": circle, "metrics": "cka"}).json()
    with sqlite3.connect(server.folder / "consilience.db") as connection:
        connection.execute("INSERT INTO job_datasets VALUES (?, ?)", (job["id"], dataset["id"]))
    connection.close()
    assert_problem(client.delete(dataset["links"]["self"]), 409, "in-use", value=dataset["id"])
    client.post(job["links"]["cancel"])
    assert client.delete(dataset["links"]["self"]).status_code == 204


def test_the_service_lists_dataset_formats_and_builtin_datasets(client: httpx2.Client) -> None:
    info = client.get("/v1/info").json()
    assert info["dataset_formats"] == list(FORMATS)
    assert info["builtin_datasets"] == ["stdlib-docs", "scenes"]
    assert info["limits"]["image_pixels_limit"] == 12_500_000
