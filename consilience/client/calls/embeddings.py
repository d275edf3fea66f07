"""Stored sets: uploaded, or made by a model."""

from collections.abc import Mapping
from typing import Any

from consilience.client import operations
from consilience.client.calls.jobs import AsyncJobCalls, JobCalls
from consilience.client.forms import Labels
from consilience.client.pending import AsyncPendingJob, PendingJob
from consilience.client.sources import Source
from consilience.contract.base import LayerChoice
from consilience.contract.embeddings import EmbeddingPage, EmbeddingSet
from consilience.contract.extraction import ExtractionDocument
from consilience.contract.models import Pooling


class EmbeddingCalls(JobCalls):
    """The calls, for ordinary code."""

    def upload(
        self,
        source: Source,
        *,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        ids: Labels | None = None,
        groups: Labels | None = None,
    ) -> EmbeddingSet:
        """Store a file (by its path) or an array (n, d) or (n, L, d); the same content and name: the same set.

        `ids` says which item each row is, `groups` which rows belong together: n strings or integers each.
        """
        return self._run(operations.upload(source, name, metadata, ids, groups))

    def embedding(self, embedding_id: str) -> EmbeddingSet:
        """One stored set."""
        return self._run(operations.embedding(embedding_id))

    def embeddings(self, *, name: str | None = None, cursor: str | None = None, limit: int = 50) -> EmbeddingPage:
        """A page of stored sets, newest first."""
        return self._run(operations.embeddings(name, cursor, limit))

    def delete(self, embedding_id: str) -> None:
        """Forget a stored set; InUse while an unfinished job needs it."""
        self._run(operations.delete(embedding_id))

    def extract(
        self,
        model: str,
        dataset: str,
        *,
        view: str,
        layers: LayerChoice = "all",
        pooling: Pooling = "auto",
        max_length: int | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        webhook: str | None = None,
    ) -> PendingJob[ExtractionDocument]:
        """Ask for the set that a model makes of one view of a dataset, such as `hf:openai-community/gpt2` of `stdlib-docs`.

        The same model, items and wishes again are the set that was made before. Its ids are those of the items.
        """
        job = self._run(operations.extract(model, dataset, view, layers, pooling, max_length, name, metadata, webhook))
        return PendingJob(self, job, ExtractionDocument)


class AsyncEmbeddingCalls(AsyncJobCalls):
    """The same, awaited."""

    async def upload(
        self,
        source: Source,
        *,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        ids: Labels | None = None,
        groups: Labels | None = None,
    ) -> EmbeddingSet:
        """Store a file (by its path) or an array (n, d) or (n, L, d); the same content and name: the same set.

        `ids` says which item each row is, `groups` which rows belong together: n strings or integers each.
        """
        return await self._run(operations.upload(source, name, metadata, ids, groups))

    async def embedding(self, embedding_id: str) -> EmbeddingSet:
        """One stored set."""
        return await self._run(operations.embedding(embedding_id))

    async def embeddings(self, *, name: str | None = None, cursor: str | None = None, limit: int = 50) -> EmbeddingPage:
        """A page of stored sets, newest first."""
        return await self._run(operations.embeddings(name, cursor, limit))

    async def delete(self, embedding_id: str) -> None:
        """Forget a stored set; InUse while an unfinished job needs it."""
        await self._run(operations.delete(embedding_id))

    async def extract(
        self,
        model: str,
        dataset: str,
        *,
        view: str,
        layers: LayerChoice = "all",
        pooling: Pooling = "auto",
        max_length: int | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        webhook: str | None = None,
    ) -> AsyncPendingJob[ExtractionDocument]:
        """Ask for the set that a model makes of one view of a dataset, such as `hf:openai-community/gpt2` of `stdlib-docs`.

        The same model, items and wishes again are the set that was made before. Its ids are those of the items.
        """
        job = await self._run(
            operations.extract(model, dataset, view, layers, pooling, max_length, name, metadata, webhook)
        )
        return AsyncPendingJob(self, job, ExtractionDocument)
