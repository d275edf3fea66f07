"""Records of maps: their descriptions are in the database, their weights in the blob store."""

import hashlib
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
from sqlalchemy import Row

from consilience.contract.embeddings import Layer
from consilience.contract.maps import MapPage, StoredMap
from consilience.errors import Unavailable
from consilience.formats.map_files import MapFile
from consilience.formats.open_file import Array, LayerHeader, OpenFile, Tensor
from consilience.formats.reading import canonical_json
from consilience.stores.blobs import BlobStore, StoredLayer
from consilience.stores.database import Database
from consilience.stores.records import MAPS, Access, check_quota

#: Number of values that are written to a blob at once.
BLOCK_VALUES = 1 << 20
_FLOAT32 = np.dtype("<f4")


class MapRecords:
    """Records of maps, limited to the access of one principal."""

    def __init__(self, database: Database, blobs: BlobStore, access: Access | None = None) -> None:
        self._database, self._blobs, self._access = database, blobs, access or Access()

    def add(
        self, name: str, file: MapFile, *, job_id: str | None = None, idempotency_key: str | None = None
    ) -> tuple[StoredMap, bool]:
        """Store a map, completely or not at all.

        If the same job has fitted a map already, or the same content was uploaded under the same name, return that map.
        The caller must hold `upload_lock`.

        Returns
        -------
        tuple of StoredMap and bool
            The map, and True if it is new.

        Raises
        ------
        QuotaExceeded, StorageFull, KeyReused
        """
        names = sorted(file.tensors)
        size = sum(tensor.nbytes for tensor in file.tensors.values())
        with self._database.read() as connection:
            check_quota(connection, self._access, size)  # before anything is written
        (layer,) = self._blobs.put(_flatten(file))
        content = {"job": job_id} if job_id else [file.card.model_dump(mode="json", by_alias=True), name]
        values = {
            "identity": hashlib.sha256(canonical_json([content, self._access.owner])).hexdigest(),
            "name": name,
            "model_card": file.card.model_dump(mode="json", by_alias=True),
            "digest": layer.digest,
            "shapes": {each: list(file.tensors[each].shape) for each in names},
            "bytes": size,
        }
        with self._database.write() as connection:
            row, created = MAPS.insert(connection, self._access, values, idempotency_key)
        return _to_map(row), created

    def get(self, map_id: str) -> StoredMap:
        """Return one map. Raise NotFound if there is none."""
        return _to_map(self._row(map_id))

    def open(self, map_id: str) -> tuple[StoredMap, MapFile]:
        """Return one map and its weights.

        Raises
        ------
        NotFound
            The map does not exist.
        Unavailable
            The weights are missing or damaged.
        """
        row = self._row(map_id)
        stored = _to_map(row)
        shapes: dict[str, list[int]] = row.shapes
        layer = self._open(row)
        values = layer.rows(0, layer.n).reshape(-1)
        ends = np.cumsum([prod(shapes[name]) for name in sorted(shapes)])[:-1]
        parts = zip(sorted(shapes), np.split(values, ends), strict=True)
        file = MapFile(stored.model_card, {name: part.reshape(shapes[name]) for name, part in parts})
        try:
            file.check()
        except Exception as error:
            raise Unavailable("A stored map is damaged.", value=map_id) from error
        return stored, file

    def find_fault(self, map_id: str, *, deep: bool) -> str | None:
        """Return a description of damage of the weights, or None. Check the size and, with `deep`, the digest.

        Raises NotFound as `get` does.
        """
        row = self._row(map_id)
        try:
            layer = self._open(row)
            return "the content does not match its digest." if deep and not layer.is_intact() else None
        except Unavailable as error:
            return error.detail

    def page(self, cursor: str | None, limit: int, name: str | None = None) -> MapPage:
        """Return at most `limit` maps with this name, newest first. Raise InvalidRequest for an invalid cursor or limit."""
        with self._database.read() as connection:
            page = MAPS.page(connection, self._access, cursor, limit, name)
        data = tuple(_to_map(row) for row in page.rows)
        return MapPage(data=data, has_more=page.has_more, next_cursor=page.next_cursor)

    def delete(self, map_id: str) -> tuple[str, ...]:
        """Delete the record of a map.

        Returns
        -------
        tuple of str
            Digest of its weights, if no record refers to them any more.

        Raises
        ------
        NotFound
            The map does not exist.
        InUse
            An unfinished job uses the map.
        """
        with self._database.write() as connection:
            row = MAPS.lock_for_delete(connection, map_id, self._access)
            return MAPS.delete(connection, map_id, {row.digest})

    def _open(self, row: Row[Any]) -> StoredLayer:
        count = sum(prod(shape) for shape in row.shapes.values())
        return self._blobs.open(Layer(name="0", dim=1, dtype="F32", digest=row.digest), count)

    def _row(self, map_id: str) -> Row[Any]:
        with self._database.read() as connection:
            return MAPS.find(connection, map_id, self._access)


def _flatten(file: MapFile) -> OpenFile:
    """Return all weights as one layer with one value per row, tensor by tensor in the order of their names."""
    tensors = [file.tensors[name].reshape(-1, 1) for name in sorted(file.tensors)]
    count = sum(len(tensor) for tensor in tensors)
    header = LayerHeader("0", count, 1, "F32")
    return OpenFile((header,), (Tensor("0", (count, 1), _FLOAT32, lambda: _blocks(tensors)),))


def _blocks(tensors: Sequence[Array]) -> Iterator[Array]:
    for tensor in tensors:
        for start in range(0, len(tensor), BLOCK_VALUES):
            yield np.ascontiguousarray(tensor[start : start + BLOCK_VALUES], _FLOAT32)


def _to_map(row: Row[Any]) -> StoredMap:
    self_link = f"/v1/maps/{row.id}"
    links = {"self": self_link, "file": f"{self_link}/file", "apply": f"{self_link}/apply"}
    return StoredMap.model_validate({**row._mapping, "links": links})  # noqa: SLF001 - SQLAlchemy's public name for a row as a dictionary
