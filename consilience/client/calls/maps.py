"""Maps from one space to another."""

import os
from collections.abc import Sequence
from typing import Any

from consilience.client import map_operations
from consilience.client.calls.jobs import AsyncJobCalls, JobCalls
from consilience.client.options import options_of
from consilience.client.pending import AsyncPendingJob, PendingJob
from consilience.client.sources import Source
from consilience.contract.maps import MapOptions, MapPage, StoredMap, TranslatedVectors, TranslationDocument


class MapCalls(JobCalls):
    """The calls, for ordinary code."""

    def fit_map(
        self,
        a: Source,
        b: Source,
        options: MapOptions | None = None,
        *,
        name: str | None = None,
        webhook: str | None = None,
        **fields: Any,
    ) -> PendingJob[StoredMap]:
        """Ask for a map from the space of `a` to that of `b`: fitted on some rows, judged on the others.

        `a` and `b` are stored sets, their ids, paths or arrays; what is not stored yet is uploaded first. `fields` are those
        of MapOptions and replace single ones of `options`.
        """
        operation = map_operations.fit_map(a, b, options_of(MapOptions, options, fields), name, webhook)
        return PendingJob(self, self._run(operation), StoredMap)

    def upload_map(self, path: str | os.PathLike[str], *, name: str | None = None) -> StoredMap:
        """Keep a map's file, which was fitted elsewhere."""
        return self._run(map_operations.upload_map(path, name))

    def map(self, map_id: str) -> StoredMap:
        """One map."""
        return self._run(map_operations.stored_map(map_id))

    def maps(self, *, name: str | None = None, cursor: str | None = None, limit: int = 50) -> MapPage:
        """A page of maps, newest first."""
        return self._run(map_operations.maps(name, cursor, limit))

    def map_file(self, map_id: str) -> bytes:
        """A map as a file: safetensors, which `consilience.maps.api.load` reads."""
        return self._run(map_operations.map_file(map_id))

    def delete_map(self, map_id: str) -> None:
        """Forget a map; InUse while an unfinished job needs it."""
        self._run(map_operations.delete_map(map_id))

    def translate(
        self, map_id: str, vectors: Sequence[Sequence[float]], *, model: str | None = None
    ) -> TranslatedVectors:
        """The translations of a few vectors, at once; refused where the map is known to be of another model."""
        return self._run(map_operations.translate(map_id, vectors, model))

    def translate_set(
        self, map_id: str, source: Source, *, layer: str = "last", name: str | None = None, model: str | None = None
    ) -> PendingJob[TranslationDocument]:
        """Ask for a new set of the translations of a stored one's layer; what is not stored yet is uploaded first."""
        operation = map_operations.translate_set(map_id, source, layer, name, model)
        return PendingJob(self, self._run(operation), TranslationDocument)


class AsyncMapCalls(AsyncJobCalls):
    """The same, awaited."""

    async def fit_map(
        self,
        a: Source,
        b: Source,
        options: MapOptions | None = None,
        *,
        name: str | None = None,
        webhook: str | None = None,
        **fields: Any,
    ) -> AsyncPendingJob[StoredMap]:
        """Ask for a map from the space of `a` to that of `b`: fitted on some rows, judged on the others.

        `a` and `b` are stored sets, their ids, paths or arrays; what is not stored yet is uploaded first. `fields` are those
        of MapOptions and replace single ones of `options`.
        """
        operation = map_operations.fit_map(a, b, options_of(MapOptions, options, fields), name, webhook)
        return AsyncPendingJob(self, await self._run(operation), StoredMap)

    async def upload_map(self, path: str | os.PathLike[str], *, name: str | None = None) -> StoredMap:
        """Keep a map's file, which was fitted elsewhere."""
        return await self._run(map_operations.upload_map(path, name))

    async def map(self, map_id: str) -> StoredMap:
        """One map."""
        return await self._run(map_operations.stored_map(map_id))

    async def maps(self, *, name: str | None = None, cursor: str | None = None, limit: int = 50) -> MapPage:
        """A page of maps, newest first."""
        return await self._run(map_operations.maps(name, cursor, limit))

    async def map_file(self, map_id: str) -> bytes:
        """A map as a file: safetensors, which `consilience.maps.api.load` reads."""
        return await self._run(map_operations.map_file(map_id))

    async def delete_map(self, map_id: str) -> None:
        """Forget a map; InUse while an unfinished job needs it."""
        await self._run(map_operations.delete_map(map_id))

    async def translate(
        self, map_id: str, vectors: Sequence[Sequence[float]], *, model: str | None = None
    ) -> TranslatedVectors:
        """The translations of a few vectors, at once; refused where the map is known to be of another model."""
        return await self._run(map_operations.translate(map_id, vectors, model))

    async def translate_set(
        self, map_id: str, source: Source, *, layer: str = "last", name: str | None = None, model: str | None = None
    ) -> AsyncPendingJob[TranslationDocument]:
        """Ask for a new set of the translations of a stored one's layer; what is not stored yet is uploaded first."""
        operation = map_operations.translate_set(map_id, source, layer, name, model)
        return AsyncPendingJob(self, await self._run(operation), TranslationDocument)
