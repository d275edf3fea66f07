"""Datasets: their records in the database, and a repository that stores their content too."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from consilience.contract.datasets import BuiltinRequest, Dataset, DatasetPage, ViewRecord
from consilience.contract.embeddings import Column
from consilience.datasets.builtin import BuiltinDataset, parse_builtin
from consilience.datasets.views import OpenDataset, encoded_items
from consilience.errors import QuotaExceeded
from consilience.formats.items.item import Item, OpenItems, ViewHeader, dataset_digest, ids_digest
from consilience.formats.reading import canonical_json
from consilience.stores import tables
from consilience.stores.blobs import BlobStore
from consilience.stores.database import Database
from consilience.stores.files import upload_lock
from consilience.stores.records import DATASETS, Access, quota_left

_dataset = tables.datasets.c


class DatasetLabel(NamedTuple):
    """Name, metadata and origin of a dataset."""

    name: str
    metadata: Mapping[str, Any]
    builtin: str | None = None
    """Name, options and version of a built-in dataset, which determine its content. None for an upload."""


class DatasetRecords:
    """Records of datasets, limited to the access of one principal. The content is in `BlobStore`."""

    def __init__(self, database: Database, access: Access | None = None) -> None:
        self._database, self._access = database, access or Access()

    def add(
        self, label: DatasetLabel, views: Sequence[ViewRecord], ids: Column, idempotency_key: str | None = None
    ) -> tuple[Dataset, bool]:
        """Record a dataset. If a dataset with the same content and label exists, return that one.

        Returns
        -------
        tuple of Dataset and bool
            The dataset, and True if it is new.

        Raises
        ------
        QuotaExceeded
            The dataset would exceed the storage limit of the owner.
        KeyReused
            The idempotency key was used before with other content, another name or other metadata.
        """
        digest = dataset_digest(ids.digest, [(view.name, view.kind, view.digest) for view in views])
        values = {
            "identity": self._identity(label, digest),
            "name": label.name,
            "n": ids.unique,
            "ids_digest": ids.digest,
            "digest": digest,
            "source": "upload" if label.builtin is None else "builtin",
            "metadata": dict(label.metadata),
            "bytes": sum(view.bytes for view in views),
        }
        with self._database.write() as connection:
            row, created = DATASETS.insert(connection, self._access, values, idempotency_key)
            if created:
                rows = [{"dataset_id": row.id, "position": i, **view.model_dump()} for i, view in enumerate(views)]
                connection.execute(sa.insert(tables.dataset_views), rows)
            return _load(connection, [row])[0], created

    def find_builtin(self, label: DatasetLabel) -> Dataset | None:
        """Return the owner's built-in dataset with this label, or None if there is none."""
        query = sa.select(tables.datasets).where(_dataset.identity == self._identity(label, ""))
        with self._database.read() as connection:
            return next(iter(_load(connection, connection.execute(query).all())), None)

    def link_to_job(self, dataset_id: str, job_id: str) -> None:
        """Link a dataset to a job, so that it cannot be deleted before the job has finished. Raise NotFound if it is gone."""
        with self._database.write() as connection:
            DATASETS.lock_for_use(connection, [dataset_id], self._access)
            DATASETS.link_to_job(connection, job_id, [dataset_id])

    def get(self, dataset_id: str) -> Dataset:
        """Return one dataset. Raise NotFound if there is none."""
        with self._database.read() as connection:
            return _load(connection, [DATASETS.find(connection, dataset_id, self._access)])[0]

    def page(self, cursor: str | None, limit: int, name: str | None = None) -> DatasetPage:
        """Return at most `limit` datasets with this name, newest first. Raise InvalidRequest for an invalid cursor or limit."""
        with self._database.read() as connection:
            page = DATASETS.page(connection, self._access, cursor, limit, name)
            data = _load(connection, page.rows)
        return DatasetPage(data=tuple(data), has_more=page.has_more, next_cursor=page.next_cursor)

    def delete(self, dataset_id: str) -> tuple[str, ...]:
        """Delete the record of a dataset.

        Returns
        -------
        tuple of str
            Digests of its views and ids that no record refers to any more. Their blobs may be deleted.

        Raises
        ------
        NotFound
            The dataset does not exist.
        InUse
            An unfinished job uses the dataset.
        """
        with self._database.write() as connection:
            row = DATASETS.lock_for_delete(connection, dataset_id, self._access)
            view = tables.dataset_views.c
            own = sa.select(view.digest).where(view.dataset_id == dataset_id)
            return DATASETS.delete(connection, dataset_id, {row.ids_digest, *connection.execute(own).scalars()})

    def quota_left(self) -> int | None:
        """Return the bytes that the owner may still store, at least 0, or None if there is no limit."""
        return quota_left(self._database, self._access)

    def _identity(self, label: DatasetLabel, digest: str) -> str:
        content = digest if label.builtin is None else {"builtin": label.builtin}
        owner = self._access.owner
        return hashlib.sha256(canonical_json([content, label.name, label.metadata, owner])).hexdigest()


