"""Real services as processes, and helpers that observe them."""

import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

STARTUP_S = 20.0
#: Everything that a test decides itself; what the machine's environment says must not matter.
OWN_VARIABLES = "CONSILIENCE_"


@dataclass(frozen=True)
class Server:
    """A running service."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]
    environment: Mapping[str, str]
    log_path: Path

    def memory_bytes(self, kind: str) -> int:
        """Return the resident memory (VmRSS) or its peak (VmHWM)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{kind}:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]  # Linux always has the line

    def contents(self) -> dict[str, Any]:
        """Return everything that a request could leave behind: blobs, temporary files and rows."""
        files = {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}
        names = {"consilience.db", "consilience.db-wal", "consilience.db-shm", "layers.lock", "api.log"}
        with sqlite3.connect(self.folder / "consilience.db") as connection:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            rows = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}  # noqa: S608 - names from the schema
        connection.close()
        return {"files": sorted(files - names), "rows": rows}

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]


def environment_of(folder: Path, redis_url: str, **settings: object) -> dict[str, str]:
    """Return the environment of a service or a worker on this folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OWN_VARIABLES)}
    own = {
        "DATA_DIR": folder,
        "REDIS_URL": redis_url,
        "PORT": 0,
        **{key.upper(): value for key, value in settings.items()},
    }
    return inherited | {f"CONSILIENCE_{name}": str(value) for name, value in own.items()}


@contextmanager
def running_service(folder: Path, redis_url: str, **settings: object) -> Iterator[Server]:
    """Run `python -m service` on a free port until the context ends."""
    folder.mkdir(exist_ok=True)
    environment, log_path = environment_of(folder, redis_url, **settings), folder / "api.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "service"], env=environment, stderr=log)
    try:
        yield Server(_wait_for_address(process, log_path), folder, process, environment, log_path)
    finally:
        process.terminate()
        process.wait(timeout=15)


def _wait_for_address(process: subprocess.Popen[bytes], log_path: Path) -> str:
    deadline = time.monotonic() + STARTUP_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"Uvicorn running on (http://[0-9.:]+)", log_path.read_text()):
            return found[1]
        time.sleep(0.02)
    raise AssertionError(f"the service did not start:\n{log_path.read_text()}")


@contextmanager
def running_worker(server: Server) -> Iterator[None]:
    """Run `python -m workers` beside a service."""
    with running_beside(server, "workers"):
        yield


@contextmanager
def running_beside(server: Server, module: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run another process on the stores of a service."""
    process = subprocess.Popen([sys.executable, "-m", module], env=dict(server.environment), stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=15)


def npy(array: np.ndarray[Any, Any]) -> bytes:
    """Return an array as an npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def rows(n: int, dim: int = 8, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return random rows of shape (n, dim)."""
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def upload(client: httpx2.Client, array: np.ndarray[Any, Any], name: str = "test") -> dict[str, Any]:
    """Upload an array and return the set."""
    answer = client.post(
        "/v1/embeddings", params={"name": name}, content=npy(array), headers={"content-type": "application/x-npy"}
    )
    assert answer.status_code in {200, 201}, answer.text
    return answer.json()


def assert_problem(answer: httpx2.Response, status: int, code: str, **members: object) -> dict[str, Any]:
    """Assert that a response is this problem, and return its document."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    document: dict[str, Any] = answer.json()
    assert (answer.status_code, document["status"]) == (status, status), document
    assert document["type"] == f"https://consilience.dev/problems/{code}"
    assert document["title"]
    assert document["detail"].endswith((".", ")", "`?")), document["detail"]
    assert document["request_id"] == answer.headers["x-request-id"]
    for member, value in members.items():
        assert document.get(member) == value, document
    return document
