"""`python -m workers` as an operator starts it, with the real task."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilience.contract.alignments import AlignmentRequest
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import Job, JobStatus, Plan
from consilience.formats.files import open_path
from consilience.numerics.knn.devices import explain_missing_gpu
from consilience.stores.blobs import BlobStore, set_digest
from consilience.stores.database import Database
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.jobs import JobRecords
from consilience.stores.queue import JobQueue
from tests.workers.harness import wait_for

PLAN = Plan(n=4, dim_a=1, dim_b=1, cells=1, flops=1.0, bytes=1, seconds=0.0)


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One kind of database is enough here."""
    return sqlite_url


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def add_set(database: Database, data_dir: Path, tmp_path: Path) -> Callable[..., EmbeddingSet]:
    blobs, records = BlobStore(data_dir), EmbeddingRecords(database)

    def add(rows: Any) -> EmbeddingSet:
        np.save(tmp_path / "upload.npy", rows.astype(np.float32))
        with open_path(tmp_path / "upload.npy") as file:
            layers = blobs.put(file)
        return records.add("docs", len(rows), layers, set_digest(layers), {}, rows.size * 4)[0]

    return add


@pytest.fixture
def environment(database_url: str, redis_url: str, data_dir: Path) -> dict[str, str]:
    own = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "DATA_DIR": str(data_dir), "SCHEMA_TIMEOUT_S": "0.2"}
    return {**os.environ, **{f"CONSILIENCE_{name}": value for name, value in own.items()}}


def make_request(a: EmbeddingSet, b: EmbeddingSet) -> dict[str, Any]:
    return AlignmentRequest.model_validate({"a": {"embedding": a.id}, "b": {"embedding": b.id}}).model_dump(mode="json")


def test_real_jobs_are_scored_one_after_the_other_with_all_threads(
    database: Database, redis_url: str, environment: dict[str, str], add_set: Callable[..., EmbeddingSet]
) -> None:
    """Forks of a parent that has imported FAISS, BLAS and the kernels, and has run none of them."""
    rows = np.random.default_rng(0).standard_normal((3000, 64))
    a, b = add_set(rows), add_set(rows[:, ::-1] * 2)
    jobs, queue = JobRecords(database), JobQueue(redis_url)
    worker = subprocess.Popen([sys.executable, "-m", "workers"], env=environment, stderr=subprocess.PIPE)
    ids = [jobs.add("alignment", make_request(a, b), PLAN, [a.id, b.id]).job.id for _ in range(3)]
    for job_id in ids:
        queue.push(job_id, 1, 60)
    wait_for(lambda: all(jobs.get(job_id).finished for job_id in ids), timeout_s=40)
    worker.terminate()
    _, log = worker.communicate()
    finished: list[Job] = [jobs.get(job_id) for job_id in ids]
    assert [job.status for job in finished] == [JobStatus.SUCCEEDED] * 3, log.decode()
    results = [job.result for job in finished if job.result]
    assert {score.metric: score.value for score in results[0].scores}["mutual_knn"] == pytest.approx(1.0)
    assert [next(score.neighbours.cache for score in result.scores if score.neighbours) for result in results] == [
        "miss",
        "hit",
        "hit",
    ]
    assert worker.returncode == 0
    queue.close()


def test_a_set_that_has_vanished_is_the_jobs_error(
    database: Database, redis_url: str, environment: dict[str, str], add_set: Callable[..., EmbeddingSet]
) -> None:
    a = add_set(np.eye(4))
    request = {**make_request(a, a), "b": {"embedding": "emb_" + "0" * 32}}
    jobs, queue = JobRecords(database), JobQueue(redis_url)
    job_id = jobs.add("alignment", request, PLAN, [a.id]).job.id
    queue.push(job_id, 1, 60)
    worker = subprocess.Popen([sys.executable, "-m", "workers"], env=environment, stderr=subprocess.DEVNULL)
    wait_for(lambda: jobs.get(job_id).finished)
    worker.terminate()
    worker.wait()
    error = jobs.get(job_id).error
    assert error is not None
    assert (error.code, error.value) == ("not-found", "emb_" + "0" * 32)
    queue.close()


def test_a_job_imports_nothing_that_its_parent_had_not(
    database: Database, data_dir: Path, add_set: Callable[..., EmbeddingSet]
) -> None:
    a = add_set(np.random.default_rng(0).standard_normal((64, 8)))
    job = JobRecords(database).add("alignment", make_request(a, a), PLAN, [a.id]).job
    code = f"""
import sys, functools
from pathlib import Path
from workers import worker as runtime, tasks
from consilience.contract.jobs import Job
from consilience.stores.blobs import BlobStore
from consilience.stores.database import Database
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.graph_cache import DiskCache
from consilience.stores.checkpoints import CheckpointStore
from consilience.stores.references import ReferenceRecords
from workers.context import WorkerContext
database = Database({f"sqlite:///{data_dir.parent / 'consilience.db'}"!r})
job = Job.model_validate_json(sys.argv[1])
def work():
    before, folder = set(sys.modules), Path({str(data_dir)!r})
    records = EmbeddingRecords(database), ReferenceRecords(database)
    shop = WorkerContext(database, folder, *records, BlobStore(folder), DiskCache(folder, 2**20), CheckpointStore(folder))
    tasks.run(job, lambda *_: None, context=shop)
    print(*sorted(set(sys.modules) - before), flush=True)
    return 0
print(runtime.ChildProcess(work).wait(60).status)
"""
    command = [sys.executable, "-c", code, job.model_dump_json()]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert printed[-1] == "0"
    assert printed[0].split() == [], "import these in the parent"


def start(environment: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """The exit status, and the last line of the log."""
    done = subprocess.run([sys.executable, "-m", "workers"], env=environment, capture_output=True, check=False)
    return done.returncode, json.loads(done.stderr.splitlines()[-1])


def test_a_wrong_setting_is_named(environment: dict[str, str]) -> None:
    status, line = start({**environment, "CONSILIENCE_LEASE_S": "soon"})
    assert status == 2
    assert "CONSILIENCE_LEASE_S='soon'" in line["detail"]


def test_a_worker_waits_for_the_services_migration_and_not_for_ever(
    environment: dict[str, str], tmp_path: Path
) -> None:
    status, line = start({**environment, "CONSILIENCE_DATABASE_URL": f"sqlite:///{tmp_path / 'empty.db'}"})
    assert status == 2
    assert "Start the service" in line["detail"]


@pytest.mark.skipif(explain_missing_gpu() is None, reason="there may be a card here")
def test_a_worker_that_is_to_use_a_card_and_has_none_says_what_it_found(environment: dict[str, str]) -> None:
    status, line = start({**environment, "CONSILIENCE_DEVICE": "cuda"})
    assert status == 2
    assert f"The device cuda is not available: {explain_missing_gpu()}" in line["detail"]
    assert "Set CONSILIENCE_DEVICE to cpu" in line["detail"]


def test_threads_are_limited_before_the_numeric_libraries_are_loaded() -> None:
    code = """
import os, sys
from workers.__main__ import limit_threads
assert not {"numpy", "faiss", "numba", "scipy"} & set(sys.modules)
limit_threads(1)
from workers import tasks
import faiss, numba
print(faiss.omp_get_max_threads(), numba.config.NUMBA_NUM_THREADS, numba.config.THREADING_LAYER, "torch" in sys.modules)
"""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert printed.stdout.split() == ["1", "1", "workqueue", "False"]