def _load(connection: Connection, rows: Sequence[Row[Any]]) -> list[Dataset]:
    """Return the datasets of these rows, in their order, with their views."""
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


@dataclass(frozen=True)
class DatasetRepository:
    """Stores the content and the records of datasets on behalf of one principal."""

    records: DatasetRecords
    blobs: BlobStore
    root: Path

    def add(self, items: OpenItems, label: DatasetLabel, key: str | None = None) -> tuple[Dataset, bool]:
        """Store the views of the items and record the dataset. Return the dataset, and True if it is new.

        If an item or the record is rejected, the garbage collector deletes the blobs that were written.
        """
        left = self.records.quota_left()
        with upload_lock(self.root):
            views, ids = self.blobs.put_items(
                items if left is None else replace(items, read=lambda: _limit_size(items, left))
            )
            return self.records.add(label, views, ids, key)

    def add_builtin(self, request: BuiltinRequest, key: str | None = None) -> tuple[Dataset, bool]:
        """Make a built-in dataset unless the owner has it already.

        Raises NotFound, InvalidRequest or BadItem for an invalid name, option or id.
        """
        builtin = parse_builtin(request.builtin)
        label = _label_of(builtin, request)
        if key is None and (known := self.records.find_builtin(label)):
            return known, False
        dataset = builtin.open()
        if request.ids is not None:
            dataset = dataset.select(request.ids)
        return self.add(open_items(dataset), label, key)

    def find_builtin(self, name: str) -> Dataset | None:
        """Return the owner's built-in dataset of this name, or None if there is none. Raise errors as `add_builtin` does."""
        request = BuiltinRequest(builtin=name)
        return self.records.find_builtin(_label_of(parse_builtin(name), request))


def open_items(dataset: OpenDataset) -> OpenItems:
    """Return the items of a dataset, to be read one after the other."""
    headers = tuple(ViewHeader(view.name, view.kind) for view in dataset.views)

    def read() -> Iterator[Item]:
        columns = [encoded_items(view) for view in dataset.views]
        for item, *values in zip(dataset.ids, *columns, strict=True):
            yield Item(item, tuple(values))

    return OpenItems(headers, read)


def _label_of(builtin: BuiltinDataset, request: BuiltinRequest) -> DatasetLabel:
    """Return the label of a built-in dataset, with its name and version in the metadata."""
    own: dict[str, Any] = {"builtin": str(builtin), "version": builtin.version}
    chosen = ids_digest(request.ids) if request.ids is not None else "all"
    description = f"{builtin} ({builtin.version}), items {chosen}"
    return DatasetLabel(request.name or builtin.name, {**request.metadata, **own}, description)


def _limit_size(items: OpenItems, left: int) -> Iterator[Item]:
    """Iterate over the items. Raise QuotaExceeded as soon as they exceed `left` bytes."""
    total = 0
    for item in items.read():
        total += sum(map(len, item.values))
        if total > left:
            raise QuotaExceeded(
                f"The items exceed the {left} bytes that the owner may still store.",
                value=f"{total} bytes so far",
                limit=left,
                hint="Delete sets or datasets that are no longer needed. "
                "The operator sets the limit with CONSILIENCE_OWNER_BYTES_LIMIT.",
            )
        yield item
