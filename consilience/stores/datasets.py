"""Datasets: what was uploaded or built, under which label, and where its views are."""

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Row
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from consilience.contract.datasets import Dataset, DatasetPage, ViewRecord
from consilience.contract.embeddings import Column
from consilience.errors import NotFound
from consilience.formats.digests import canonical
from consilience.formats.items.packs import dataset_digest
from consilience.stores import tables
from consilience.stores.access import Access
from consilience.stores.database import Database
from consilience.stores.pages import read_page
from consilience.stores.quotas import quota_left, refuse_over_quota
from consilience.stores.upload_keys import bind_key
from consilience.stores.uses import named_blobs, refuse_if_used

DATASET_ID = re.compile(r"ds_[0-9a-f]{32}")
_dataset = tables.datasets.c


class DatasetLabel(NamedTuple):
    """What a dataset is called, and where it comes from."""

    name: str
    metadata: Mapping[str, Any]
    builtin: str | None = None
    """Of a built-in one: its name, options and version, which say all that is in it."""


class DatasetRecords:
    """The rows of datasets, as one caller may see and add to them; the bytes are in `Blobs`."""

    def __init__(self, database: Database, access: Access | None = None) -> None:
        self._database, self._access = database, access or Access()

    def add(
        self, label: DatasetLabel, views: Sequence[ViewRecord], ids: Column, idempotency_key: str | None = None
    ) -> tuple[Dataset, bool]:
        """Record a dataset; the same content under the same label is the one that is there already.

        Returns
        -------
        tuple of Dataset and bool
            The dataset, and whether it is new.

        Raises
        ------
        QuotaExceeded
            The owner would keep too much.
        KeyReused
            The key came before, with another content, name or metadata.
        """
        owner, dataset_id = self._access.owner, f"ds_{secrets.token_hex(16)}"
        digest = dataset_digest(ids.digest, [(view.name, view.kind, view.digest) for view in views])
        values = {
            "id": dataset_id,
            "owner": owner,
            "identity": self._identity(label, digest),
            "name": label.name,
            "n": ids.unique,
            "ids_digest": ids.digest,
            "digest": digest,
            "source": "upload" if label.builtin is None else "builtin",
            "metadata": dict(label.metadata),
            "bytes": sum(view.bytes for view in views),
            "created_at": datetime.now(UTC),
        }
        with self._database.write() as connection:
            insert = insert_postgresql if connection.dialect.name == "postgresql" else insert_sqlite
            statement = insert(tables.datasets).values(values).on_conflict_do_nothing(index_elements=["identity"])
            created = connection.execute(statement.returning(_dataset.id)).first() is not None
            if created:
                refuse_over_quota(connection, self._access, 0)
                rows = [{"dataset_id": dataset_id, "position": i, **view.model_dump()} for i, view in enumerate(views)]
                connection.execute(sa.insert(tables.dataset_views), rows)
            [stored] = self._find(connection, _dataset.identity == values["identity"])
            if idempotency_key is not None:
                bind_key(connection, tables.dataset_keys, owner, idempotency_key, stored.identity, stored.id)
            return _load(connection, [stored])[0], created

    def find_builtin(self, label: DatasetLabel) -> Dataset | None:
        """The built-in dataset of this label, where the owner has it already."""
        with self._database.read() as connection:
            found = self._find(connection, _dataset.identity == self._identity(label, ""))
            return _load(connection, found)[0] if found else None

    def hold(self, dataset_id: str, job_id: str) -> None:
        """Keep a dataset from being deleted before the job has finished; NotFound where it is gone already."""
        row = {"job_id": job_id, "dataset_id": dataset_id}
        with self._database.write() as connection:
            hold_datasets(connection, (dataset_id,), self._access)
            if connection.execute(sa.select(tables.job_datasets.c.job_id).filter_by(**row)).first() is None:
                connection.execute(sa.insert(tables.job_datasets).values(row))

    def get(self, dataset_id: str) -> Dataset:
        """One dataset; NotFound where there is none."""
        with self._database.read() as connection:
            found = _load(connection, self._find(connection, self._is(dataset_id)))
        if not found:
            raise _not_found(dataset_id)
        return found[0]

    def page(self, cursor: str | None, limit: int, name: str | None = None) -> DatasetPage:
        """At most `limit` datasets, newest first, of this name; InvalidRequest where cursor or limit cannot be used."""
        query = sa.select(tables.datasets).where(self._access.sees(_dataset.owner))
        if name is not None:
            query = query.where(_dataset.name == name)
        with self._database.read() as connection:
            page = read_page(connection, query, tables.datasets, cursor, limit)
            data = _load(connection, page.rows)
        return DatasetPage(data=tuple(data), has_more=page.next_cursor is not None, next_cursor=page.next_cursor)

    def delete(self, dataset_id: str) -> tuple[str, ...]:
        """Forget a dataset.

        Returns
        -------
        tuple of str
            The digests of its views and ids that no record names any more: their blobs may go.

        Raises
        ------
        NotFound
            There is no such dataset.
        InUse
            An unfinished job needs it.
        """
        with self._database.write() as connection:
            # The lock keeps a job from being added between this look and the deletion.
            query = sa.select(_dataset.ids_digest).where(self._is(dataset_id)).with_for_update()
            ids = connection.execute(query).scalar()
            if ids is None:
                raise _not_found(dataset_id)
            refuse_if_used(connection, tables.job_datasets.c.dataset_id, dataset_id)
            view = tables.dataset_views.c
            own = sa.select(view.digest).where(view.dataset_id == dataset_id)
            digests = {ids, *connection.execute(own).scalars()}
            connection.execute(sa.delete(tables.datasets).where(_dataset.id == dataset_id))
            return tuple(sorted(digests - named_blobs(connection, digests)))

    def quota_left(self) -> int | None:
        """Bytes that the owner may still keep, never less than 0; None where there is no limit."""
        return quota_left(self._database, self._access)

    def _identity(self, label: DatasetLabel, digest: str) -> str:
        content = digest if label.builtin is None else {"builtin": label.builtin}
        owner = self._access.owner
        return hashlib.sha256(canonical([content, label.name, label.metadata, owner])).hexdigest()

    def _find(self, connection: Connection, *conditions: ColumnElement[bool]) -> Sequence[Row[Any]]:
        return connection.execute(sa.select(tables.datasets).where(*conditions)).all()

    def _is(self, dataset_id: str) -> ColumnElement[bool]:
        return sa.and_(_dataset.id == _checked(dataset_id), self._access.sees(_dataset.owner))


