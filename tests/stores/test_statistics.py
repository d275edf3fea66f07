"""Figures about everybody's rows, on both databases."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import Job, JobStatus
from consilience.contract.scores import ScoreDocument
from consilience.contract.webhooks import WebhookStatus
from consilience.errors import JobCrashed, Unavailable
from consilience.stores import tables
from consilience.stores.database import Database
from consilience.stores.jobs import JobRecords
from consilience.stores.leases import Leases, describe_failure
from consilience.stores.statistics import RECENT, WHOLE, StoredSize, StoreStatistics
from tests.stores.conftest import PLAN

DIED = describe_failure(JobCrashed("It died."))
AddJob, AddSet = Callable[..., Job], Callable[..., EmbeddingSet]


@pytest.fixture
def statistics(database: Database) -> StoreStatistics:
    return StoreStatistics(database)


def change(database: Database, job: Job, **values: object) -> None:
    with database.write() as connection:
        connection.execute(sa.update(tables.jobs).where(tables.jobs.c.id == job.id).values(**values))


def test_without_rows_every_figure_is_zero(statistics: StoreStatistics) -> None:
    assert set(statistics.count_jobs().values()) == set(statistics.count_webhooks().values()) == {0}
    assert (statistics.find_longest_wait(), statistics.time_jobs(), statistics.find_busy_workers()) == (0.0, {}, set())
    assert (statistics.size_of_sets(), statistics.size_of_datasets(), statistics.size_of_layers()) == (
        StoredSize(0, 0),
        StoredSize(0, 0),
        0,
    )


def test_jobs_are_counted_by_status(
    statistics: StoreStatistics, jobs: JobRecords, leases: Leases, add_job: AddJob
) -> None:
    queued, running, canceled, failed = (add_job() for _ in range(4))
    leases.claim(running.id, 1, "one")
    jobs.request_cancel(canceled.id)
    leases.claim(failed.id, 1, "two")
    leases.fail(failed.id, 1, DIED)

    assert statistics.count_jobs() == {
        JobStatus.QUEUED: 1,
        JobStatus.RUNNING: 1,
        JobStatus.SUCCEEDED: 0,
        JobStatus.FAILED: 1,
        JobStatus.CANCELED: 1,
    }
    assert statistics.find_busy_workers() == {"one"}
    assert queued.status is JobStatus.QUEUED


def test_the_oldest_job_that_waits_is_found_and_none_that_runs(
    statistics: StoreStatistics, database: Database, leases: Leases, add_job: AddJob
) -> None:
    now = datetime.now(UTC)
    for minutes in (5, 1, 60):
        job = add_job()
        change(database, job, created_at=now - timedelta(minutes=minutes))
    leases.claim(job.id, 1, "a worker")

    assert 300 <= statistics.find_longest_wait() < 330


def test_a_clock_that_was_set_back_gives_no_negative_wait(
    statistics: StoreStatistics, database: Database, add_job: AddJob
) -> None:
    change(database, add_job(), created_at=datetime.now(UTC) + timedelta(hours=1))
    assert statistics.find_longest_wait() == 0.0


def test_the_times_of_jobs_are_those_of_recent_successes(
    statistics: StoreStatistics, database: Database, leases: Leases, add_job: AddJob, score: ScoreDocument
) -> None:
    now = datetime.now(UTC)
    for age in (timedelta(minutes=1), RECENT + timedelta(minutes=1)):
        job = add_job()
        leases.claim(job.id, 1, "a worker")
        leases.succeed(job.id, 1, score)
        change(database, job, started_at=now - age - timedelta(seconds=3), finished_at=now - age)
    failed = add_job()
    leases.claim(failed.id, 1, "a worker")
    leases.fail(failed.id, 1, DIED)

    assert statistics.time_jobs() == {"neighbours": [0.25], WHOLE: [pytest.approx(3.0)]}


def test_shared_layers_count_once(statistics: StoreStatistics, add_set: AddSet) -> None:
    add_set("x y")
    add_set("x z")

    assert statistics.size_of_sets() == StoredSize(2, 240)
    assert statistics.size_of_layers() == 3 * 5 * 3 * 4


def test_webhooks_are_counted_by_status(statistics: StoreStatistics, database: Database, jobs: JobRecords) -> None:
    now = datetime.now(UTC)
    ends: list[dict[str, object]] = [{}, {"due_at": now}, {"failed_at": now}, {"delivered_at": now}, {"due_at": now}]
    for end in ends:
        job = jobs.add("alignment", {"webhook": {"url": "https://hooks.example.com/"}}, PLAN, ()).job
        if end:
            with database.write() as connection:
                hook = tables.webhooks
                connection.execute(sa.update(hook).where(hook.c.job_id == job.id).values(**end))

    assert statistics.count_webhooks() == {
        WebhookStatus.WAITING: 1,
        WebhookStatus.PENDING: 2,
        WebhookStatus.DELIVERED: 1,
        WebhookStatus.FAILED: 1,
    }


def test_a_slow_statistic_is_abandoned_and_the_connection_stays_usable(database: Database) -> None:
    slow = sa.text(
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 100000000) SELECT count(*) FROM c"
    )
    with pytest.raises(Unavailable):
        StoreStatistics(database, limit_s=0.05)._rows(slow)
    fast = sa.text(
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 200000) SELECT count(*) FROM c"
    )
    with database.read() as connection:
        assert connection.execute(fast).scalar() == 200_000
