"""Jobs as they stand, and the wait for their end."""

from consilience.client import operations
from consilience.client.calls.running import AsyncRunning, Running
from consilience.client.operations import Watcher
from consilience.contract.jobs import Job, JobKind, JobPage, JobStatus


class JobCalls(Running):
    """The calls, for ordinary code."""

    def job(self, job_id: str) -> Job:
        """One job as it stands."""
        return self._run(operations.job(job_id))

    def jobs(
        self,
        *,
        status: JobStatus | None = None,
        kind: JobKind | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> JobPage:
        """A page of jobs, newest first."""
        return self._run(operations.jobs(status, cursor, limit, kind))

    def cancel(self, job_id: str) -> Job:
        """Ask for a job's end; a finished job stays as it is."""
        return self._run(operations.cancel(job_id))

    def wait(self, job_id: str, *, timeout_s: float | None = None, watch: Watcher | None = None) -> Job:
        """The job once it has finished, however it ended; WaitTimedOut after `timeout_s` seconds.

        `watch` is called with the job each time it has changed.
        """
        return self._run(operations.wait(job_id, timeout_s, watch))


class AsyncJobCalls(AsyncRunning):
    """The same, awaited."""

    async def job(self, job_id: str) -> Job:
        """One job as it stands."""
        return await self._run(operations.job(job_id))

    async def jobs(
        self,
        *,
        status: JobStatus | None = None,
        kind: JobKind | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> JobPage:
        """A page of jobs, newest first."""
        return await self._run(operations.jobs(status, cursor, limit, kind))

    async def cancel(self, job_id: str) -> Job:
        """Ask for a job's end; a finished job stays as it is."""
        return await self._run(operations.cancel(job_id))

    async def wait(self, job_id: str, *, timeout_s: float | None = None, watch: Watcher | None = None) -> Job:
        """The job once it has finished, however it ended; WaitTimedOut after `timeout_s` seconds.

        `watch` is called with the job each time it has changed.
        """
        return await self._run(operations.wait(job_id, timeout_s, watch))
