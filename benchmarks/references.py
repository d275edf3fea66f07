"""Request of a training loop: one POST of a new (1024, 768) float32 matrix against a reference set of 20, to the rank.

Every matrix is new: its graph and its kernel are made. The reference set is warm: an earlier call has found the graphs and
kernels of its members and their scores against each other. The time is that of the caller, from the first byte sent to the last
byte of the finished job read (`Prefer: wait`); not computing is what is left of it beside the document's own `timings_s`.
"Default" asks for mutual_knn and cka with nulls and intervals. "Cold" is the first call of all.
"""

import io
import json
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import httpx2
import numpy as np

from tests.serving import serve

ROWS, DIM, MEMBERS = 1024, 768, 20
ROUNDS, WARM_UP = 40, 3
REQUESTS: dict[str, dict[str, Any]] = {"default": {}, "mutual_knn": {"metrics": "mutual_knn"}}


def measure() -> dict[str, object]:
    """Median and 95th percentile in milliseconds of each kind of request, and of the twenty alignments that it replaces."""
    with serve() as service, httpx2.Client(base_url=service.url, timeout=120) as http:
        matrices = _matrices()
        members = [_upload(http, next(matrices)) for _ in range(MEMBERS)]
        body = {"name": "released", "embeddings": members}
        reference = http.post("/v1/references", json=body).raise_for_status().json()["id"]
        found: dict[str, object] = {"rows": ROWS, "dim": DIM, "members": MEMBERS, "rounds": ROUNDS}
        for name, options in REQUESTS.items():
            cold, _ = _score(http, next(matrices), reference, options)
            rounds = [_score(http, next(matrices), reference, options) for _ in range(WARM_UP + ROUNDS)][WARM_UP:]
            found[name] = {**_summarise(rounds), "cold_ms": round(cold, 1)}
        found["as_alignments_ms"] = round(_score_singly(http, next(matrices), members), 1)
    return found


def _matrices() -> Iterator[bytes]:
    """Models that share half of what they are."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(ROWS, DIM))
    while True:
        out = io.BytesIO()
        np.save(out, (latent + rng.normal(size=(ROWS, DIM))).astype(np.float32))
        yield out.getvalue()


def _upload(http: httpx2.Client, matrix: bytes) -> str:
    answer = http.post("/v1/embeddings", content=matrix, headers={"content-type": "application/x-npy"})
    return str(answer.raise_for_status().json()["id"])


def _score(http: httpx2.Client, matrix: bytes, reference: str, options: dict[str, Any]) -> tuple[float, float]:
    """Milliseconds from POST to the finished job, and those of them spent computing."""
    request = json.dumps({"b": {"reference": reference}, **options})
    files = {"a": ("a.npy", matrix, "application/x-npy"), "request": (None, request, "application/json")}
    started = time.perf_counter()
    job = _finished(http.post("/v1/alignments", files=files, headers={"Prefer": "wait=60"}))
    elapsed = time.perf_counter() - started
    result = job["result"]["ranks"][0]
    if not 1 <= result["rank"] <= result["n_ranked"] == MEMBERS + 1:
        raise SystemExit(f"no rank: {result}")
    return elapsed * 1000, sum(job["result"]["timings_s"].values()) * 1000


def _score_singly(http: httpx2.Client, matrix: bytes, members: list[str]) -> float:
    """Milliseconds of an upload and one alignment with each member, one after the other."""
    started = time.perf_counter()
    model = _upload(http, matrix)
    for member in members:
        body = {"a": {"embedding": model}, "b": {"embedding": member}}
        _finished(http.post("/v1/alignments", json=body, headers={"Prefer": "wait=60"}))
    return (time.perf_counter() - started) * 1000


def _finished(answer: httpx2.Response) -> dict[str, Any]:
    job: dict[str, Any] = answer.raise_for_status().json()
    if job["status"] != "succeeded":
        raise SystemExit(f"the job ended as {job['status']}: {job['error']}")
    return job


def _summarise(rounds: list[tuple[float, float]]) -> dict[str, float]:
    total = sorted(total for total, _ in rounds)
    return {
        "post_to_rank_p50_ms": round(median(total), 1),
        "post_to_rank_p95_ms": round(total[int(0.95 * len(total))], 1),
        "computing_p50_ms": round(median(computing for _, computing in rounds), 1),
        "not_computing_p50_ms": round(median(total - computing for total, computing in rounds), 1),
    }
