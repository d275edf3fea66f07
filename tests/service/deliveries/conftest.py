from collections.abc import Callable, Iterator

import pytest

from consilience.contract.jobs import Plan
from consilience.stores.database import Database
from consilience.stores.jobs import JobRecords
from tests.service.deliveries.receivers import Receiver, receiving

PLAN = Plan(n=4, dim_a=1, dim_b=1, cells=1, flops=1.0, bytes=1, seconds=0.0)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def jobs(database: Database) -> JobRecords:
    return JobRecords(database)


@pytest.fixture
def end_job(jobs: JobRecords, receiver: Receiver) -> Callable[..., str]:
    """Add a job with a webhook, end it and return its id."""

    def end(url: str | None = None) -> str:
        job_id = jobs.add("alignment", {"webhook": {"url": url or receiver.url}}, PLAN, ()).job.id
        jobs.request_cancel(job_id)
        return job_id

    return end
