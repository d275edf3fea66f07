"""Extraction of embedding sets over HTTP."""

from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest

from tests.service.servers import Server, assert_problem, running_beside, running_service, upload

JSONL = "application/jsonl"
PIXELS = {"model": "baseline:pixels?size=4", "dataset": "scenes:n=24", "view": "image"}
WORDS = {"model": "baseline:random?dim=8", "dataset": "scenes:n=24", "view": "caption_3"}


@pytest.fixture(scope="module")
def making_server(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Service with a worker that runs models."""
    folder = tmp_path_factory.mktemp("making")
    with (
        running_service(folder, f"{redis_server}?db=5", queue="extract", models="baseline:*,hf:*") as server,
        running_beside(server, "workers"),
    ):
        yield server


@pytest.fixture(scope="module")
def making(making_server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=making_server.url, timeout=60, headers={"prefer": "wait=30"}) as client:
        yield client


def finished(answer: httpx2.Response) -> dict[str, Any]:
    """Wait for a job and return its result."""
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    assert job["status"] == "succeeded", job
    assert isinstance(job["result"], dict)
    return job["result"]


def test_a_set_is_computed_from_a_model_and_a_dataset(making: httpx2.Client) -> None:
    result = finished(making.post("/v1/embeddings", json=PIXELS))

    assert (result["n"], result["cache"], result["schema"]) == (24, "miss", "consilience.extraction/1")
    assert result["layers"] == [{"name": "0", "dim": 48, "dtype": "F16"}]
    assert result["record"]["model"] == PIXELS["model"]
    stored = making.get(f"/v1/embeddings/{result['embedding']}").json()
    assert (stored["source"], stored["record"]) == ("model", result["record"])
    assert stored["ids"]["unique"] == 24
    assert stored["name"] == "baseline:pixels-size-4 scenes:n-24 image"


def test_a_repeated_extraction_is_reused(making: httpx2.Client) -> None:
    first, second = (finished(making.post("/v1/embeddings", json=WORDS)) for _ in range(2))

    assert (second["cache"], second["embedding"]) == ("hit", first["embedding"])
    assert second["items_per_s"] is None
    assert finished(making.post("/v1/embeddings", json={**WORDS, "view": "caption_4"}))["cache"] == "miss"


def test_another_name_makes_another_set_with_the_same_layers(making: httpx2.Client) -> None:
    first = finished(making.post("/v1/embeddings", json=WORDS))
    renamed = finished(making.post("/v1/embeddings?name=mine", json={**WORDS, "metadata": {"run": 7}}))

    assert (renamed["cache"], renamed["name"]) == ("hit", "mine")
    one, other = (making.get(f"/v1/embeddings/{each['embedding']}").json() for each in (first, renamed))
    assert other["metadata"] == {"run": 7}
    assert one["id"] != other["id"]
    assert one["layers"] == other["layers"]


def test_two_sides_are_computed_and_compared_in_one_job(making: httpx2.Client) -> None:
    request = {"a": PIXELS, "b": WORDS, "metrics": [{"metric": "mutual_knn", "k": 3}], "pairing": "id"}
    document = finished(making.post("/v1/alignments", json=request))

    assert (document["n"], document["pairing"]["matched"]) == (24, 24)
    made = making.get(f"/v1/embeddings/{document['a']['id']}").json()
    assert made["record"]["model"] == PIXELS["model"]
    again = finished(making.post("/v1/alignments", json=request))
    assert (again["a"]["id"], again["b"]["id"]) == (document["a"]["id"], document["b"]["id"])
    assert again["scores"][0]["value"] == document["scores"][0]["value"]


def test_a_stored_set_is_compared_with_a_computed_one(making: httpx2.Client) -> None:
    stored = upload(making, np.random.default_rng(0).standard_normal((24, 6)).astype(np.float32))
    document = finished(
        making.post("/v1/alignments", json={"a": {"embedding": stored["id"]}, "b": PIXELS, "metrics": ["cka"]})
    )
    assert document["a"]["id"] == stored["id"]


def test_the_plan_of_an_extraction_has_items_and_time(making: httpx2.Client) -> None:
    alone = making.post("/v1/embeddings?dry_run=true", json=PIXELS)
    assert (alone.status_code, alone.json()["n"]) == (200, 24)
    sides = making.post("/v1/alignments?dry_run=true", json={"a": PIXELS, "b": WORDS, "metrics": ["cka"]})
    assert sides.json()["seconds"] >= alone.json()["seconds"] > 0.0


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"model": "nothing"}, "invalid-request", "/model"),
        ({"model": "baseline:pixels?size=0"}, "invalid-request", "/model"),
        ({"model": "timm:resnet18"}, "model-not-allowed", "/model"),
        ({"dataset": "nothing"}, "not-found", "/dataset"),
        ({"dataset": "scenes:n=0"}, "invalid-request", "/dataset"),
        ({"view": "sound"}, "unknown-view", "/view"),
        ({"view": "code"}, "invalid-request", "/view"),
        ({"pooling": "cls"}, "invalid-request", "/pooling"),
        ({"max_length": 0}, "invalid-request", "/max_length"),
        ({"layers": []}, "invalid-request", "/layers"),
        ({"colour": "red"}, "invalid-request", "/colour"),
    ],
)
def test_an_invalid_extraction_is_refused_at_once(
    making: httpx2.Client, change: dict[str, Any], code: str, pointer: str
) -> None:
    status = {"model-not-allowed": 403, "not-found": 404}.get(code, 422)
    assert_problem(making.post("/v1/embeddings", json={**PIXELS, **change}), status, code, pointer=pointer)
    side = making.post("/v1/alignments", json={"a": {**PIXELS, **change}, "b": PIXELS})
    assert_problem(side, status, code, pointer=f"/a{pointer}")


def test_a_side_is_either_stored_or_computed(making: httpx2.Client) -> None:
    both = making.post("/v1/alignments", json={"a": {**PIXELS, "embedding": f"emb_{'0' * 32}"}, "b": PIXELS})
    assert_problem(both, 422, "invalid-request", pointer="/a/embedding")
    missing = making.post("/v1/embeddings", json={"model": "baseline:pixels"})
    assert_problem(missing, 422, "invalid-request", pointer="/dataset")


def test_an_extraction_with_misspelt_fields_is_recognised(making: httpx2.Client) -> None:
    slips = {"modle": "baseline:pixels", "data": "scenes:n=24", "view": "image"}
    for problem in (
        assert_problem(making.post("/v1/embeddings", json=slips), 422, "invalid-request"),
        assert_problem(making.post("/v1/alignments", json={"a": slips, "b": PIXELS}), 422, "invalid-request"),
    ):
        assert "Did you mean `model`?" in str(problem["errors"])


def test_an_unknown_dataset_is_refused_with_a_hint(making: httpx2.Client) -> None:
    problem = assert_problem(making.post("/v1/embeddings", json={**PIXELS, "dataset": "scenes?n=24"}), 404, "not-found")
    assert "scenes:n=512,seed=0" in problem["hint"]
    stored = making.post("/v1/datasets?name=mine", content=b'{"text": "a"}', headers={"content-type": JSONL}).json()
    problem = assert_problem(making.post("/v1/embeddings", json={**WORDS, "dataset": "mine"}), 404, "not-found")
    assert stored["id"] in problem["hint"]


def test_an_error_of_the_model_fails_the_job(making: httpx2.Client) -> None:
    job = making.post("/v1/embeddings", json={**PIXELS, "layers": ["7"]}).json()
    assert (job["status"], job["error"]["type"].rsplit("/")[-1]) == ("failed", "unknown-layer")
    unknown = {"model": "hf:no/such-model", "dataset": "scenes:n=24", "view": "code"}
    job = making.post("/v1/embeddings", json=unknown).json()
    assert (job["status"], job["error"]["type"].rsplit("/")[-1]) == ("failed", "unknown-model")
