"""How far two spaces agree."""

from typing import Any, overload

from consilience.client import operations, reference_operations
from consilience.client.calls.jobs import AsyncJobCalls, JobCalls
from consilience.client.options import options_of
from consilience.client.pending import AsyncPendingJob, PendingJob
from consilience.client.reference_operations import AnyReference
from consilience.client.sources import AnySource
from consilience.contract.alignments import ScoringOptions
from consilience.contract.jobs import Plan
from consilience.contract.scores import ReferenceDocument, ScoreDocument


class AlignmentCalls(JobCalls):
    """The calls, for ordinary code."""

    @overload
    def align(
        self,
        a: AnySource,
        b: AnySource,
        options: ScoringOptions | None = None,
        *,
        webhook: str | None = None,
        **fields: Any,
    ) -> PendingJob[ScoreDocument]: ...

    @overload
    def align(
        self,
        a: AnySource,
        *,
        options: ScoringOptions | None = None,
        reference: AnyReference,
        webhook: str | None = None,
        **fields: Any,
    ) -> PendingJob[ReferenceDocument]: ...

    def align(
        self,
        a: AnySource,
        b: AnySource | None = None,
        options: ScoringOptions | None = None,
        *,
        reference: AnyReference | None = None,
        webhook: str | None = None,
        **fields: Any,
    ) -> PendingJob[Any]:
        """Ask how far two spaces agree, or one and each member of a reference set (itself, its id or its name).

        `a` and `b` are stored sets, their ids, paths or arrays; what is not stored yet is uploaded first. Either may be an
        `Extraction`: then the job makes it first.
        `fields` are those of ScoringOptions and replace single ones of `options`. `webhook` is a URL that is told of
        the job's end, by a signed POST.
        """
        reference_operations.check_sides(b, reference)
        chosen = options_of(ScoringOptions, options, fields)
        if reference is not None:
            asked = reference_operations.align_reference(a, reference, chosen, webhook)
            return PendingJob(self, self._run(asked), ReferenceDocument)
        assert b is not None  # noqa: S101 - checked above
        return PendingJob(self, self._run(operations.align(a, b, chosen, webhook)), ScoreDocument)

    def plan(self, a: AnySource, b: AnySource, options: ScoringOptions | None = None, **fields: Any) -> Plan:
        """What `align` would cost; uploads what is not stored yet, but makes no job."""
        return self._run(operations.plan(a, b, options_of(ScoringOptions, options, fields)))


class AsyncAlignmentCalls(AsyncJobCalls):
    """The same, awaited."""

    @overload
    async def align(
        self,
        a: AnySource,
        b: AnySource,
        options: ScoringOptions | None = None,
        *,
        webhook: str | None = None,
        **fields: Any,
    ) -> AsyncPendingJob[ScoreDocument]: ...

    @overload
    async def align(
        self,
        a: AnySource,
        *,
        options: ScoringOptions | None = None,
        reference: AnyReference,
        webhook: str | None = None,
        **fields: Any,
    ) -> AsyncPendingJob[ReferenceDocument]: ...

    async def align(
        self,
        a: AnySource,
        b: AnySource | None = None,
        options: ScoringOptions | None = None,
        *,
        reference: AnyReference | None = None,
        webhook: str | None = None,
        **fields: Any,
    ) -> AsyncPendingJob[Any]:
        """Ask how far two spaces agree, or one and each member of a reference set (itself, its id or its name).

        `a` and `b` are stored sets, their ids, paths or arrays; what is not stored yet is uploaded first. Either may be an
        `Extraction`: then the job makes it first.
        `fields` are those of ScoringOptions and replace single ones of `options`. `webhook` is a URL that is told of
        the job's end, by a signed POST.
        """
        reference_operations.check_sides(b, reference)
        chosen = options_of(ScoringOptions, options, fields)
        if reference is not None:
            asked = reference_operations.align_reference(a, reference, chosen, webhook)
            return AsyncPendingJob(self, await self._run(asked), ReferenceDocument)
        assert b is not None  # noqa: S101 - checked above
        return AsyncPendingJob(self, await self._run(operations.align(a, b, chosen, webhook)), ScoreDocument)

    async def plan(self, a: AnySource, b: AnySource, options: ScoringOptions | None = None, **fields: Any) -> Plan:
        """What `align` would cost; uploads what is not stored yet, but makes no job."""
        return await self._run(operations.plan(a, b, options_of(ScoringOptions, options, fields)))
