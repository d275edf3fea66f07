"""Stored datasets: items to embed."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from consilience.client import operations
from consilience.client.calls.running import AsyncRunning, Running
from consilience.contract.datasets import Dataset, DatasetPage, ViewKind


class DatasetCalls(Running):
    """The calls, for ordinary code."""

    def add_dataset(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        views: Mapping[str, ViewKind] | None = None,
    ) -> Dataset:
        """Store a file of items: JSON lines, Parquet, a zip or tar of pictures; the same content and name: the same dataset.

        `views` says which fields are views and what each holds: ``{"caption": "text", "photo": "image"}``.
        """
        return self._run(operations.add_dataset(path, name, metadata, views))

    def make_dataset(
        self,
        builtin: str,
        *,
        ids: Sequence[str] | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Dataset:
        """Store one of the service's own datasets, such as ``scenes:n=64,seed=7``, or the items of some ids, in their order."""
        return self._run(operations.make_dataset(builtin, ids, name, metadata))

    def dataset(self, dataset_id: str) -> Dataset:
        """One stored dataset."""
        return self._run(operations.dataset(dataset_id))

    def datasets(self, *, name: str | None = None, cursor: str | None = None, limit: int = 50) -> DatasetPage:
        """A page of stored datasets, newest first."""
        return self._run(operations.datasets(name, cursor, limit))

    def delete_dataset(self, dataset_id: str) -> None:
        """Forget a stored dataset; InUse while an unfinished job needs it."""
        self._run(operations.delete_dataset(dataset_id))


class AsyncDatasetCalls(AsyncRunning):
    """The same, awaited."""

    async def add_dataset(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        views: Mapping[str, ViewKind] | None = None,
    ) -> Dataset:
        """Store a file of items: JSON lines, Parquet, a zip or tar of pictures; the same content and name: the same dataset.

        `views` says which fields are views and what each holds: ``{"caption": "text", "photo": "image"}``.
        """
        return await self._run(operations.add_dataset(path, name, metadata, views))

    async def make_dataset(
        self,
        builtin: str,
        *,
        ids: Sequence[str] | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Dataset:
        """Store one of the service's own datasets, such as ``scenes:n=64,seed=7``, or the items of some ids, in their order."""
        return await self._run(operations.make_dataset(builtin, ids, name, metadata))

    async def dataset(self, dataset_id: str) -> Dataset:
        """One stored dataset."""
        return await self._run(operations.dataset(dataset_id))

    async def datasets(self, *, name: str | None = None, cursor: str | None = None, limit: int = 50) -> DatasetPage:
        """A page of stored datasets, newest first."""
        return await self._run(operations.datasets(name, cursor, limit))

    async def delete_dataset(self, dataset_id: str) -> None:
        """Forget a stored dataset; InUse while an unfinished job needs it."""
        await self._run(operations.delete_dataset(dataset_id))
