"""The clients against the real service."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from consilience.client.aio import AsyncClient
from consilience.client.sync import Client
from consilience.contract.jobs import Job, JobStatus
from consilience.errors import InvalidRequest, JobError, NotFound, TooLarge, UnknownLayer, UnpairedSides, WaitTimedOut
from tests.serving import Serve

ROWS = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def slow(client: Client) -> str:
    """A set whose neighbour graph takes a while."""
    return client.upload(np.random.default_rng(0).standard_normal((60_000, 64)).astype(np.float16), name="slow").id


def test_arrays_become_scores(client: Client) -> None:
    document = client.align(ROWS, ROWS[:, ::-1], metrics=["mutual_knn", "cka"]).wait(timeout_s=20)
    assert [score.value for score in document.scores] == pytest.approx([1.0, 1.0])


def test_the_same_content_is_the_same_set_until_it_is_deleted(client: Client) -> None:
    first, again = (client.upload(ROWS + 1, name="twice", metadata={"run": 1}) for _ in range(2))
    assert first == again
    assert client.embedding(first.id).metadata == {"run": 1}
    assert [found.id for found in client.embeddings(name="twice").data] == [first.id]
    client.delete(first.id)
    with pytest.raises(NotFound):
        client.embedding(first.id)


def test_a_plan_makes_no_job(client: Client, docs: Path, code: Path) -> None:
    jobs_before = client.jobs(limit=1).data
    assert client.plan(docs, code, layers="all").cells == 49
    assert client.jobs(limit=1).data == jobs_before


def test_the_service_describes_itself(client: Client) -> None:
    assert client.info().limits.upload_limit_bytes == 8 * 2**20
    assert {card.name for card in client.metrics().data} >= {"mutual_knn", "cka"}


def test_a_running_job_tells_of_its_progress_and_can_be_canceled(client: Client, slow: str) -> None:
    seen: list[Job] = []

    def watch(job: Job) -> None:
        seen.append(job)
        if job.status == JobStatus.RUNNING and not job.cancel_requested:
            client.cancel(job.id)

    with pytest.raises(JobError, match="canceled"):
        client.align(slow, slow, metrics=["mutual_knn"]).wait(timeout_s=30, watch=watch)
    assert [job.status for job in seen][-1] == "canceled"
    assert JobStatus.RUNNING in {job.status for job in seen}


def test_a_wait_that_is_too_short_leaves_the_job_alone(client: Client, slow: str) -> None:
    alignment = client.align(slow, slow, metrics=["mutual_knn"], seed=1)
    with pytest.raises(WaitTimedOut):
        alignment.wait(timeout_s=0.2)
    assert not alignment.refresh().finished
    alignment.cancel()
    assert client.wait(alignment.id, timeout_s=20).status == JobStatus.CANCELED


def test_refusals_have_their_class(client: Client) -> None:
    with pytest.raises(UnpairedSides):
        client.align(ROWS, ROWS[:32])
    with pytest.raises(UnknownLayer):
        client.align(ROWS, ROWS, layers=["9"])
    with pytest.raises(InvalidRequest):
        client.align(ROWS, ROWS, metrics=[{"metric": "mutual_knn", "k": 64}])
    with pytest.raises(NotFound):
        client.job("job_" + "0" * 32)


def test_a_file_over_the_limit_is_refused_with_the_limit(client: Client) -> None:
    with pytest.raises(TooLarge) as raised:
        client.upload(np.zeros((100_000, 64), np.float32))
    assert raised.value.limit == 8 * 2**20


def test_many_alignments_at_once_from_one_event_loop(service: Serve) -> None:
    async def main() -> list[float | None]:
        async with AsyncClient(service.url) as client:
            stored = await client.upload(ROWS)
            alignments = await asyncio.gather(*(client.align(stored, stored, seed=seed) for seed in range(5)))
            documents = await asyncio.gather(*(alignment.wait(timeout_s=30) for alignment in alignments))
            return [document.scores[0].value for document in documents]

    assert asyncio.run(main()) == [1.0] * 5
