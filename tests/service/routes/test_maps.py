"""Maps over HTTP: fits, uploads, downloads, translations and deletion."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest

from consilience.formats.map_files import dump_map
from consilience.maps.api import Map, fit_map, load_map
from service.routes.maps import MODEL_CARD_LIMIT_BYTES
from tests.service.servers import Server, assert_problem, npy, rows, running_beside, running_service, upload
from tests.workers.harness import wait_for

X = rows(120, 8, seed=1)
Y = (X @ np.linalg.qr(rows(8, 8, seed=2))[0] + 0.1 * rows(120, 8, seed=3)).astype(np.float32)
SMALL = ("procrustes", "ridge", {"kind": "low_rank", "rank": 3}, {"kind": "relative", "anchors": 20})
UNKNOWN = "map_" + "0" * 32
MAP_TYPE = "application/x-safetensors"


@pytest.fixture(scope="module")
def sides(busy_client: httpx2.Client) -> tuple[str, str]:
    """Two stored sets whose metadata contain their models."""
    made = [
        busy_client.post(
            "/v1/embeddings",
            params={"name": name, "metadata": json.dumps({"model": f"{name}-model"})},
            content=npy(array),
            headers={"content-type": "application/x-npy"},
        ).json()["id"]
        for name, array in (("old", X), ("new", Y))
    ]
    return made[0], made[1]


def ask(client: httpx2.Client, sides: tuple[str, str], **fields: Any) -> httpx2.Response:
    body = {"a": {"embedding": sides[0]}, "b": {"embedding": sides[1]}, **fields}
    return client.post("/v1/maps", json=body, headers={"prefer": "wait=60"})


@pytest.fixture(scope="module")
def stored(busy_client: httpx2.Client, sides: tuple[str, str]) -> dict[str, Any]:
    answer = ask(busy_client, sides, map="ridge", seed=3)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "succeeded", answer.text
    return dict(answer.json()["result"])


@pytest.fixture(scope="module")
def own(busy_client: httpx2.Client, stored: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Map:
    """The download."""
    answer = busy_client.get(stored["links"]["file"])
    assert answer.headers["content-type"] == MAP_TYPE
    path = tmp_path_factory.mktemp("map") / "map.safetensors"
    path.write_bytes(answer.content)
    return load_map(path)


def test_a_job_fits_the_same_map_as_the_library(own: Map, stored: dict[str, Any], sides: tuple[str, str]) -> None:
    here = fit_map(X, Y, map="ridge", seed=3)
    assert own.card.digest == here.card.digest
    assert own.card.evaluation == here.card.evaluation
    assert (own.card.a.id, own.card.a.model, own.card.b.model) == (sides[0], "old-model", "new-model")
    assert own.card.a.digest == here.card.a.digest
    assert stored["model_card"]["digest"] == here.card.digest
    assert stored["name"] == "ridge old to new"


def test_a_map_can_be_read_and_listed_by_name(busy_client: httpx2.Client, stored: dict[str, Any]) -> None:
    assert busy_client.get(stored["links"]["self"]).json() == stored
    listed = busy_client.get("/v1/maps", params={"name": "ridge old to new"}).json()["data"]
    assert stored in listed


@pytest.mark.parametrize("choice", SMALL, ids=str)
def test_vectors_are_translated_as_by_the_library(
    busy_client: httpx2.Client, sides: tuple[str, str], choice: object
) -> None:
    made = ask(busy_client, sides, map=choice).json()["result"]
    answer = busy_client.post(made["links"]["apply"], json={"vectors": X[:3].tolist()})
    assert answer.status_code == 200, answer.text
    assert np.array(answer.json()["vectors"]) == pytest.approx(fit_map(X, Y, map=choice).apply(X[:3]), abs=1e-6)


def test_a_single_vector_is_translated(busy_client: httpx2.Client, stored: dict[str, Any], own: Map) -> None:
    answer = busy_client.post(stored["links"]["apply"], json={"vectors": [[1] * 8], "model": "old-model"}).json()
    assert np.array(answer["vectors"]) == pytest.approx(own.apply(np.ones((1, 8))), abs=1e-6)


def test_a_set_is_translated_by_a_job_into_a_new_set(
    busy_client: httpx2.Client, busy_server: Server, stored: dict[str, Any], sides: tuple[str, str], own: Map
) -> None:
    body = {"embedding": sides[0], "name": "translated"}
    job = busy_client.post(stored["links"]["apply"], json=body, headers={"prefer": "wait=60"}).json()
    assert (job["kind"], job["status"]) == ("translation", "succeeded"), job
    made = job["result"]["embedding"]
    assert (made["name"], made["n"], made["layers"][0]["dim"]) == ("translated", 120, 8)
    assert made["metadata"] == {"map": stored["id"], "source": sides[0], "model": "new-model"}
    (blob,) = busy_server.folder.glob(f"layers/*/{made['layers'][0]['digest']}")
    assert np.array_equal(np.frombuffer(blob.read_bytes(), "<f4").reshape(120, 8), own.apply(X))
    again = busy_client.post(stored["links"]["apply"], json=body, headers={"prefer": "wait=60"}).json()
    assert again["result"]["embedding"]["id"] == made["id"]


def test_a_set_of_another_model_fails_the_job(
    busy_client: httpx2.Client, stored: dict[str, Any], sides: tuple[str, str]
) -> None:
    answer = busy_client.post(stored["links"]["apply"], json={"embedding": sides[1]}, headers={"prefer": "wait=60"})
    assert answer.json()["status"] == "failed"
    assert "takes vectors of the model old-model; got vectors of new-model" in answer.json()["error"]["detail"]


def test_an_uploaded_map_is_stored_once(client: httpx2.Client, tmp_path: Path) -> None:
    fit_map(X, Y, map={"kind": "mlp", "epochs": 2, "hidden": 16}).save(tmp_path / "map.safetensors")
    data = (tmp_path / "map.safetensors").read_bytes()
    answer = client.post("/v1/maps", params={"name": "mine"}, content=data, headers={"content-type": MAP_TYPE})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["name"], answer.headers["location"]) == ("mine", made["links"]["self"])
    assert client.get(made["links"]["file"]).content == data
    again = client.post("/v1/maps", params={"name": "mine"}, content=data, headers={"content-type": MAP_TYPE})
    assert (again.status_code, again.json()) == (200, made)
    vectors = client.post(made["links"]["apply"], json={"vectors": X[:2].tolist()}).json()["vectors"]
    assert np.array(vectors) == pytest.approx(load_map(tmp_path / "map.safetensors").apply(X[:2]), abs=1e-5)


def test_an_invalid_map_file_stores_nothing(client: httpx2.Client, server: Server, tmp_path: Path) -> None:
    fit_map(X, Y).save(tmp_path / "map.safetensors")
    data = bytearray((tmp_path / "map.safetensors").read_bytes())
    data[-1] ^= 1
    before = server.contents()
    for body in (bytes(data), bytes(data[:-9]), b"", npy(X)):
        answer = client.post("/v1/maps", content=body, headers={"content-type": MAP_TYPE})
        assert_problem(answer, 422 if answer.status_code == 422 else 400, "unreadable-file")
    assert server.contents() == before


def test_an_impossible_map_is_refused_at_once(client: httpx2.Client, server: Server) -> None:
    a, b = upload(client, X)["id"], upload(client, rows(60))["id"]
    before = server.contents()
    sides = {"a": {"embedding": a}, "b": {"embedding": b}}
    assert_problem(client.post("/v1/maps", json=sides), 422, "unpaired-sides", pointer="/b")
    same = {"a": {"embedding": a}, "b": {"embedding": a}}
    for fields, code, pointer in (
        ({"map": {"kind": "low_rank", "rank": 9}}, "invalid-request", "/map/rank"),
        ({"map": {"kind": "relative", "anchors": 200}}, "invalid-request", "/map/anchors"),
        ({"map": "rigde"}, "invalid-request", None),
        ({"test_share": 0.7}, "invalid-request", "/test_share"),
        ({"layers": "7"}, "unknown-layer", "/layers/a"),
    ):
        members = {"pointer": pointer} if pointer else {}
        assert_problem(client.post("/v1/maps", json={**same, **fields}), 422, code, **members)
    unknown = {**same, "b": {"embedding": "emb_" + "0" * 32}}
    assert_problem(client.post("/v1/maps", json=unknown), 404, "not-found", pointer="/b/embedding")
    assert server.contents() == before


def test_a_dry_run_returns_the_cost_of_a_map(client: httpx2.Client, server: Server) -> None:
    a = upload(client, X)["id"]
    before = server.contents()
    plan = client.post("/v1/maps?dry_run=true", json={"a": {"embedding": a}, "b": {"embedding": a}}).json()
    assert (plan["n"], plan["dim_a"], plan["dim_b"]) == (120, 8, 8)
    assert plan["flops"] > 0
    assert server.contents() == before


def test_invalid_vectors_are_refused(busy_client: httpx2.Client, stored: dict[str, Any]) -> None:
    place = stored["links"]["apply"]
    for body, code, pointer in (
        ({"vectors": [[1.0] * 7]}, "invalid-shape", "/vectors"),
        ({"vectors": [[1.0] * 8, [1.0]]}, "invalid-shape", "/vectors/1"),
        ({"vectors": []}, "invalid-shape", "/vectors"),
        ({"vectors": [[1.0] * 7 + ["x"]]}, "unsupported-dtype", "/vectors/0/7"),
        ({"vectors": [[1e300] * 8]}, "non-finite-values", "/vectors/0/0"),
        ({"vectors": [[1.0] * 8], "model": "other"}, "invalid-request", "/model"),
        ({"vectors": [[1.0] * 8] * 140_000}, "too-large", "/vectors"),
        ({}, "invalid-request", ""),
    ):
        answer = busy_client.post(place, json=body)
        status = 413 if code == "too-large" else 422
        assert_problem(answer, status, code, **({"pointer": pointer} if pointer else {}))
    assert_problem(
        busy_client.post(place, content='{"vectors": [[NaN]]}', headers={"content-type": "application/json"}),
        422,
        "invalid-request",
    )


def test_a_set_of_another_dimension_or_layer_is_refused_at_once(
    busy_client: httpx2.Client, stored: dict[str, Any], sides: tuple[str, str]
) -> None:
    wide = upload(busy_client, rows(20, 9))["id"]
    place = stored["links"]["apply"]
    assert_problem(busy_client.post(place, json={"embedding": wide}), 422, "invalid-request", pointer="/embedding")
    answer = busy_client.post(place, json={"embedding": sides[0], "layer": "7"})
    problem = assert_problem(answer, 422, "unknown-layer", pointer="/layer")
    assert problem["detail"] == "The set has no layer '7'."


def test_a_set_cannot_be_deleted_while_a_map_job_needs_it(client: httpx2.Client) -> None:
    a = upload(client, rows(50, seed=9))["id"]
    job = client.post("/v1/maps", json={"a": {"embedding": a}, "b": {"embedding": a}}).json()
    assert job["status"] == "queued"
    assert_problem(client.delete(f"/v1/embeddings/{a}"), 409, "in-use")
    client.post(job["links"]["cancel"])
    assert client.delete(f"/v1/embeddings/{a}").status_code == 204


def test_a_map_cannot_be_deleted_while_a_translation_needs_it(client: httpx2.Client) -> None:
    content = b"".join(dump_map(fit_map(X, X, map="procrustes").file()))
    kept = client.post("/v1/maps?name=held", content=content, headers={"content-type": MAP_TYPE}).json()
    job = client.post(kept["links"]["apply"], json={"embedding": upload(client, X)["id"]}).json()
    assert job["status"] == "queued"
    detail = assert_problem(client.delete(kept["links"]["self"]), 409, "in-use", value=kept["id"])["detail"]
    assert job["id"] in detail
    client.post(job["links"]["cancel"])
    assert client.delete(kept["links"]["self"]).status_code == 204


def with_card(**changes: Any) -> bytes:
    """Return the file of a map with another model card."""
    file = fit_map(X, X, map="procrustes").file()
    return b"".join(dump_map(replace(file, card=file.card.model_copy(update=changes))))


def test_an_oversized_model_card_is_refused(client: httpx2.Client, server: Server) -> None:
    side, deep = fit_map(X, X, map="procrustes").file().card.b, {}
    for _ in range(40):
        deep = {"deeper": deep}
    before = server.contents()
    for changes, status, pointer in (
        ({"metadata": {"x": "y" * 9000}}, 413, "/card/metadata"),
        ({"metadata": {"x": "\0"}}, 422, "/card/metadata"),
        ({"metadata": deep}, 422, "/card/metadata"),
        ({"b": side.model_copy(update={"model": "m" * 9000})}, 413, "/card/b"),
        ({"b": side.model_copy(update={"name": "\0"})}, 422, "/card/b"),
        ({"warnings": ("w" * 1000,) * 70}, 413, "/card"),
    ):
        answer = client.post("/v1/maps", content=with_card(**changes), headers={"content-type": MAP_TYPE})
        assert_problem(answer, status, "too-large" if status == 413 else "invalid-request", pointer=pointer)
    assert server.contents() == before


def test_the_largest_model_card_of_a_fit_is_accepted(client: httpx2.Client) -> None:
    file = fit_map(X, Y, map="mlp", recall_at=tuple(range(1, 17)), metadata={"x": "y" * 8000}).file()
    assert len(file.card.model_dump_json()) < MODEL_CARD_LIMIT_BYTES / 2
    answer = client.post("/v1/maps?name=long", content=b"".join(dump_map(file)), headers={"content-type": MAP_TYPE})
    assert answer.status_code == 201, answer.text
    client.delete(answer.json()["links"]["self"])


def test_an_interrupted_training_stores_no_map(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    # Given a training that takes a while
    mlp = {"kind": "mlp", "hidden": 256, "epochs": 12, "patience": 12, "batch": 32}
    x = rows(3000, 16, seed=5)
    with (
        running_service(tmp_path_factory.mktemp("cut"), f"{redis_server}?db=9", beat_s=0.2) as server,
        httpx2.Client(base_url=server.url, timeout=60) as client,
        running_beside(server, "workers") as worker,
    ):
        a, b = ({"embedding": upload(client, each)["id"]} for each in (x, np.tanh(x)))

        def begin(name: str, **changes: Any) -> dict[str, Any]:
            answer = client.post("/v1/maps", json={"a": a, "b": b, "map": {**mlp, **changes}, "name": name})
            job: dict[str, Any] = answer.json()
            wait_for(lambda: trains(job), timeout_s=60)
            assert client.get("/v1/maps").json()["data"] == []
            return job

        def trains(job: dict[str, Any]) -> bool:
            progress = client.get(job["links"]["self"]).json()["progress"]
            return progress is not None and progress["stage"] == "epochs" and progress["done"] >= 2

        # When one is canceled
        canceled = begin("canceled", epochs=10_000, patience=10_000)
        client.post(canceled["links"]["cancel"])
        wait_for(lambda: client.get(canceled["links"]["self"]).json()["status"] == "canceled", timeout_s=20)

        # And the process of another is killed
        killed = begin("killed")
        (process,) = psutil.Process(worker.pid).children()
        process.kill()
        finished = client.get(killed["links"]["self"], headers={"prefer": "wait=60"}).json()

        # Then the one that ran again is there, once, and the canceled one is not
        assert [run["ended"] for run in finished["runs"]] == ["crashed", "succeeded"]
        assert [each["name"] for each in client.get("/v1/maps").json()["data"]] == ["killed"]


def test_a_deleted_map_is_not_found(busy_client: httpx2.Client, busy_server: Server, sides: tuple[str, str]) -> None:
    before = busy_server.contents()["files"]
    made = ask(busy_client, sides, map="procrustes", seed=99, name="short-lived").json()["result"]
    assert busy_server.contents()["files"] != before
    assert busy_client.delete(made["links"]["self"]).status_code == 204
    assert busy_server.contents()["files"] == before
    for method, place in (("GET", "self"), ("GET", "file"), ("DELETE", "self")):
        assert_problem(busy_client.request(method, made["links"][place]), 404, "not-found")
    body = {"vectors": X[:1].tolist()}
    assert_problem(busy_client.post(made["links"]["apply"], json=body), 404, "not-found")
    assert_problem(busy_client.post(f"/v1/maps/{UNKNOWN}/apply", json=body), 404, "not-found")
