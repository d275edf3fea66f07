"""Print the modules that a request passes through, in order of first entry: `python -m benchmarks.trace`.

A real service is started in a scratch folder. Three requests are traced, each of them the second of its kind: a POST of two
files with its job (the API process, and the worker with the child process of the job), a poll of that job, and a call of
`score` in this process. A module counts if one of its functions is called, imports apart. The supervisor and the thread of the
reconciler do not count, since they work for no request.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import numpy as np

from benchmarks import trace_recorder
from benchmarks.latency import make_pairs
from consilience.scoring import score
from tests.serving import serve

POST, POLL, SCORE = 1, 2, 3
TITLES = {POST: "POST of two files and its job", POLL: "poll", SCORE: 'score(a, b, metrics="mutual_knn")'}
API, WORKER = "service", "workers"
#: Programs that take part in each request.
PROGRAMS = {POST: {API, WORKER}, POLL: {API}, SCORE: {sys.orig_argv[-1]}}
REQUEST = '{"metrics": "mutual_knn"}'
#: The API logs and counts a request after its answer has left.
LOG_DELAY_S = 0.2


@dataclass(frozen=True)
class Entry:
    """The first call into a module while a request was handled."""

    request: int
    at_ns: int
    program: str
    module: str


def main() -> None:
    """Trace each request and print its modules."""
    with tempfile.TemporaryDirectory(prefix="trace-") as scratch:
        folder = Path(scratch)
        (folder / "mark").write_bytes(b"\0")
        shutil.copy(trace_recorder.__file__, folder / "sitecustomize.py")
        answered_ns = _trace_service(folder)
        _trace_score(folder)
        entries = [_parse(line) for line in (folder / "log").read_text().splitlines()]
    for request, title in TITLES.items():
        # A poll is how this script finds that the job has ended: what the API enters after the answer is not the POST's.
        late = [each for each in entries if each.program == API and each.at_ns > answered_ns]
        taking_part = [each for each in entries if each.request == request and each.program in PROGRAMS[request]]
        _print(title, [each for each in taking_part if request != POST or each not in late])


def _trace_service(folder: Path) -> int:
    """Trace a POST and a poll. Return the time by which the POST was answered and logged."""
    paths = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    env = {"PYTHONPATH": paths, trace_recorder.FOLDER_VARIABLE: str(folder)}
    warm, traced = make_pairs(2)
    with serve(env=env) as service, httpx2.Client(base_url=service.url, timeout=60) as http:
        _poll_to_end(http, _post(http, *warm))
        with _marked(folder, POST):
            address = _post(http, *traced)
            time.sleep(LOG_DELAY_S)
            answered_ns = time.monotonic_ns()
            _poll_to_end(http, address)
        with _marked(folder, POLL):
            http.get(address).raise_for_status()
    return answered_ns


def _post(http: httpx2.Client, a: bytes, b: bytes) -> str:
    answer = http.post("/v1/alignments", files={"a": ("a.npy", a), "b": ("b.npy", b), "request": (None, REQUEST)})
    answer.raise_for_status()
    return str(answer.json()["links"]["self"])


def _poll_to_end(http: httpx2.Client, address: str) -> None:
    while (job := http.get(address).raise_for_status().json())["status"] in {"queued", "running"}:
        time.sleep(0.05)
    if job["status"] != "succeeded":
        raise SystemExit(f"the job ended as {job['status']}: {job['error']}")


def _trace_score(folder: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(1024, 64)).astype(np.float32) for _ in range(4)]
    trace_recorder.install(folder)
    score(arrays[0], arrays[1], metrics="mutual_knn")
    with _marked(folder, SCORE):
        score(arrays[2], arrays[3], metrics="mutual_knn")
    sys.setprofile(None)


@contextmanager
def _marked(folder: Path, request: int) -> Iterator[None]:
    """Record the calls of the block as those of one request, in all processes."""
    with (folder / "mark").open("r+b", buffering=0) as mark:
        mark.write(bytes([request]))
        yield
        time.sleep(LOG_DELAY_S)
        mark.seek(0)
        mark.write(b"\0")


def _parse(line: str) -> Entry:
    request, at_ns, program, module = line.split()
    return Entry(int(request), int(at_ns), program, module)


def _print(title: str, entries: list[Entry]) -> None:
    """Print each process's modules; those of the request are counted once, however many processes enter them."""
    print(f"{title}: {len({each.module for each in entries})} modules")
    for program in dict.fromkeys(each.program for each in entries):
        own = [each.module for each in entries if each.program == program]
        print(f"  {program}: {len(set(own))}")
        for module in dict.fromkeys(own):
            print(f"    {module}")


if __name__ == "__main__":
    main()