def hold_datasets(connection: Connection, dataset_ids: Iterable[str], access: Access) -> None:
    """Keep the datasets from being deleted until this transaction has committed the job that uses them.

    Raises NotFound where one is not there.
    """
    wanted = list(dataset_ids)
    query = sa.select(_dataset.id).where(_dataset.id.in_(wanted), access.sees(_dataset.owner))
    found = set(connection.execute(query.with_for_update(read=True)).scalars())
    for each in wanted:
        if each not in found:
            raise _not_found(each)


def _load(connection: Connection, rows: Sequence[Row[Any]]) -> list[Dataset]:
    """The datasets of these rows, in their order, with their views."""
    view = tables.dataset_views.c
    query = sa.select(tables.dataset_views).where(view.dataset_id.in_([row.id for row in rows])).order_by(view.position)
    own: dict[str, list[ViewRecord]] = {row.id: [] for row in rows}
    for each in connection.execute(query) if rows else ():
        own[each.dataset_id].append(ViewRecord.model_validate(each, from_attributes=True))
    return [_to_dataset(row, own[row.id]) for row in rows]


def _to_dataset(row: Row[Any], views: Iterable[ViewRecord]) -> Dataset:
    fields = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for a row as a dictionary
    del fields["identity"]
    ids = Column(digest=fields.pop("ids_digest"), unique=row.n)
    return Dataset(**fields, ids=ids, views=tuple(views), links={"self": f"/v1/datasets/{row.id}"})


def _checked(dataset_id: str) -> str:
    """An id that can be one; anything else would not even reach the table."""
    if not DATASET_ID.fullmatch(dataset_id):
        raise _not_found(dataset_id)
    return dataset_id


def _not_found(dataset_id: str) -> NotFound:
    return NotFound("There is no such dataset.", value=dataset_id)
