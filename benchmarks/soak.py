"""A service at saturation for some minutes: does it stay as fast, and as small, as it was after the first.

`python -m benchmarks.soak [minutes]` (10 by default): `consilience serve` with one worker, eight clients that submit small jobs
and poll them without a pause. Every minute has its throughput; memory is that of each process after one minute and at the end.
"""

import io
import json
import sys
import threading
import time
from pathlib import Path
from statistics import quantiles

import httpx2
import numpy as np
import psutil

from tests.serving import Serve, serve

OUT = Path("out") / "soak.json"
CLIENTS = 8
WINDOW = 8
SETS = 20
OPTIONS = {"metrics": ["mutual_knn", "cka"]}


class Soak:
    """Clients, and what they measured: seconds of each POST and poll, and when each job was over."""

    def __init__(self, url: str) -> None:
        self.posts: list[float] = []
        self.polls: list[float] = []
        self.ends: list[float] = []
        self.wrong: list[str] = []
        self._url = url
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(CLIENTS)]
        with httpx2.Client(base_url=url, timeout=60) as client:
            self._sets = [_upload(client, seed) for seed in range(SETS)]

    def run(self, seconds: float) -> None:
        """Begin, if not begun, and go on for so long."""
        for thread in self._threads:
            if not thread.is_alive():
                thread.start()
        time.sleep(seconds)

    def stop(self) -> None:
        """Let every client finish its request."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _work(self, number: int) -> None:
        rng, waiting = np.random.default_rng(number), []
        with httpx2.Client(base_url=self._url, timeout=60) as client:
            while not self._stopping.is_set():
                if len(waiting) < WINDOW:
                    waiting.append(
                        self._post(
                            client, *(self._sets[i] for i in rng.integers(0, SETS, 2)), seed=int(rng.integers(2**40))
                        )
                    )
                waiting = [job_id for job_id in waiting if not self._poll(client, job_id)]

    def _post(self, client: httpx2.Client, a: str, b: str, seed: int) -> str:
        began = time.perf_counter()
        answer = client.post(
            "/v1/alignments", json={"a": {"embedding": a}, "b": {"embedding": b}, "seed": seed, **OPTIONS}
        )
        self.posts.append(time.perf_counter() - began)
        answer.raise_for_status()
        return str(answer.json()["id"])

    def _poll(self, client: httpx2.Client, job_id: str) -> bool:
        began = time.perf_counter()
        job = client.get(f"/v1/jobs/{job_id}").raise_for_status().json()
        self.polls.append(time.perf_counter() - began)
        if job["status"] == "succeeded":
            self.ends.append(time.monotonic())
        elif job["finished_at"]:
            self.wrong.append(f"{job['status']}: {job['error']}")
        return bool(job["finished_at"])


def measure(minutes: float = 10.0) -> dict[str, object]:
    """Throughput by the minute, 50th and 99th percentiles in milliseconds, megabytes of each process."""
    with serve() as service:
        soak = Soak(service.url)
        began = time.monotonic()
        soak.run(min(60.0, 30.0 * minutes))
        early = _memory(service)
        soak.run(began + 60.0 * minutes - time.monotonic())
        late = _memory(service)
        soak.stop()
    by_minute = [sum(1 for end in soak.ends if int((end - began) // 60) == minute) for minute in range(int(minutes))]
    return {
        "minutes": minutes,
        "clients": CLIENTS,
        "jobs": len(soak.ends),
        "failed": soak.wrong,
        "jobs_by_minute": by_minute,
        "post_ms": _percentiles(soak.posts),
        "poll_ms": _percentiles(soak.polls),
        "megabytes_after_a_minute": early,
        "megabytes_at_the_end": late,
        "load_of_the_machine": psutil.getloadavg(),
    }


def _memory(service: Serve) -> dict[str, float]:
    """Of `consilience serve` and each of its children, by their names; a worker's job processes come and go."""
    parent = psutil.Process(service.process.pid)
    found = {"serve": parent.memory_info().rss}
    for child in parent.children():
        name = Path(child.exe()).name
        name = child.cmdline()[-1] if name.startswith("python") else name
        while name in found:
            name += "'"
        found[name] = child.memory_info().rss
    return {name: round(resident / 1e6, 1) for name, resident in found.items()}


def _percentiles(seconds: list[float]) -> dict[str, float]:
    cuts = quantiles(seconds, n=100)
    return {"count": len(seconds), "p50": round(cuts[49] * 1000, 1), "p99": round(cuts[98] * 1000, 1)}


def _upload(client: httpx2.Client, seed: int) -> str:

    out = io.BytesIO()
    np.save(out, np.random.default_rng(seed).standard_normal((256, 64)).astype(np.float32))
    answer = client.post("/v1/embeddings", content=out.getvalue(), headers={"content-type": "application/x-npy"})
    return str(answer.raise_for_status().json()["id"])


if __name__ == "__main__":
    figures = measure(*map(float, sys.argv[1:]))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
