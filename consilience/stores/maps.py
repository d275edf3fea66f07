"""Maps: cards in the database, weights among the blobs."""

import hashlib
import re
import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from math import prod
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import ColumnElement, Row
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from consilience.contract.embeddings import Layer
from consilience.contract.maps import MapPage, StoredMap
from consilience.errors import NotFound, Unavailable
from consilience.formats.digests import canonical
from consilience.formats.map_files import MapFile
from consilience.formats.matrices import Array, LayerHeader, OpenFile, Tensor
from consilience.stores import tables
from consilience.stores.access import Access
from consilience.stores.blobs import Blobs
from consilience.stores.database import Database
from consilience.stores.layers import StoredLayer
from consilience.stores.pages import read_page
from consilience.stores.quotas import refuse_over_quota
from consilience.stores.upload_keys import bind_key
from consilience.stores.uses import named_blobs

MAP_ID = re.compile(r"map_[0-9a-f]{32}")
#: Numbers of a blob that are written at once.
BLOCK_VALUES = 1 << 20
_map = tables.maps.c
_FLOAT32 = np.dtype("<f4")


class MapRecords:
    """Maps as one caller may see and add to them."""

    def __init__(self, database: Database, blobs: Blobs, access: Access | None = None) -> None:
        self._database, self._blobs, self._access = database, blobs, access or Access()

    def add(
        self, name: str, file: MapFile, *, job_id: str | None = None, idempotency_key: str | None = None
    ) -> tuple[StoredMap, bool]:
        """Keep a map: the whole of it is there when this returns, or none.

        What was fitted by the same job, or uploaded with the same content and name, is the map that is there already. The
        caller holds the folder's lock for uploads.

        Returns
        -------
        tuple of StoredMap and bool
            The map, and whether it is new.

        Raises
        ------
        QuotaExceeded, StorageFull, KeyReused
        """
        names = sorted(file.tensors)
        size = sum(tensor.nbytes for tensor in file.tensors.values())
        with self._database.read() as connection:
            refuse_over_quota(connection, self._access, size)  # before anything is written
        (layer,) = self._blobs.put(_flatten(file))
        owner, map_id = self._access.owner, f"map_{secrets.token_hex(16)}"
        content = {"job": job_id} if job_id else [file.card.model_dump(mode="json", by_alias=True), name]
        values = {
            "id": map_id,
            "owner": owner,
            "identity": hashlib.sha256(canonical([content, owner])).hexdigest(),
            "name": name,
            "card": file.card.model_dump(mode="json", by_alias=True),
            "digest": layer.digest,
            "shapes": {each: list(file.tensors[each].shape) for each in names},
            "bytes": size,
            "created_at": datetime.now(UTC),
        }
        with self._database.write() as connection:
            insert = insert_postgresql if connection.dialect.name == "postgresql" else insert_sqlite
            statement = insert(tables.maps).values(values).on_conflict_do_nothing(index_elements=["identity"])
            created = connection.execute(statement.returning(_map.id)).first() is not None
            if created:
                refuse_over_quota(connection, self._access, 0)
            query = sa.select(tables.maps).where(_map.identity == values["identity"])
            row = connection.execute(query).one()
            if idempotency_key is not None:
                bind_key(connection, tables.map_keys, owner, idempotency_key, row.identity, row.id)
            return _to_map(row), created

    def get(self, map_id: str) -> StoredMap:
        """One map; NotFound where there is none."""
        return _to_map(self._row(map_id))

    def open(self, map_id: str) -> tuple[StoredMap, MapFile]:
        """One map with its weights in memory.

        Raises
        ------
        NotFound
            There is none.
        Unavailable
            Its weights are missing or damaged.
        """
        row = self._row(map_id)
        stored = _to_map(row)
        shapes: dict[str, list[int]] = row.shapes
        layer = self._open(row)
        values = layer.rows(0, layer.n).reshape(-1)
        ends = np.cumsum([prod(shapes[name]) for name in sorted(shapes)])[:-1]
        parts = zip(sorted(shapes), np.split(values, ends), strict=True)
        file = MapFile(stored.card, {name: part.reshape(shapes[name]) for name, part in parts})
        try:
            file.check()
        except Exception as error:
            raise Unavailable("A stored map is damaged.", value=map_id) from error
        return stored, file

    def find_fault(self, map_id: str, *, deep: bool) -> str | None:
        """What is wrong with a map's weights: with their size, or with `deep` also with their bytes. NotFound as in `get`."""
        row = self._row(map_id)
        try:
            layer = self._open(row)
            return "its bytes are not those of its digest." if deep and not layer.is_sound() else None
        except Unavailable as error:
            return error.detail

    def page(self, cursor: str | None, limit: int, name: str | None = None) -> MapPage:
        """At most `limit` maps, newest first, of this name; InvalidRequest where cursor or limit cannot be used."""
        query = sa.select(tables.maps).where(self._access.sees(_map.owner))
        if name is not None:
            query = query.where(_map.name == name)
        with self._database.read() as connection:
            page = read_page(connection, query, tables.maps, cursor, limit)
        data = tuple(_to_map(row) for row in page.rows)
        return MapPage(data=data, has_more=page.next_cursor is not None, next_cursor=page.next_cursor)

    def delete(self, map_id: str) -> tuple[str, ...]:
        """Forget a map; the digest of its weights, if no record names them any more. NotFound where there is none."""
        with self._database.write() as connection:
            statement = sa.delete(tables.maps).where(self._is(map_id)).returning(_map.digest)
            digest = connection.execute(statement).scalar()
            if digest is None:
                raise _not_found(map_id)
            return tuple({digest} - named_blobs(connection, {digest}))

    def _open(self, row: Row[Any]) -> StoredLayer:
        count = sum(prod(shape) for shape in row.shapes.values())
        return self._blobs.open(Layer(name="0", dim=1, dtype="F32", digest=row.digest), count)

    def _row(self, map_id: str) -> Row[Any]:
        with self._database.read() as connection:
            row = connection.execute(sa.select(tables.maps).where(self._is(map_id))).first()
        if row is None:
            raise _not_found(map_id)
        return row

    def _is(self, map_id: str) -> ColumnElement[bool]:
        if not MAP_ID.fullmatch(map_id):
            raise _not_found(map_id)
        return sa.and_(_map.id == map_id, self._access.sees(_map.owner))


def _flatten(file: MapFile) -> OpenFile:
    """All weights as one layer of numbers, one a row, tensor after tensor in the order of their names."""
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


def _not_found(map_id: str) -> NotFound:
    return NotFound("There is no such map.", value=map_id)
