"""Jobs that the service works on, as both clients give them."""

from typing import Generic

from consilience.client.calls.jobs import AsyncJobCalls, JobCalls
from consilience.client.operations import Outcome, Watcher, result_of
from consilience.contract.jobs import Job


class PendingJob(Generic[Outcome]):
    """A job that the service works on, and the document that will come of it.

    Attributes
    ----------
    job : Job
        The job as it was last seen.
    """

    def __init__(self, client: JobCalls, job: Job, outcome: type[Outcome]) -> None:
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

    def __init__(self, client: AsyncJobCalls, job: Job, outcome: type[Outcome]) -> None:
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
