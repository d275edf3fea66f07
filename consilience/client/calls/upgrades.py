"""Swaps of an index's embedding model."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from consilience.client import operations
from consilience.client.calls.jobs import AsyncJobCalls, JobCalls
from consilience.client.options import options_of
from consilience.client.pending import AsyncPendingJob, PendingJob
from consilience.client.sources import Source
from consilience.contract.upgrades import UpgradeOptions, UpgradeReport


class UpgradeCalls(JobCalls):
    """The calls, for ordinary code."""

    def upgrade(
        self,
        old: Source,
        new: Source,
        options: UpgradeOptions | None = None,
        *,
        queries: tuple[Source, Source] | None = None,
        judgements: Mapping[str, Sequence[str | int]] | None = None,
        **fields: Any,
    ) -> PendingJob[UpgradeReport]:
        """Ask whether an index survives a swap of its embedding model.

        `old` and `new` are the same documents by both models, `queries` the same queries by both: stored sets, their ids, paths
        or arrays; what is not stored yet is uploaded first. `judgements` are, for each query, the documents that answer it: by
        ids, or by row numbers where there are none. `fields` are those of UpgradeOptions.
        """
        operation = operations.upgrade(old, new, options_of(UpgradeOptions, options, fields), queries, judgements)
        return PendingJob(self, self._run(operation), UpgradeReport)

    def upgrade_page(self, job_id: str, form: Literal["markdown", "html"] = "markdown") -> str:
        """The report of a finished upgrade job, for people."""
        return self._run(operations.upgrade_page(job_id, form))


class AsyncUpgradeCalls(AsyncJobCalls):
    """The same, awaited."""

    async def upgrade(
        self,
        old: Source,
        new: Source,
        options: UpgradeOptions | None = None,
        *,
        queries: tuple[Source, Source] | None = None,
        judgements: Mapping[str, Sequence[str | int]] | None = None,
        **fields: Any,
    ) -> AsyncPendingJob[UpgradeReport]:
        """Ask whether an index survives a swap of its embedding model.

        `old` and `new` are the same documents by both models, `queries` the same queries by both: stored sets, their ids, paths
        or arrays; what is not stored yet is uploaded first. `judgements` are, for each query, the documents that answer it: by
        ids, or by row numbers where there are none. `fields` are those of UpgradeOptions.
        """
        operation = operations.upgrade(old, new, options_of(UpgradeOptions, options, fields), queries, judgements)
        return AsyncPendingJob(self, await self._run(operation), UpgradeReport)

    async def upgrade_page(self, job_id: str, form: Literal["markdown", "html"] = "markdown") -> str:
        """The report of a finished upgrade job, for people."""
        return await self._run(operations.upgrade_page(job_id, form))
