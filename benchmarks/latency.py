"""Latency from one POST of two (1024, 768) float32 files to a score, and the part of it that is not computing.

"New files" are never seen before: both graphs are built. "Known files" have been scored before: the graphs come out of the
cache. Not computing is the time from POST to the finished job less the document's own `timings_s`. "Default" asks for
mutual_knn and cka with nulls and intervals.
"""

import io
import json
import time
from collections.abc import Iterator
from statistics import median

import httpx2
import numpy as np

from tests.serving import serve

ROWS, DIM = 1024, 768
ROUNDS = 30
WARM_UP = 3


def measure() -> dict[str, object]:
    """Median and 95th percentile in milliseconds, for both kinds of files and for reading alone."""
    with serve() as service, httpx2.Client(base_url=service.url, timeout=60) as http:
        pairs = list(make_pairs(ROUNDS + WARM_UP))
        new = [_score(http, *pair) for pair in pairs][WARM_UP:]
        known = [_score(http, *pair) for pair in pairs][WARM_UP:]
    return {"rows": ROWS, "dim": DIM, "rounds": ROUNDS, "new_files": _summarise(new), "known_files": _summarise(known)}


def make_pairs(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Pairs of npy files that share a part of their values, each pair with other values."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        latent = rng.normal(size=(ROWS, DIM))
        yield tuple(_npy(latent + rng.normal(size=(ROWS, DIM))) for _ in range(2))  # type: ignore[misc]  # two sides


def _npy(rows: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, rows.astype(np.float32))
    return out.getvalue()


def _score(http: httpx2.Client, a: bytes, b: bytes) -> tuple[float, float]:
    """Milliseconds from POST to the finished job, and those of them spent computing."""
    started = time.perf_counter()
    files = {
        "a": ("a.npy", a, "application/x-npy"),
        "b": ("b.npy", b, "application/x-npy"),
        "request": (None, json.dumps({}), "application/json"),
    }
    answer = http.post("/v1/alignments", files=files, headers={"Prefer": "wait=30"})
    answer.raise_for_status()
    job = answer.json()
    if job["status"] != "succeeded":
        raise SystemExit(f"the job ended as {job['status']}: {job['error']}")
    elapsed = time.perf_counter() - started
    return elapsed * 1000, sum(job["result"]["timings_s"].values()) * 1000


def _summarise(rounds: list[tuple[float, float]]) -> dict[str, float]:
    total = sorted(total for total, _ in rounds)
    overhead = sorted(total - computing for total, computing in rounds)
    return {
        "post_to_score_p50_ms": round(median(total), 1),
        "post_to_score_p95_ms": round(total[int(0.95 * len(total))], 1),
        "computing_p50_ms": round(median(computing for _, computing in rounds), 1),
        "not_computing_p50_ms": round(median(overhead), 1),
        "not_computing_p95_ms": round(overhead[int(0.95 * len(overhead))], 1),
    }
