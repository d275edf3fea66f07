"""A webhook is due from the transaction that ends its job, until it was accepted or given up."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from consilience.contract.jobs import Job
from consilience.contract.scores import ScoreDocument
from consilience.contract.webhooks import WebhookStatus
from consilience.errors import JobCrashed, NotFound
from consilience.stores import tables
from consilience.stores.database import Database
from consilience.stores.jobs import JobRecords
from consilience.stores.leases import ActiveJob, Leases, describe_failure
from consilience.stores.records import Access
from consilience.stores.webhooks import Outbox
from tests.stores.conftest import PLAN

DIED = describe_failure(JobCrashed("It died."))
URL = "https://hooks.example.com/in?x=1"


@pytest.fixture
def outbox(database: Database) -> Outbox:
    return Outbox(database)


@pytest.fixture
def ask(jobs: JobRecords) -> Callable[[], str]:
    """Adds a job with a webhook; its id."""

    def add() -> str:
        request = {"webhook": {"url": URL}, "metadata": {"run": 7}}
        return jobs.add("alignment", request, PLAN, ()).job.id

    return add


@pytest.fixture
def ended(ask: Callable[[], str], jobs: JobRecords) -> str:
    job_id = ask()
    jobs.request_cancel(job_id)
    return job_id


def test_nothing_is_due_before_the_job_ends(
    outbox: Outbox, jobs: JobRecords, leases: Leases, ask: Callable[[], str]
) -> None:
    job_id = ask()
    leases.claim(job_id, 1, "w")
    leases.crashed(job_id, 1, DIED, 3)
    leases.hand_back(job_id, 2)
    assert outbox.claim(30) is None
    assert jobs.webhook(job_id).status is WebhookStatus.WAITING


def succeed(leases: Leases, jobs: JobRecords, job_id: str, score: ScoreDocument) -> None:
    leases.claim(job_id, 1, "w")
    assert leases.succeed(job_id, 1, score)


def fail(leases: Leases, jobs: JobRecords, job_id: str, score: ScoreDocument) -> None:
    leases.claim(job_id, 1, "w")
    assert leases.fail(job_id, 1, DIED)


def crash(leases: Leases, jobs: JobRecords, job_id: str, score: ScoreDocument) -> None:
    leases.claim(job_id, 1, "w")
    assert leases.crashed(job_id, 1, DIED, 1) is None


def lose(leases: Leases, jobs: JobRecords, job_id: str, score: ScoreDocument) -> None:
    leases.claim(job_id, 1, "w")
    (standing,) = leases.find_active()
    assert isinstance(standing, ActiveJob)
    assert leases.lost(standing, DIED, 1) is None


def cancel_queued(leases: Leases, jobs: JobRecords, job_id: str, score: ScoreDocument) -> None:
    jobs.request_cancel(job_id)


def cancel_running(leases: Leases, jobs: JobRecords, job_id: str, score: ScoreDocument) -> None:
    leases.claim(job_id, 1, "w")
    jobs.request_cancel(job_id)
    assert leases.canceled(job_id, 1)


def cancel_crashed(leases: Leases, jobs: JobRecords, job_id: str, score: ScoreDocument) -> None:
    leases.claim(job_id, 1, "w")
    jobs.request_cancel(job_id)
    leases.crashed(job_id, 1, DIED, 3)


def cancel_handed_back(leases: Leases, jobs: JobRecords, job_id: str, score: ScoreDocument) -> None:
    leases.claim(job_id, 1, "w")
    jobs.request_cancel(job_id)
    leases.hand_back(job_id, 1)


@pytest.mark.parametrize(
    ("end", "event"),
    [
        (succeed, "job.succeeded"),
        (fail, "job.failed"),
        (crash, "job.failed"),
        (lose, "job.failed"),
        (cancel_queued, "job.canceled"),
        (cancel_running, "job.canceled"),
        (cancel_crashed, "job.canceled"),
        (cancel_handed_back, "job.canceled"),
    ],
)
def test_every_way_to_end_makes_it_due(
    *,
    outbox: Outbox,
    jobs: JobRecords,
    leases: Leases,
    ask: Callable[[], str],
    score: ScoreDocument,
    end: Callable[..., None],
    event: str,
) -> None:
    job_id = ask()
    end(leases, jobs, job_id, score)
    message = outbox.claim(30)
    assert message is not None
    finished_at = jobs.get(job_id).finished_at
    assert finished_at is not None
    assert message.body == {
        "type": event,
        "timestamp": finished_at.isoformat().replace("+00:00", "Z"),
        "data": {
            "id": job_id,
            "kind": "alignment",
            "status": event.removeprefix("job."),
            "finished_at": finished_at.isoformat().replace("+00:00", "Z"),
            "metadata": {"run": 7},
            "links": {"self": f"/v1/jobs/{job_id}"},
        },
    }
    assert (message.url, message.host, message.attempt) == (URL, "hooks.example.com", 1)


def test_a_job_without_a_webhook_sends_nothing(outbox: Outbox, jobs: JobRecords, add_job: Callable[..., Job]) -> None:
    job = add_job()
    jobs.request_cancel(job.id)
    assert outbox.claim(30) is None
    assert "webhook" not in job.links
    with pytest.raises(NotFound, match="no webhook"):
        jobs.webhook(job.id)


def test_another_owner_does_not_see_it(database: Database, jobs: JobRecords, ended: str) -> None:
    assert jobs.get(ended).links["webhook"] == f"/v1/jobs/{ended}/webhook"
    with pytest.raises(NotFound, match="no such job"):
        JobRecords(database, Access("somebody-else")).webhook(ended)


def test_a_claimed_message_is_nobody_elses_until_its_lease_ends(outbox: Outbox, ended: str) -> None:
    first = outbox.claim(0.0)
    assert first is not None
    second = outbox.claim(30)
    assert second is not None, "whoever had it has died: it is sent again"
    assert (second.message_id, second.body, second.attempt) == (first.message_id, first.body, 2)
    assert outbox.claim(30) is None


def test_only_one_of_many_claims_succeeds(outbox: Outbox, ended: str) -> None:
    claims: list[object] = []
    threads = [threading.Thread(target=lambda: claims.append(outbox.claim(30))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([each for each in claims if each]) == 1


def test_excluded_hosts_are_skipped(outbox: Outbox, ended: str) -> None:
    assert outbox.claim(30, excluded_hosts=["hooks.example.com"]) is None
    assert outbox.claim(30, excluded_hosts=["other.example.com"]) is not None


def test_an_accepted_message_is_not_sent_again(outbox: Outbox, jobs: JobRecords, ended: str) -> None:
    message = outbox.claim(0.0)
    assert message is not None
    outbox.delivered(message.message_id)
    outbox.failed(message, "a late report of another attempt", 0.0)
    assert outbox.claim(0.0) is None
    hook = jobs.webhook(ended)
    assert (hook.status, hook.attempts, hook.next_attempt_at, hook.last_error) == ("delivered", 1, None, None)
    assert hook.delivered_at is not None
    assert jobs.request_cancel(ended).finished
    assert outbox.claim(0.0) is None, "asking again for the end of a job that has ended tells nobody anything"


def test_a_failed_message_is_scheduled_again_with_its_error(outbox: Outbox, jobs: JobRecords, ended: str) -> None:
    message = outbox.claim(30)
    assert message is not None
    outbox.failed(message, "x" * 10_000, 100.0)
    assert outbox.claim(30) is None
    hook = jobs.webhook(ended)
    assert (hook.status, hook.last_error) == (WebhookStatus.PENDING, "x" * 500)
    assert hook.next_attempt_at is not None
    assert timedelta(seconds=90) < hook.next_attempt_at - datetime.now(UTC) < timedelta(seconds=101)


def test_a_report_of_an_attempt_that_was_overtaken_changes_nothing(outbox: Outbox, ended: str) -> None:
    slow = outbox.claim(0.0)
    fast = outbox.claim(30)
    assert slow is not None
    assert fast is not None
    outbox.failed(slow, "too late", None)
    outbox.failed(fast, "refused", 0.0)
    assert outbox.claim(30) is not None


def test_an_abandoned_message_stays_failed_with_its_last_error(outbox: Outbox, jobs: JobRecords, ended: str) -> None:
    message = outbox.claim(0.0)
    assert message is not None
    outbox.failed(message, "the receiver responded with status 500", None)
    assert outbox.claim(0.0) is None
    hook = jobs.webhook(ended)
    assert (hook.status, hook.last_error) == (WebhookStatus.FAILED, "the receiver responded with status 500")
    assert hook.failed_at is not None


def test_a_clock_that_was_set_back_delays_nothing(outbox: Outbox, database: Database, ended: str) -> None:
    with database.write() as connection:
        connection.execute(sa.update(tables.webhooks).values(due_at=datetime.now(UTC) + timedelta(days=30)))
    assert outbox.claim(30) is not None


def test_the_webhook_goes_with_its_job(database: Database, ended: str) -> None:
    with database.write() as connection:
        connection.execute(sa.delete(tables.jobs))
    with database.read() as connection:
        assert connection.execute(sa.select(tables.webhooks)).all() == []
