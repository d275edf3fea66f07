"""Embedding sets: what was uploaded, under which label, and where its layers are."""

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Row
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from consilience.contract.embeddings import Column, EmbeddingPage, EmbeddingSet, Layer
from consilience.contract.keys import DEFAULT_OWNER
from consilience.contract.records import SetRecord
from consilience.errors import NotFound
from consilience.stores import tables
from consilience.stores.access import Access
from consilience.stores.database import Database
from consilience.stores.pages import read_page
from consilience.stores.quotas import quota_left, refuse_over_quota
from consilience.stores.upload_keys import bind_key
from consilience.stores.uses import named_blobs, refuse_if_member, refuse_if_used

EMBEDDING_ID = re.compile(r"emb_[0-9a-f]{32}")
COLUMN_DIGESTS = (tables.embeddings.c.ids_digest, tables.embeddings.c.groups_digest)


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
        owner = self._access.owner
        identity = _identify(owner, digest, name, metadata, making)
        embedding_id = f"emb_{secrets.token_hex(16)}"
        values = {
            "id": embedding_id,
            "owner": owner,
            "identity": identity,
            "name": name,
            "n": n,
            "digest": digest,
            "metadata": dict(metadata),
            "bytes": bytes,
            "created_at": datetime.now(UTC),
            **_column_values("ids", ids),
            **_column_values("groups", groups),
            **_made_values(making),
        }
        with self._database.write() as connection:
            insert = insert_postgresql if connection.dialect.name == "postgresql" else insert_sqlite
            statement = insert(tables.embeddings).values(values).on_conflict_do_nothing(index_elements=["identity"])
            created = connection.execute(statement.returning(tables.embeddings.c.id)).first() is not None
            if created:
                refuse_over_quota(connection, self._access, 0)
                _add_parts(connection, embedding_id, layers, metadata)
            query = sa.select(tables.embeddings).where(tables.embeddings.c.identity == identity)
            stored = _load(connection, connection.execute(query).all())[0]
            if idempotency_key is not None:
                bind_key(connection, tables.upload_keys, owner, idempotency_key, identity, stored.id)
            if making is not None:
                _hold(connection, making.job_id, stored.id)
            return stored, created

    def find_made(self, extraction: str) -> EmbeddingSet | None:
        """The owner's newest set of this extraction; None where there is none."""
        query = (
            sa.select(tables.embeddings)
            .where(tables.embeddings.c.extraction == extraction, tables.embeddings.c.owner == self._access.owner)
            .order_by(tables.embeddings.c.created_at.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            return next(iter(_load(connection, connection.execute(query).all())), None)

    def get(self, embedding_id: str) -> EmbeddingSet:
        """One set; NotFound where there is none."""
        with self._database.read() as connection:
            query = sa.select(tables.embeddings).where(self._is(embedding_id))
            found = _load(connection, connection.execute(query).all())
        if not found:
            raise _not_found(embedding_id)
        return found[0]

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
        query = sa.select(tables.embeddings).where(self._access.sees(tables.embeddings.c.owner))
        if name is not None:
            query = query.where(tables.embeddings.c.name == name)
        for label in _labels(metadata or {}):
            query = query.where(
                tables.embeddings.c.id.in_(
                    sa.select(tables.labels.c.embedding_id).where(tables.labels.c.label == label)
                )
            )
        with self._database.read() as connection:
            page = read_page(connection, query, tables.embeddings, cursor, limit)
            data = _load(connection, page.rows)
        return EmbeddingPage(data=tuple(data), has_more=page.next_cursor is not None, next_cursor=page.next_cursor)

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
            # The lock keeps a job from being added between this look and the deletion.
            query = sa.select(*COLUMN_DIGESTS).where(self._is(embedding_id)).with_for_update()
            columns = connection.execute(query).first()
            if columns is None:
                raise _not_found(embedding_id)
            refuse_if_used(connection, tables.job_embeddings.c.embedding_id, embedding_id)
            refuse_if_member(connection, embedding_id)
            own = sa.select(tables.layers.c.digest).where(tables.layers.c.embedding_id == embedding_id).distinct()
            digests = {*connection.execute(own).scalars(), *filter(None, columns)}
            connection.execute(sa.delete(tables.embeddings).where(tables.embeddings.c.id == embedding_id))
            return tuple(sorted(digests - named_blobs(connection, digests)))

    def quota_left(self) -> int | None:
        """Bytes that the owner may still keep, never less than 0; None where there is no limit."""
        return quota_left(self._database, self._access)

    def check_quota(self, more: int) -> None:
        """Raise QuotaExceeded where `more` bytes would be more than the owner may keep."""
        with self._database.read() as connection:
            refuse_over_quota(connection, self._access, more)

    def _is(self, embedding_id: str) -> ColumnElement[bool]:
        return sa.and_(tables.embeddings.c.id == _checked(embedding_id), self._access.sees(tables.embeddings.c.owner))


def _add_parts(connection: Connection, embedding_id: str, layers: Sequence[Layer], metadata: Mapping[str, Any]) -> None:
    rows = [
        {"embedding_id": embedding_id, "position": position, **layer.model_dump()}
        for position, layer in enumerate(layers)
    ]
    connection.execute(sa.insert(tables.layers), rows)
    if metadata:
        marks = [{"embedding_id": embedding_id, "label": label} for label in _labels(metadata)]
        connection.execute(sa.insert(tables.labels), marks)


def hold_sets(connection: Connection, embedding_ids: Sequence[str], access: Access) -> None:
    """Keep the sets from being deleted until this transaction has committed what uses them.

    Raises NotFound where one is not there.
    """
    embedding = tables.embeddings.c
    query = sa.select(embedding.id).where(embedding.id.in_(embedding_ids), access.sees(embedding.owner))
    found = set(connection.execute(query.with_for_update(read=True)).scalars())
    for each in embedding_ids:
        if each not in found:
            raise _not_found(each)


def load_sets(connection: Connection, embedding_ids: Sequence[str]) -> list[EmbeddingSet]:
    """Sets that are there, in the order of their ids."""
    rows = connection.execute(sa.select(tables.embeddings).where(tables.embeddings.c.id.in_(embedding_ids))).all()
    found = {each.id: each for each in _load(connection, rows)}
    return [found[each] for each in embedding_ids]


def _hold(connection: Connection, job_id: str, embedding_id: str) -> None:
    """Keep a set from being deleted before the job has finished."""
    row = {"job_id": job_id, "embedding_id": embedding_id}
    known = sa.select(tables.job_embeddings.c.job_id).filter_by(**row)
    if connection.execute(known).first() is None:
        connection.execute(sa.insert(tables.job_embeddings).values(row))


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
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _checked(embedding_id: str) -> str:
    """An id that can be one; anything else would not even reach the table."""
    if not EMBEDDING_ID.fullmatch(embedding_id):
        raise _not_found(embedding_id)
    return embedding_id


def _not_found(embedding_id: str) -> NotFound:
    return NotFound("There is no such embedding set.", value=embedding_id)
