"""A 2 GB upload: how far it lifts the API's resident memory above idle, raw and as multipart, and how fast it is."""

import json
import struct
import threading
import time
from collections.abc import Iterator

import httpx2
import numpy as np
import psutil

from tests.serving import serve

ROWS, DIM = 1_000_000, 512
CHUNK_ROWS = 8192


def measure() -> dict[str, object]:
    """Megabytes above idle at the peak, and megabytes a second, for both ways to upload."""
    results: dict[str, object] = {"bytes": ROWS * DIM * 4}
    with serve() as service, httpx2.Client(base_url=service.url, timeout=300) as http:
        process = psutil.Process(service.child("service").pid)
        http.post("/v1/embeddings", content=b"".join(_npy(64, seed=9)), headers=_TYPE).raise_for_status()
        results["idle_mb"] = round(process.memory_info().rss / 1e6, 1)
        results["raw"] = _watch(process, lambda: http.post("/v1/embeddings", content=_npy(ROWS, 0), headers=_TYPE))
        results["multipart"] = _watch(
            process, lambda: http.post("/v1/embeddings", content=_multipart(_npy(ROWS, 1)), headers=_MULTIPART)
        )
    return results


_TYPE = {"Content-Type": "application/x-npy"}
_MULTIPART = {"Content-Type": "multipart/form-data; boundary=frontier"}


def _npy(rows: int, seed: int) -> Iterator[bytes]:
    """Generate an npy file of random rows while it is sent."""
    header = json.dumps({"descr": "<f4", "fortran_order": False, "shape": [rows, DIM]})
    text = header.replace("false", "False").replace("[", "(").replace("]", ")").replace('"', "'")
    text += " " * (-(len(text) + 11) % 64) + "\n"
    yield b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()
    rng = np.random.default_rng(seed)
    for start in range(0, rows, CHUNK_ROWS):
        yield rng.random((min(CHUNK_ROWS, rows - start), DIM), dtype=np.float32).tobytes()


def _multipart(file: Iterator[bytes]) -> Iterator[bytes]:
    yield b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="x.npy"\r\n'
    yield b"Content-Type: application/x-npy\r\n\r\n"
    yield from file
    yield b"\r\n--frontier--\r\n"


def _watch(process: psutil.Process, send: object) -> dict[str, float]:
    idle, peak, done = process.memory_info().rss, 0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, process.memory_info().rss)

    sampler = threading.Thread(target=sample)
    sampler.start()
    started = time.perf_counter()
    send().raise_for_status()  # type: ignore[operator]  # a call of httpx2
    seconds = time.perf_counter() - started
    done.set()
    sampler.join()
    return {"above_idle_mb": round((peak - idle) / 1e6, 1), "mb_per_s": round(ROWS * DIM * 4 / 1e6 / seconds)}
