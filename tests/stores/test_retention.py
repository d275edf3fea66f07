import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import Job
from consilience.errors import Expired, NotFound
from consilience.stores import tables
from consilience.stores.database import Database
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.jobs import JobRecords
from consilience.stores.leases import Leases
from consilience.stores.records import Access
from consilience.stores.retention import Retention
from tests.stores.conftest import PLAN, digest

NOW = timedelta(0)


@pytest.fixture
def retention(database: Database) -> Retention:
    return Retention(database)


@pytest.fixture
def finished(add_job: Callable[..., Job], jobs: JobRecords) -> Callable[..., str]:
    def add(*used: EmbeddingSet) -> str:
        return jobs.request_cancel(add_job(*used).id).id

    return add


def test_a_finished_job_goes_after_its_time_and_says_so(
    retention: Retention, jobs: JobRecords, finished: Callable[..., str]
) -> None:
    job_id = finished()
    assert retention.expire(timedelta(days=1), 10) == ()
    assert jobs.get(job_id).id == job_id
    assert retention.expire(NOW, 10) == (job_id,)
    for look in (jobs.get, jobs.version, jobs.webhook, jobs.request_cancel):
        with pytest.raises(Expired, match=r"were deleted at 20\d\d-"):
            look(job_id)
    assert jobs.page(None, 10).data == ()


def test_for_another_owner_there_was_no_such_job(
    retention: Retention, database: Database, finished: Callable[..., str]
) -> None:
    job_id = finished()
    retention.expire(NOW, 10)
    others = JobRecords(database, Access("somebody-else"))
    for look in (others.get, others.version):
        with pytest.raises(NotFound, match="no such job"):
            look(job_id)


def test_unfinished_jobs_stay_however_old_they_are(
    retention: Retention, leases: Leases, add_job: Callable[..., Job], jobs: JobRecords
) -> None:
    queued, running = add_job().id, add_job().id
    leases.claim(running, 1, "w")
    assert retention.expire(NOW, 10) == ()
    assert {job.id for job in jobs.page(None, 10).data} == {queued, running}


def test_a_job_whose_webhook_is_under_way_stays(retention: Retention, database: Database, jobs: JobRecords) -> None:
    request = {"webhook": {"url": "https://example.com/"}}
    job = jobs.request_cancel(jobs.add("alignment", request, PLAN, ()).job.id)
    assert retention.expire(NOW, 10) == ()
    with database.write() as connection:
        connection.execute(sa.update(tables.webhooks).values(due_at=None, delivered_at=job.finished_at))
    assert retention.expire(NOW, 10) == (job.id,)


def test_everything_of_the_job_goes_but_not_its_sets(
    retention: Retention,
    database: Database,
    add_set: Callable[..., EmbeddingSet],
    finished: Callable[..., str],
    embeddings: EmbeddingRecords,
) -> None:
    kept = add_set("x")
    finished(kept)
    retention.expire(NOW, 10)
    with database.read() as connection:
        for table in (tables.jobs, tables.runs, tables.job_embeddings, tables.idempotency_keys):
            assert connection.execute(sa.select(table)).all() == []
    assert embeddings.get(kept.id) == kept


def test_an_idempotency_key_goes_with_its_job(retention: Retention, jobs: JobRecords) -> None:
    first = jobs.add("alignment", {}, PLAN, (), ("key", digest("body"))).job
    jobs.request_cancel(first.id)
    retention.expire(NOW, 10)
    assert jobs.add("alignment", {}, PLAN, (), ("key", digest("another body"))).created


def test_several_collectors_at_once_expire_each_job_once(
    retention: Retention, jobs: JobRecords, finished: Callable[..., str]
) -> None:
    ids = sorted(finished() for _ in range(20))
    gone: list[str] = []

    def expire() -> None:
        while batch := retention.expire(NOW, 3):
            gone.extend(batch)

    threads = [threading.Thread(target=expire) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(gone) == ids
    assert jobs.page(None, 100).data == ()


def test_a_digest_is_named_by_layers_and_columns_alone(
    retention: Retention, embeddings: EmbeddingRecords, add_set: Callable[..., EmbeddingSet]
) -> None:
    stored = add_set("x y")
    assert retention.find_referenced([digest("x"), digest("y"), digest("z"), stored.digest]) == {
        digest("x"),
        digest("y"),
    }
    embeddings.delete(stored.id)
    assert retention.find_referenced([digest("x")]) == set()
