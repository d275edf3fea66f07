"""Jobs that the service works on, as both clients give them."""

from collections.abc import Awaitable
from typing import Generic, Protocol

from consilience.client.operations import Outcome, Watcher, result_of
from consilience.contract.jobs import Job


class Asking(Protocol):
    """What a pending job asks of its client."""

    def job(self, job_id: str) -> Job:
        """One job as it stands."""

    def cancel(self, job_id: str) -> Job:
        """Ask for a job's end."""

    def wait(self, job_id: str, *, timeout_s: float | None, watch: Watcher | None) -> Job:
        """The job once it has finished."""


class AsyncAsking(Protocol):
    """The same, awaited."""

    def job(self, job_id: str) -> Awaitable[Job]:
        """One job as it stands."""

    def cancel(self, job_id: str) -> Awaitable[Job]:
        """Ask for a job's end."""

    def wait(self, job_id: str, *, timeout_s: float | None, watch: Watcher | None) -> Awaitable[Job]:
        """The job once it has finished."""


class PendingJob(Generic[Outcome]):
    """A job that the service works on, and the document that will come of it.

    Attributes
    ----------
    job : Job
        The job as it was last seen.
    """

    def __init__(self, client: Asking, job: Job, outcome: type[Outcome]) -> None:
        self._client, self._outcome = client, outcome
        self.job = job

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    def refresh(self) -> Job:
        """The job as it stands now."""
        self.job = self._client.job(self.id)
        return self.job

    def cancel(self) -> Job:
        """Ask for its end."""
        self.job = self._client.cancel(self.id)
        return self.job

    def wait(self, *, timeout_s: float | None = None, watch: Watcher | None = None) -> Outcome:
        """The document, once they are there.

        Raises the error that the job ended with, JobCanceled if it was canceled, WaitTimedOut after `timeout_s` seconds.
        """
        self.job = self._client.wait(self.id, timeout_s=timeout_s, watch=watch)
        return result_of(self.job, self._outcome)


class AsyncPendingJob(Generic[Outcome]):
    """A job that the service works on, and the document that will come of it.

    Attributes
    ----------
    job : Job
        The job as it was last seen.
    """

    def __init__(self, client: AsyncAsking, job: Job, outcome: type[Outcome]) -> None:
        self._client, self._outcome = client, outcome
        self.job = job

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    async def refresh(self) -> Job:
        """The job as it stands now."""
        self.job = await self._client.job(self.id)
        return self.job

    async def cancel(self) -> Job:
        """Ask for its end."""
        self.job = await self._client.cancel(self.id)
        return self.job

    async def wait(self, *, timeout_s: float | None = None, watch: Watcher | None = None) -> Outcome:
        """The document, once they are there.

        Raises the error that the job ended with, JobCanceled if it was canceled, WaitTimedOut after `timeout_s` seconds.
        """
        self.job = await self._client.wait(self.id, timeout_s=timeout_s, watch=watch)
        return result_of(self.job, self._outcome)
