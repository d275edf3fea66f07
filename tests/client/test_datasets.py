"""Requests of the calls for datasets."""

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.client.conftest import Call
from tests.client.documents import DATASET_ID, dataset
from tests.client.scripted import Answer, Script, serving


@pytest.mark.parametrize(
    ("suffix", "media_type"),
    [
        (".jsonl", "application/jsonl"),
        (".ndjson", "application/jsonl"),
        (".parquet", "application/vnd.apache.parquet"),
        (".zip", "application/zip"),
        (".tar", "application/x-tar"),
        (".items", "application/octet-stream"),
    ],
)
def test_a_file_of_items_is_sent_unchanged(call: Call, tmp_path: Path, suffix: str, media_type: str) -> None:
    file = tmp_path / f"my items{suffix}"
    file.write_bytes(b'{"text": "x"}')
    with serving(Script(Answer(201, dataset()))) as script:
        call(script.url, lambda client: client.add_dataset(file, metadata={"run": 1}, views={"text": "code"}))
    (seen,) = script.seen
    address = urlsplit(seen.path)
    query = {name: values[0] for name, values in parse_qs(address.query).items()}
    assert (seen.method, address.path, seen.headers["content-type"]) == ("POST", "/v1/datasets", media_type)
    assert seen.body == b'{"text": "x"}'
    assert query["name"] == "my items"
    assert (json.loads(query["metadata"]), json.loads(query["views"])) == ({"run": 1}, {"text": "code"})


def test_built_in_datasets_are_requested_by_name(call: Call) -> None:
    with serving(Script(Answer(201, dataset()))) as script:
        call(script.url, lambda client: client.make_dataset("scenes:n=8"))
        call(script.url, lambda client: client.make_dataset("scenes", ids=("a", "b"), name="two"))
    assert [json.loads(seen.body) for seen in script.seen] == [
        {"builtin": "scenes:n=8"},
        {"builtin": "scenes", "ids": ["a", "b"], "name": "two"},
    ]


def test_datasets_are_fetched_listed_and_deleted(call: Call) -> None:
    page = {"data": [dataset()], "has_more": False, "next_cursor": None}
    with serving(Script(Answer(200, dataset()), Answer(200, page), Answer(204, ""))) as script:
        assert call(script.url, lambda client: client.dataset(DATASET_ID)).id == DATASET_ID
        assert call(script.url, lambda client: client.datasets(name="a", limit=7)).data[0].n == 4
        call(script.url, lambda client: client.delete_dataset("../jobs"))
    asked = [(seen.method, seen.path) for seen in script.seen]
    assert asked == [
        ("GET", f"/v1/datasets/{DATASET_ID}"),
        ("GET", "/v1/datasets?name=a&limit=7"),
        ("DELETE", "/v1/datasets/..%2Fjobs"),
    ]
