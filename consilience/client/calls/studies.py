"""Many spaces compared with each other."""

from collections.abc import Mapping
from typing import Any, Literal

from consilience.client import operations
from consilience.client.calls.jobs import AsyncJobCalls, JobCalls
from consilience.client.options import options_of
from consilience.client.pending import AsyncPendingJob, PendingJob
from consilience.client.sources import Source
from consilience.contract.studies import StudyOptions
from consilience.contract.study_results import StudyDocument


class StudyCalls(JobCalls):
    """The calls, for ordinary code."""

    def study(
        self,
        rows: Mapping[str, Source],
        columns: Mapping[str, Source] | None = None,
        options: StudyOptions | None = None,
        *,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
        **fields: Any,
    ) -> PendingJob[StudyDocument]:
        """Compare many spaces: rows with columns, or all rows with each other.

        `rows` and `columns` are labels with stored sets, their ids, paths or arrays; what is not stored yet is uploaded
        first. `metadata` holds, by label, the numbers that trends and factors ask for. `fields` are those of StudyOptions.
        """
        operation = operations.study(rows, columns, options_of(StudyOptions, options, fields), metadata)
        return PendingJob(self, self._run(operation), StudyDocument)

    def extend_study(
        self,
        study_id: str,
        rows: Mapping[str, Source] | None = None,
        columns: Mapping[str, Source] | None = None,
        *,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> PendingJob[StudyDocument]:
        """The same study with more models, as a job of its own: only the new cells are scored."""
        operation = operations.extend_study(study_id, rows, columns, metadata)
        return PendingJob(self, self._run(operation), StudyDocument)

    def study_so_far(self, study_id: str) -> StudyDocument:
        """A study as far as it is there, also while it runs."""
        return self._run(operations.study_so_far(study_id))

    def study_table(self, study_id: str, form: Literal["csv", "parquet"] = "csv") -> bytes:
        """The same as a file: one line for each cell and metric."""
        return self._run(operations.study_table(study_id, form))


class AsyncStudyCalls(AsyncJobCalls):
    """The same, awaited."""

    async def study(
        self,
        rows: Mapping[str, Source],
        columns: Mapping[str, Source] | None = None,
        options: StudyOptions | None = None,
        *,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
        **fields: Any,
    ) -> AsyncPendingJob[StudyDocument]:
        """Compare many spaces: rows with columns, or all rows with each other.

        `rows` and `columns` are labels with stored sets, their ids, paths or arrays; what is not stored yet is uploaded
        first. `metadata` holds, by label, the numbers that trends and factors ask for. `fields` are those of StudyOptions.
        """
        operation = operations.study(rows, columns, options_of(StudyOptions, options, fields), metadata)
        return AsyncPendingJob(self, await self._run(operation), StudyDocument)

    async def extend_study(
        self,
        study_id: str,
        rows: Mapping[str, Source] | None = None,
        columns: Mapping[str, Source] | None = None,
        *,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> AsyncPendingJob[StudyDocument]:
        """The same study with more models, as a job of its own: only the new cells are scored."""
        operation = operations.extend_study(study_id, rows, columns, metadata)
        return AsyncPendingJob(self, await self._run(operation), StudyDocument)

    async def study_so_far(self, study_id: str) -> StudyDocument:
        """A study as far as it is there, also while it runs."""
        return await self._run(operations.study_so_far(study_id))

    async def study_table(self, study_id: str, form: Literal["csv", "parquet"] = "csv") -> bytes:
        """The same as a file: one line for each cell and metric."""
        return await self._run(operations.study_table(study_id, form))
