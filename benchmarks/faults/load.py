"""Clients that keep a service busy, retry without end, and record every accepted job."""

import io
import threading
import time
import uuid
from collections import defaultdict
from typing import Any

import httpx2
import numpy as np

#: What a client tries again after: the service or its store is away, and says so.
AGAIN = {429, 500, 502, 503, 507}
#: A client gives a request up after this.
PATIENCE_S = 90.0
#: Half a second of computing that is never cached, since each has a seed of its own; and next to nothing.
SLOW = {"metrics": ["rsa"], "null": {"method": "permutation", "permutations": 100}}
FAST = {"metrics": ["cka"], "null": {"method": "none"}, "interval": None}
SLOW_ROWS, FAST_ROWS = (2000, 32), (64, 8)


class Load:
    """Clients of a service. `accepted` has the accepted jobs, `surprises` unexpected responses."""

    def __init__(self, url: str) -> None:
        self.accepted: dict[str, set[str]] = defaultdict(set)
        """Job ids that were returned for each idempotency key: there must be one."""
        self.surprises: list[str] = []
        self.retries = 0
        self._url = url
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        with httpx2.Client(base_url=url, timeout=30) as client:
            self.slow, self.fast = (self.upload(client, shape) for shape in (SLOW_ROWS, FAST_ROWS))

    def upload(self, client: httpx2.Client, shape: tuple[int, int], seed: int = 0) -> str:
        """Store a set of random rows, with retries."""
        out = io.BytesIO()
        np.save(out, np.random.default_rng(seed).standard_normal(shape).astype(np.float32))
        answer = self.insist(
            client,
            "/v1/embeddings",
            content=out.getvalue(),
            params={"name": f"seed {seed}"},
            headers={"content-type": "application/x-npy"},
        )
        return str(answer["id"])

    def submit(self, client: httpx2.Client, embedding: str, options: dict[str, Any], seed: int) -> str:
        """Submit a job, with retries, and return its id."""
        key = uuid.uuid4().hex
        body = {"a": {"embedding": embedding}, "b": {"embedding": embedding}, "seed": seed, **options}
        job = self.insist(client, "/v1/alignments", json=body, headers={"idempotency-key": key})
        self.accepted[key].add(job["id"])
        return str(job["id"])

    def insist(self, client: httpx2.Client, path: str, **request: Any) -> dict[str, Any]:
        """Send a request until it is accepted; any response except 429 and 503 is a surprise."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                answer = client.post(path, **request)
            except httpx2.TransportError:
                pass
            else:
                if answer.is_success:
                    return dict(answer.json())
                if answer.status_code == 500 or answer.status_code not in AGAIN:
                    self.surprises.append(f"{answer.status_code}: {answer.text[:300]}")
                if answer.status_code not in AGAIN:
                    raise SystemExit(f"the service refuses what it should take: {answer.text}")
            self.retries += 1
            time.sleep(0.1)
        raise SystemExit("the service did not come back")

    def start(self, clients: int = 3, window: int = 4) -> None:
        """Start the clients; each has up to `window` unfinished jobs."""
        for number in range(clients):
            thread = threading.Thread(target=self._work, args=(number, window), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Let every client finish its request."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _work(self, number: int, window: int) -> None:
        under_way: list[str] = []
        seed = number << 32
        with httpx2.Client(base_url=self._url, timeout=10) as client:
            while not self._stopping.is_set():
                seed += 1
                embedding, options = (self.slow, SLOW) if seed % 5 == 0 else (self.fast, FAST)
                under_way.append(self.submit(client, embedding, options, seed))
                while len(under_way) >= window and not self._stopping.is_set():
                    under_way = [each for each in under_way if not self._finished(client, each)]
                    time.sleep(0.1)

    def _finished(self, client: httpx2.Client, job_id: str) -> bool:
        try:
            answer = client.get(f"/v1/jobs/{job_id}")
        except httpx2.TransportError:
            return False
        if answer.status_code == 404:
            self.surprises.append(f"404 for {job_id}, which was accepted")
            return True
        return bool(answer.is_success and answer.json()["finished_at"])
