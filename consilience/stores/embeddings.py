"""Embedding sets: their records in the database, and a repository that stores their content too."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from consilience.contract.embeddings import Column, EmbeddingPage, EmbeddingSet, Layer
from consilience.contract.keys import DEFAULT_OWNER
from consilience.contract.records import SetRecord
from consilience.formats.open_file import LayerSource
from consilience.formats.reading import canonical_json
from consilience.stores import tables
from consilience.stores.blobs import BlobStore, set_digest
from consilience.stores.database import Database
from consilience.stores.files import upload_lock
from consilience.stores.records import EMBEDDINGS, Access, check_not_member, check_quota, quota_left

_embedding = tables.embeddings.c


class Provenance(NamedTuple):
    """Origin of a set that a model made."""

    extraction: str
    """SHA-256 of everything that determines the content of the set. An equal extraction is not run again."""
    record: SetRecord
    job_id: str
    """Job that made the set. The set cannot be deleted before the job has finished."""


class EmbeddingRecords:
    """Records of embedding sets, limited to the access of one principal. The content is in `BlobStore`."""

    def __init__(self, database: Database, access: Access | None = None) -> None:
        self._database, self._access = database, access or Access()

    def add(  # noqa: PLR0917 - the fields of a set, in the contract's order
        self,
        name: str,
        n: int,
        layers: Sequence[Layer],
        digest: str,
        metadata: Mapping[str, Any],
        bytes: int,  # noqa: A002 - the word of the contract
        *,
        ids: Column | None = None,
        groups: Column | None = None,
        idempotency_key: str | None = None,
        provenance: Provenance | None = None,
    ) -> tuple[EmbeddingSet, bool]:
        """Record a set. If a set with the same content, name and metadata exists, return that one.

        Returns
        -------
        tuple of EmbeddingSet and bool
            The set, and True if it is new.

        Raises
        ------
        QuotaExceeded
            The set would exceed the storage limit of the owner.
        KeyReused
            The idempotency key was used before with other content, another name or other metadata.
        """
        values = {
            "identity": _identify(self._access.owner, digest, name, metadata, provenance),
            "name": name,
            "n": n,
            "digest": digest,
            "metadata": dict(metadata),
            "bytes": bytes,
            **_column_values("ids", ids),
            **_column_values("groups", groups),
            **_origin_values(provenance),
        }
        with self._database.write() as connection:
            row, created = EMBEDDINGS.insert(connection, self._access, values, idempotency_key)
            if created:
                _add_layers(connection, row.id, layers, metadata)
            if provenance is not None:
                EMBEDDINGS.link_to_job(connection, provenance.job_id, [row.id])
            return _load(connection, [row])[0], created

    def find_made(self, extraction: str) -> EmbeddingSet | None:
        """Return the owner's newest set of this extraction, or None if there is none."""
        query = (
            sa.select(tables.embeddings)
            .where(_embedding.extraction == extraction, _embedding.owner == self._access.owner)
            .order_by(_embedding.created_at.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            return next(iter(_load(connection, connection.execute(query).all())), None)

    def get(self, embedding_id: str) -> EmbeddingSet:
        """Return one set. Raise NotFound if there is none."""
        with self._database.read() as connection:
            return _load(connection, [EMBEDDINGS.find(connection, embedding_id, self._access)])[0]

    def page(
        self,
        cursor: str | None,
        limit: int,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> EmbeddingPage:
        """Return at most `limit` sets, newest first, with this name and each of these items in their metadata.

        Raises
        ------
        InvalidRequest
            The cursor or the limit is invalid.
        """
        marked = [
            _embedding.id.in_(sa.select(tables.labels.c.embedding_id).where(tables.labels.c.label == label))
            for label in _labels(metadata or {})
        ]
        with self._database.read() as connection:
            page = EMBEDDINGS.page(connection, self._access, cursor, limit, name, *marked)
            data = _load(connection, page.rows)
        return EmbeddingPage(data=tuple(data), has_more=page.has_more, next_cursor=page.next_cursor)

    def delete(self, embedding_id: str) -> tuple[str, ...]:
        """Delete the record of a set.

        Returns
        -------
        tuple of str
            Digests of its layers and columns that no other set refers to. Their blobs may be deleted.

        Raises
        ------
        NotFound
            The set does not exist.
        InUse
            An unfinished job uses the set, or the set is a member of a reference set.
        """
        with self._database.write() as connection:
            row = EMBEDDINGS.lock_for_delete(connection, embedding_id, self._access)
            check_not_member(connection, embedding_id)
            own = sa.select(tables.layers.c.digest).where(tables.layers.c.embedding_id == embedding_id)
            columns = filter(None, (row.ids_digest, row.groups_digest))
            return EMBEDDINGS.delete(connection, embedding_id, {*connection.execute(own).scalars(), *columns})

    def quota_left(self) -> int | None:
        """Return the bytes that the owner may still store, at least 0, or None if there is no limit."""
        return quota_left(self._database, self._access)

    def check_quota(self, more: int) -> None:
        """Raise QuotaExceeded if `more` bytes would exceed the storage limit of the owner."""
        with self._database.read() as connection:
            check_quota(connection, self._access, more)


def _add_layers(
    connection: Connection, embedding_id: str, layers: Sequence[Layer], metadata: Mapping[str, Any]
) -> None:
    rows = [
        {"embedding_id": embedding_id, "position": position, **layer.model_dump()}
        for position, layer in enumerate(layers)
    ]
    connection.execute(sa.insert(tables.layers), rows)
    if metadata:
        marks = [{"embedding_id": embedding_id, "label": label} for label in _labels(metadata)]
        connection.execute(sa.insert(tables.labels), marks)


def load_sets(connection: Connection, embedding_ids: Sequence[str]) -> list[EmbeddingSet]:
    """Return existing sets in the order of the given ids."""
    rows = connection.execute(sa.select(tables.embeddings).where(tables.embeddings.c.id.in_(embedding_ids))).all()
    by_id = {each.id: each for each in _load(connection, rows)}
    return [by_id[each] for each in embedding_ids]


def _load(connection: Connection, rows: Sequence[Row[Any]]) -> list[EmbeddingSet]:
    """Return the sets of these rows, in their order, with their layers."""
    query = (
        sa.select(tables.layers)
        .where(tables.layers.c.embedding_id.in_([row.id for row in rows]))
        .order_by(tables.layers.c.embedding_id, tables.layers.c.position)
    )
    own: dict[str, list[Layer]] = {row.id: [] for row in rows}
    for layer in connection.execute(query) if rows else ():
        own[layer.embedding_id].append(Layer(name=layer.name, dim=layer.dim, dtype=layer.dtype, digest=layer.digest))
    return [_to_set(row, own[row.id]) for row in rows]


def _to_set(row: Row[Any], own_layers: Iterable[Layer]) -> EmbeddingSet:
    fields = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for a row as a dictionary
    del fields["identity"], fields["extraction"]
    for name in ("ids", "groups"):
        digest, unique = fields.pop(f"{name}_digest"), fields.pop(f"{name}_unique")
        fields[name] = digest and Column(digest=digest, unique=unique)
    return EmbeddingSet(**fields, layers=tuple(own_layers), links={"self": f"/v1/embeddings/{row.id}"})


def _identify(owner: str, digest: str, name: str, metadata: Mapping[str, Any], provenance: Provenance | None) -> str:
    # The identity of a set of the default owner has no owner, as before API keys were introduced.
    marks = [
        *([owner] if owner != DEFAULT_OWNER else []),
        *([{"extraction": provenance.extraction}] if provenance else []),
    ]
    return _hash([digest, name, metadata, *marks])


def _origin_values(provenance: Provenance | None) -> dict[str, Any]:
    """Return the columns that record the origin of a set."""
    if provenance is None:
        return {"source": "upload", "extraction": None, "record": None}
    return {"source": "model", "extraction": provenance.extraction, "record": provenance.record.model_dump(mode="json")}


def _column_values(name: str, column: Column | None) -> dict[str, object]:
    return {f"{name}_digest": column and column.digest, f"{name}_unique": column and column.unique}


def _labels(metadata: Mapping[str, Any]) -> list[str]:
    return [_hash([key, value]) for key, value in metadata.items()]


def _hash(value: object) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()


@dataclass(frozen=True)
class EmbeddingRepository:
    """Stores the content and the records of sets on behalf of one principal."""

    records: EmbeddingRecords
    blobs: BlobStore
    root: Path

    def add(
        self,
        rows: LayerSource,
        name: str,
        metadata: Mapping[str, Any],
        *,
        ids: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        key: str | None = None,
        provenance: Provenance | None = None,
    ) -> tuple[EmbeddingSet, bool]:
        """Store layers and columns and record the set, completely or not at all. Return the set, and True if it is new.

        If recording fails, the garbage collector deletes the blobs that were written.

        Raises
        ------
        QuotaExceeded
            The set would exceed the storage limit of the owner. Checked before anything is written.
        KeyReused, StorageFull, Unavailable, or an error of reading the rows.
        """
        size = sum(layer.bytes for layer in rows.layers)
        with upload_lock(self.root):
            self.records.check_quota(size)
            layers = self.blobs.put(rows)
            columns = [None if each is None else self.blobs.put_column(each) for each in (ids, groups)]
            return self.records.add(
                name,
                rows.layers[0].n,
                layers,
                set_digest(layers, *columns),
                metadata,
                size,
                ids=columns[0],
                groups=columns[1],
                idempotency_key=key,
                provenance=provenance,
            )
