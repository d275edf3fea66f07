"""Embedding sets: what was uploaded, under which label, and where its layers are."""

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
from consilience.stores.blobs import Blobs, set_digest
from consilience.stores.database import Database
from consilience.stores.files import an_upload
from consilience.stores.records import EMBEDDINGS, Access, quota_left, refuse_if_member, refuse_over_quota

_embedding = tables.embeddings.c


class Making(NamedTuple):
    """How a model made a set."""

    extraction: str
    """SHA-256 of everything that decides what is in the set: the same again need not be made again."""
    record: SetRecord
    job_id: str
    """The job that made it, which holds it until it has finished."""


class EmbeddingRecords:
    """The rows of embedding sets, as one caller may see and add to them; the bytes are in `Blobs`."""

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
        making: Making | None = None,
    ) -> tuple[EmbeddingSet, bool]:
        """Record a set; the same content under the same name and metadata is the set that is there already.

        Returns
        -------
        tuple of EmbeddingSet and bool
            The set, and whether it is new.

        Raises
        ------
        QuotaExceeded
            The owner would keep too much.
        KeyReused
            The key came before, with another content, name or metadata.
        """
        values = {
            "identity": _identify(self._access.owner, digest, name, metadata, making),
            "name": name,
            "n": n,
            "digest": digest,
            "metadata": dict(metadata),
            "bytes": bytes,
            **_column_values("ids", ids),
            **_column_values("groups", groups),
            **_made_values(making),
        }
        with self._database.write() as connection:
            row, created = EMBEDDINGS.keep(connection, self._access, values, idempotency_key)
            if created:
                _add_parts(connection, row.id, layers, metadata)
            if making is not None:
                EMBEDDINGS.tie(connection, making.job_id, [row.id])
            return _load(connection, [row])[0], created

    def find_made(self, extraction: str) -> EmbeddingSet | None:
        """The owner's newest set of this extraction; None where there is none."""
        query = (
            sa.select(tables.embeddings)
            .where(_embedding.extraction == extraction, _embedding.owner == self._access.owner)
            .order_by(_embedding.created_at.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            return next(iter(_load(connection, connection.execute(query).all())), None)

    def get(self, embedding_id: str) -> EmbeddingSet:
        """One set; NotFound where there is none."""
        with self._database.read() as connection:
            return _load(connection, [EMBEDDINGS.find(connection, embedding_id, self._access)])[0]

    def page(
        self,
        cursor: str | None,
        limit: int,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> EmbeddingPage:
        """At most `limit` sets, newest first, of this name and with each of these items in their metadata.

        Raises
        ------
        InvalidRequest
            The cursor or the limit cannot be used.
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
        """Forget a set.

        Returns
        -------
        tuple of str
            The digests of its layers and columns that no other set refers to: their blobs may go.

        Raises
        ------
        NotFound
            There is no such set.
        InUse
            An unfinished job needs it, or a reference set has it as a member.
        """
        with self._database.write() as connection:
            row = EMBEDDINGS.release(connection, embedding_id, self._access)
            refuse_if_member(connection, embedding_id)
            own = sa.select(tables.layers.c.digest).where(tables.layers.c.embedding_id == embedding_id)
            columns = filter(None, (row.ids_digest, row.groups_digest))
            return EMBEDDINGS.forget(connection, embedding_id, {*connection.execute(own).scalars(), *columns})

    def quota_left(self) -> int | None:
        """Bytes that the owner may still keep, never less than 0; None where there is no limit."""
        return quota_left(self._database, self._access)

    def check_quota(self, more: int) -> None:
        """Raise QuotaExceeded where `more` bytes would be more than the owner may keep."""
        with self._database.read() as connection:
            refuse_over_quota(connection, self._access, more)


def _add_parts(connection: Connection, embedding_id: str, layers: Sequence[Layer], metadata: Mapping[str, Any]) -> None:
    rows = [
        {"embedding_id": embedding_id, "position": position, **layer.model_dump()}
        for position, layer in enumerate(layers)
    ]
    connection.execute(sa.insert(tables.layers), rows)
    if metadata:
        marks = [{"embedding_id": embedding_id, "label": label} for label in _labels(metadata)]
        connection.execute(sa.insert(tables.labels), marks)


def load_sets(connection: Connection, embedding_ids: Sequence[str]) -> list[EmbeddingSet]:
    """Sets that are there, in the order of their ids."""
    rows = connection.execute(sa.select(tables.embeddings).where(tables.embeddings.c.id.in_(embedding_ids))).all()
    found = {each.id: each for each in _load(connection, rows)}
    return [found[each] for each in embedding_ids]


def _load(connection: Connection, rows: Sequence[Row[Any]]) -> list[EmbeddingSet]:
    """The sets of these rows, in their order, with their layers."""
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


def _identify(owner: str, digest: str, name: str, metadata: Mapping[str, Any], making: Making | None) -> str:
    # Sets without an owner in their identity are those of the time before keys.
    marks = [*([owner] if owner != DEFAULT_OWNER else []), *([{"extraction": making.extraction}] if making else [])]
    return _hash([digest, name, metadata, *marks])


def _made_values(making: Making | None) -> dict[str, Any]:
    """What is noted of a set by where it comes from."""
    if making is None:
        return {"source": "upload", "extraction": None, "record": None}
    return {"source": "model", "extraction": making.extraction, "record": making.record.model_dump(mode="json")}


def _column_values(name: str, column: Column | None) -> dict[str, object]:
    return {f"{name}_digest": column and column.digest, f"{name}_unique": column and column.unique}


def _labels(metadata: Mapping[str, Any]) -> list[str]:
    return [_hash([key, value]) for key, value in metadata.items()]


def _hash(value: object) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()


@dataclass(frozen=True)
class SetShelf:
    """Where one caller's sets are kept."""

    records: EmbeddingRecords
    blobs: Blobs
    root: Path

    def keep(
        self,
        rows: LayerSource,
        name: str,
        metadata: Mapping[str, Any],
        *,
        ids: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        key: str | None = None,
        making: Making | None = None,
    ) -> tuple[EmbeddingSet, bool]:
        """Keep layers and columns and record the set: whole, or not at all; False where it was there already.

        What a refused record leaves behind, the collector finds.

        Raises
        ------
        QuotaExceeded
            The owner would keep too much; found before anything is written.
        KeyReused, StorageFull, Unavailable, or what reading the rows raises.
        """
        size = sum(layer.bytes for layer in rows.layers)
        with an_upload(self.root):
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
                making=making,
            )
