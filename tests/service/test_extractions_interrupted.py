"""Resumption of killed extractions and cancellation of running ones."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import numpy as np
import psutil
import pytest

from consilience.stores.blobs import BlobStore
from tests.service.servers import Server, running_beside, running_service
from tests.workers.harness import wait_for

N = 1100
BLOCK = 256


@dataclass
class SlowModel:
    """Slow embedding server that counts its requests."""

    pause_s: float = 0.05
    texts: list[str] = field(default_factory=list)

    def row(self, text: str) -> list[float]:
        return [float(len(text)), float(sum(text.encode()) % 997), 1.0]


@contextmanager
def serving(model: SlowModel) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            texts = json.loads(self.rfile.read(int(self.headers["content-length"])))["input"]
            time.sleep(model.pause_s)
            model.texts += texts
            data = [{"index": place, "embedding": model.row(text)} for place, text in enumerate(texts)]
            body = json.dumps({"data": data, "model": "slow"}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


@dataclass(frozen=True)
class House:
    """Service with a worker that runs models, and a slow model."""

    client: httpx2.Client
    server: Server
    worker: psutil.Process
    model: SlowModel
    wish: dict[str, Any]

    def begin(self, view: str) -> str:
        answer = self.client.post("/v1/embeddings", json={**self.wish, "view": view})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = self.client.get(f"/v1/jobs/{job_id}").json()
        return job

    def embedded(self, job_id: str) -> int:
        """Number of items in finished blocks."""
        progress = self.job(job_id)["progress"] or {"stage": "", "done": 0}
        return int(progress["done"]) if progress["stage"] == "embedding" else 0

    def process(self) -> psutil.Process:
        (horse,) = self.worker.children()
        return horse


@pytest.fixture(scope="module")
def house(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder, model = tmp_path_factory.mktemp("interrupted"), SlowModel()
    items = "\n".join(json.dumps({"id": f"item {i}", "one": f"first {i}", "two": f"second {i}"}) for i in range(N))
    with serving(model) as url:
        endpoints = json.dumps({"slow": {"url": url, "model": "slow", "batch": 64}})
        settings = {"queue": "extract", "model_endpoints": endpoints}
        with (
            running_service(folder, f"{redis_server}?db=6", **settings) as server,
            running_beside(server, "workers") as worker,
            httpx2.Client(base_url=server.url, timeout=30) as client,
        ):
            stored = client.post("/v1/datasets", content=items, headers={"content-type": "application/jsonl"})
            assert stored.status_code == 201, stored.text
            wish = {"model": "endpoint:slow", "dataset": stored.json()["id"]}
            yield House(client, server, psutil.Process(worker.pid), model, wish)


def test_a_killed_extraction_resumes_at_the_last_finished_block(house: House) -> None:
    job_id = house.begin("one")
    wait_for(lambda: house.embedded(job_id) >= BLOCK, timeout_s=40)
    house.process().kill()
    wait_for(lambda: house.job(job_id)["status"] == "succeeded", timeout_s=40)

    job = house.job(job_id)
    assert [run["ended"] for run in job["runs"]] == ["crashed", "succeeded"]
    result = job["result"]
    assert result["resumed_at"] >= BLOCK
    assert result["resumed_at"] % BLOCK == 0
    # Each of the two runs asks one text to learn the model's dim; the block that was cut off is embedded again.
    asked = [text for text in house.model.texts if text.startswith("first")]
    assert N <= len(asked) <= N + BLOCK
    stored = house.client.get(f"/v1/embeddings/{result['embedding']}").json()
    rows = _read(house.server, stored)
    np.testing.assert_array_equal(rows, [house.model.row(f"first {i}") for i in range(N)])
    assert list(house.server.folder.glob("extracting/*")) == []


def test_a_canceled_extraction_stops_within_two_seconds_and_can_resume(house: House) -> None:
    job_id = house.begin("two")
    wait_for(lambda: house.embedded(job_id) >= BLOCK, timeout_s=40)
    process = house.process()
    began = time.monotonic()
    house.client.post(f"/v1/jobs/{job_id}/cancel")
    wait_for(lambda: house.job(job_id)["status"] == "canceled")
    assert time.monotonic() - began < 2.0
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE

    again = house.begin("two")
    wait_for(lambda: house.job(again)["status"] == "succeeded", timeout_s=40)
    assert house.job(again)["result"]["resumed_at"] >= BLOCK


def _read(server: Server, stored: dict[str, Any]) -> np.ndarray[Any, Any]:
    (layer,) = stored["layers"]
    kept = BlobStore(server.folder).locate(layer["digest"])
    assert kept is not None
    return np.frombuffer(kept.read_bytes(), np.float16).reshape(stored["n"], layer["dim"])
