"""Reference sets: what new models are scored against."""

from collections.abc import Mapping, Sequence
from typing import Any

from consilience.client import reference_operations
from consilience.client.calls.running import AsyncRunning, Running
from consilience.client.sources import Source
from consilience.contract.references import ReferencePage, ReferenceSet


class ReferenceCalls(Running):
    """The calls, for ordinary code."""

    def add_reference(
        self, name: str, sources: Sequence[Source], *, metadata: Mapping[str, Any] | None = None
    ) -> ReferenceSet:
        """Make a reference set of sets of the same items: stored ones, their ids, paths or arrays; they are then kept."""
        return self._run(reference_operations.add_reference(name, sources, metadata))

    def reference(self, words: str) -> ReferenceSet:
        """One reference set by its id, or the newest of a name."""
        return self._run(reference_operations.reference(words))

    def references(self, *, name: str | None = None, cursor: str | None = None, limit: int = 50) -> ReferencePage:
        """A page of reference sets, newest first."""
        return self._run(reference_operations.references(name, cursor, limit))

    def delete_reference(self, reference_id: str) -> None:
        """Forget a reference set; its members stay. InUse while an unfinished job needs it."""
        self._run(reference_operations.delete_reference(reference_id))


class AsyncReferenceCalls(AsyncRunning):
    """The same, awaited."""

    async def add_reference(
        self, name: str, sources: Sequence[Source], *, metadata: Mapping[str, Any] | None = None
    ) -> ReferenceSet:
        """Make a reference set of sets of the same items: stored ones, their ids, paths or arrays; they are then kept."""
        return await self._run(reference_operations.add_reference(name, sources, metadata))

    async def reference(self, words: str) -> ReferenceSet:
        """One reference set by its id, or the newest of a name."""
        return await self._run(reference_operations.reference(words))

    async def references(self, *, name: str | None = None, cursor: str | None = None, limit: int = 50) -> ReferencePage:
        """A page of reference sets, newest first."""
        return await self._run(reference_operations.references(name, cursor, limit))

    async def delete_reference(self, reference_id: str) -> None:
        """Forget a reference set; its members stay. InUse while an unfinished job needs it."""
        await self._run(reference_operations.delete_reference(reference_id))
