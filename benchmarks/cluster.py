"""One worker of one thread against two, on a real Dask cluster of processes on this machine.

Two sets of (24576, 768) float16 rows in a blob store, mutual_knn without an interval: both exact graphs, nothing from a cache.
The job's own process, which reads, merges and scores, shares the cores with the workers, as it does in service.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil

from consilience.contract.alignments import ScoringOptions
from consilience.contract.scores import ScoreDocument
from consilience.execution.parallel import open_executor
from consilience.formats.files import open_path
from consilience.metrics.graph_sources import FreshGraphs
from consilience.numerics.rows.sources import SideSource
from consilience.scoring import ignore_progress, score_sources
from consilience.stores.blobs import BlobStore
from tests.execution.clusters import Cluster

ROWS, DIM = 24_576, 768
ROUNDS = 3
OPTIONS = ScoringOptions.model_validate({"metrics": ["mutual_knn"], "interval": None})


def measure() -> dict[str, object]:
    """Best seconds of each, taking turns; and whether the documents are the same as this process's."""
    with TemporaryDirectory() as folder:
        sides = [_store(Path(folder), name, seed) for seed, name in enumerate("ab")]
        clusters = {count: _start(Path(folder) / str(count), count) for count in (1, 2)}
        rounds = [{count: _score(sides, cluster) for count, cluster in clusters.items()} for _ in range(ROUNDS + 1)]
        for cluster in clusters.values():
            cluster.close()
        alone = _score(sides, None)
    # The first round imports.
    one, two = (min((found[count] for found in rounds[1:]), key=lambda run: run.seconds) for count in (1, 2))
    documents = [found[count].document for found in rounds for count in clusters]
    return {
        "rows": ROWS,
        "dim": DIM,
        "rounds": ROUNDS,
        "one_worker_s": round(one.seconds, 3),
        "two_workers_s": round(two.seconds, 3),
        "two_over_one": round(two.seconds / one.seconds, 3),
        # What is left of the ratio on a machine that is not quiet: the busiest worker's share of the work.
        "one_worker_cpu_s": round(one.busiest_s, 3),
        "busiest_of_two_cpu_s": round(two.busiest_s, 3),
        "no_cluster_all_threads_s": round(alone.seconds, 3),
        "same_documents": all(document == alone.document for document in documents),
    }


def _store(folder: Path, name: str, seed: int) -> SideSource:
    rows = np.random.default_rng(seed).standard_normal((ROWS, DIM), np.float32).astype(np.float16)
    np.save(folder / f"{name}.npy", rows)
    blobs = BlobStore(folder / "data")
    with open_path(folder / f"{name}.npy") as file:
        return SideSource(name, [blobs.open(layer, ROWS) for layer in blobs.put(file)])


def _start(folder: Path, workers: int) -> Cluster:
    folder.mkdir()
    cluster = Cluster(folder)
    for _ in range(workers):
        cluster.start_worker()
    return cluster


@dataclass(frozen=True)
class Run:
    """One score: how long it took, the processor's seconds of the busiest worker, the document."""

    seconds: float
    busiest_s: float
    document: ScoreDocument


def _score(sides: list[SideSource], cluster: Cluster | None) -> Run:
    workers = [psutil.Process(worker.pid) for worker in cluster.workers] if cluster else []
    before = [_busy_s(worker) for worker in workers]
    started = time.perf_counter()
    with open_executor(cluster and cluster.address) as executor:
        document = score_sources(OPTIONS, *sides, FreshGraphs(), ignore_progress, executor=executor)
    seconds = time.perf_counter() - started
    busy = [_busy_s(worker) - earlier for worker, earlier in zip(workers, before, strict=True)]
    return Run(seconds, max(busy, default=0.0), document.model_copy(update={"timings_s": {}}))


def _busy_s(process: psutil.Process) -> float:
    spent = process.cpu_times()
    return float(spent.user + spent.system)


if __name__ == "__main__":
    import json

    print(json.dumps(measure(), indent=2))
