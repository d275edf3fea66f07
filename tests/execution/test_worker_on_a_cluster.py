"""`python -m workers` as an operator starts it, with a cluster."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from consilience.contract.alignments import AlignmentRequest
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import JobStatus, Plan
from consilience.execution.alignment import run_alignment
from consilience.formats.files import open_path
from consilience.stores.blobs import BlobStore, set_digest
from consilience.stores.database import Database
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.graph_cache import DiskCache
from consilience.stores.jobs import JobRecords
from consilience.stores.queue import JobQueue
from tests.execution.clusters import Cluster, wait_for

PLAN = Plan(n=4, dim_a=1, dim_b=1, cells=1, flops=1.0, bytes=1, seconds=0.0)


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here."""
    return sqlite_url


def add_set(blobs: BlobStore, database: Database, seed: int, folder: Path) -> EmbeddingSet:
    rows = np.random.default_rng(seed).standard_normal((3000, 576)).astype(np.float16)
    np.save(folder / "upload.npy", rows)
    with open_path(folder / "upload.npy") as file:
        layers = blobs.put(file)
    return EmbeddingRecords(database).add("docs", 3000, layers, set_digest(layers), {}, 1)[0]


@pytest.fixture
def start(database_url: str, redis_url: str) -> Callable[..., subprocess.Popen[bytes]]:
    def start(data_dir: Path, cluster: Cluster) -> subprocess.Popen[bytes]:
        own = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "DATA_DIR": "data",
            "CLUSTER_URL": cluster.address.url,
        }
        if certificate := cluster.address.certificate:
            files = {"CA": certificate.ca_file, "CERT": certificate.cert_file, "KEY": certificate.key_file}
            own |= {f"CLUSTER_{name}_FILE": str(file) for name, file in files.items()}
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
        environment |= {f"CONSILIENCE_{name}": value for name, value in own.items()}
        command = [sys.executable, "-m", "workers"]
        return subprocess.Popen(command, env=environment, cwd=data_dir.parent, stderr=subprocess.PIPE)

    return start


def test_a_job_is_done_on_the_cluster_that_the_environment_names(
    cluster: Cluster,
    database: Database,
    redis_url: str,
    start: Callable[..., subprocess.Popen[bytes]],
    tmp_path: Path,
) -> None:
    blobs = BlobStore(tmp_path / "data")
    a, b = (add_set(blobs, database, seed, tmp_path) for seed in range(2))
    sides = {"a": {"embedding": a.id}, "b": {"embedding": b.id}}
    request = AlignmentRequest.model_validate({**sides, "metrics": ["mutual_knn"]})
    jobs, queue, clients = JobRecords(database), JobQueue(redis_url), cluster.log().count("Receive client connection")
    job_id = jobs.add("alignment", request.model_dump(mode="json"), PLAN, [a.id, b.id]).job.id
    queue.push(job_id, 1, 60)
    with start(tmp_path / "data", cluster) as worker:
        try:
            wait_for(lambda: jobs.get(job_id).finished, timeout_s=60)
        finally:
            worker.terminate()
            queue.close()
    job = jobs.get(job_id)
    assert job.status is JobStatus.SUCCEEDED, job.error
    assert cluster.log().count("Receive client connection") == clients + 1
    here = run_alignment(request, a, b, blobs, DiskCache(tmp_path / "data", 0), report=lambda *_: None)
    assert job.result
    assert job.result.scores == here.scores
