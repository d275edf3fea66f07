"""One cache of neighbour graphs for two workers of the real service."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from consilience.client.sync import Client
from consilience.contract.jobs import JobStatus
from consilience.contract.scores import GraphUse, ScoreDocument
from tests.serving import Serve, serve, until

#: Holds the right to build a graph, until it is killed.
HOLDER = """
import sys, time
from pathlib import Path
from consilience.stores.files import claim_file

with claim_file(Path(sys.argv[1]), lambda: None):
    print("holds it", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def service() -> Iterator[Serve]:
    with serve("--workers", "2") as running:
        yield running


@pytest.fixture(scope="module")
def client(service: Serve) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


def upload(client: Client, seed: int, n: int = 200) -> str:
    return client.upload(np.random.default_rng(seed).standard_normal((n, 16)).astype(np.float32), name=f"{seed}").id


def score_all(client: Client, pairs: list[tuple[str, str]]) -> list[ScoreDocument]:
    begun = [client.align(a, b, metrics=["mutual_knn"]) for a, b in pairs]
    return [alignment.wait(timeout_s=60) for alignment in begun]


def add_up(documents: list[ScoreDocument]) -> tuple[int, int]:
    uses = [document.graphs or GraphUse(hits=0, misses=0) for document in documents]
    return sum(use.hits for use in uses), sum(use.misses for use in uses)


def test_a_new_checkpoint_against_twenty_references_builds_one_graph(client: Client) -> None:
    references = [upload(client, seed) for seed in range(20)]
    assert add_up(score_all(client, list(zip(references[::2], references[1::2], strict=True)))) == (0, 20)
    before = client.info().graph_cache
    checkpoint = upload(client, seed=20)
    assert add_up(score_all(client, [(checkpoint, reference) for reference in references])) == (39, 1)
    after = client.info().graph_cache
    assert (after.hits - before.hits, after.misses - before.misses) == (39, 1)
    assert (after.graphs - before.graphs, after.limit_bytes) == (1, 8 * 2**30)


def test_jobs_that_need_the_same_graphs_at_once_build_each_once(client: Client) -> None:
    a, b = upload(client, seed=100, n=6000), upload(client, seed=101, n=6000)
    documents = score_all(client, [(a, b)] * 4)
    assert add_up(documents) == (6, 2)
    assert len({document.scores[0].value for document in documents}) == 1


def test_a_job_without_neighbours_uses_no_graph(client: Client) -> None:
    a = upload(client, seed=200)
    assert client.align(a, a, metrics=["cka"]).wait(timeout_s=20).graphs is None


@contextmanager
def someone_else_builds(client: Client, service: Serve, seed: int) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A set whose graph another process has the right to build."""
    embedding = upload(client, seed)
    graphs = service.data_dir / "graphs"
    before = set(graphs.glob("??/*"))
    client.align(embedding, embedding, metrics=["mutual_knn"]).wait(timeout_s=20)
    (path,) = set(graphs.glob("??/*")) - before
    path.unlink()
    command = [sys.executable, "-c", HOLDER, str(graphs / "drafts" / f"{path.name}.draft")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "holds it\n"
        yield embedding, holder
        holder.kill()


def waits(client: Client, job_id: str) -> bool:
    progress = client.job(job_id).progress
    return progress is not None and progress.stage == "neighbours: waiting for another job"


def test_a_job_that_waits_says_so_and_takes_over_from_a_killed_builder(client: Client, service: Serve) -> None:
    with someone_else_builds(client, service, seed=300) as (embedding, holder):
        job = client.align(embedding, embedding, metrics=["mutual_knn"])
        until(lambda: waits(client, job.id))
        holder.kill()
        assert job.wait(timeout_s=10).graphs == GraphUse(hits=1, misses=1)


def test_a_job_that_waits_can_be_canceled(client: Client, service: Serve) -> None:
    with someone_else_builds(client, service, seed=301) as (embedding, _):
        job = client.align(embedding, embedding, metrics=["mutual_knn"])
        until(lambda: waits(client, job.id))
        job.cancel()
        until(lambda: job.refresh().status is JobStatus.CANCELED)


def test_a_job_with_an_index_says_what_it_found_and_leaves_no_graph_for_an_exact_one(client: Client) -> None:
    a, b = upload(client, seed=200), upload(client, seed=201)
    first, second, exact = (
        client.align(a, b, metrics=["mutual_knn"], builder=builder).wait(timeout_s=60)
        for builder in ({"index": "IVF4,SQ8"}, {"index": "IVF4,SQ8"}, "auto")
    )
    assert [document.scores[0].estimator for document in (first, second, exact)] == [
        "approximate",
        "approximate",
        "exact",
    ]
    assert [document.graphs for document in (first, second, exact)] == [
        GraphUse(hits=hits, misses=2 - hits) for hits in (0, 2, 0)
    ]
    assert second.scores == (first.scores[0].model_copy(update={"neighbours": second.scores[0].neighbours}),)
    assert second.scores[0].neighbours is not None
    assert first.scores[0].neighbours is not None
    assert second.scores[0].neighbours.recall == first.scores[0].neighbours.recall
