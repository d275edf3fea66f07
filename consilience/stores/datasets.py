"""Datasets: what was uploaded or built, under which label, and where its views are."""

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
from consilience.stores.blobs import Blobs
from consilience.stores.database import Database
from consilience.stores.files import an_upload
from consilience.stores.records import DATASETS, Access, quota_left

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
            row, created = DATASETS.keep(connection, self._access, values, idempotency_key)
            if created:
                rows = [{"dataset_id": row.id, "position": i, **view.model_dump()} for i, view in enumerate(views)]
                connection.execute(sa.insert(tables.dataset_views), rows)
            return _load(connection, [row])[0], created

    def find_builtin(self, label: DatasetLabel) -> Dataset | None:
        """The built-in dataset of this label, where the owner has it already."""
        query = sa.select(tables.datasets).where(_dataset.identity == self._identity(label, ""))
        with self._database.read() as connection:
            return next(iter(_load(connection, connection.execute(query).all())), None)

    def hold(self, dataset_id: str, job_id: str) -> None:
        """Keep a dataset from being deleted before the job has finished; NotFound where it is gone already."""
        with self._database.write() as connection:
            DATASETS.hold(connection, [dataset_id], self._access)
            DATASETS.tie(connection, job_id, [dataset_id])

    def get(self, dataset_id: str) -> Dataset:
        """One dataset; NotFound where there is none."""
        with self._database.read() as connection:
            return _load(connection, [DATASETS.find(connection, dataset_id, self._access)])[0]

    def page(self, cursor: str | None, limit: int, name: str | None = None) -> DatasetPage:
        """At most `limit` datasets, newest first, of this name; InvalidRequest where cursor or limit cannot be used."""
        with self._database.read() as connection:
            page = DATASETS.page(connection, self._access, cursor, limit, name)
            data = _load(connection, page.rows)
        return DatasetPage(data=tuple(data), has_more=page.has_more, next_cursor=page.next_cursor)

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
            row = DATASETS.release(connection, dataset_id, self._access)
            view = tables.dataset_views.c
            own = sa.select(view.digest).where(view.dataset_id == dataset_id)
            return DATASETS.forget(connection, dataset_id, {row.ids_digest, *connection.execute(own).scalars()})

    def quota_left(self) -> int | None:
        """Bytes that the owner may still keep, never less than 0; None where there is no limit."""
        return quota_left(self._database, self._access)

    def _identity(self, label: DatasetLabel, digest: str) -> str:
        content = digest if label.builtin is None else {"builtin": label.builtin}
        owner = self._access.owner
        return hashlib.sha256(canonical_json([content, label.name, label.metadata, owner])).hexdigest()


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


@dataclass(frozen=True)
class DatasetShelf:
    """Where one caller's datasets are kept."""

    records: DatasetRecords
    blobs: Blobs
    root: Path

    def keep(self, items: OpenItems, label: DatasetLabel, key: str | None = None) -> tuple[Dataset, bool]:
        """Keep the items' views and record the dataset; False where it was there already.

        What a refused item or record leaves behind, the collector finds.
        """
        left = self.records.quota_left()
        with an_upload(self.root):
            views, ids = self.blobs.put_items(
                items if left is None else replace(items, read=lambda: _within(items, left))
            )
            return self.records.add(label, views, ids, key)

    def keep_builtin(self, request: BuiltinRequest, key: str | None = None) -> tuple[Dataset, bool]:
        """Make a built-in dataset, where the owner has it not yet.

        Raises NotFound, InvalidRequest, BadItem for its words.
        """
        builtin = parse_builtin(request.builtin)
        label = _label_of(builtin, request)
        if key is None and (known := self.records.find_builtin(label)):
            return known, False
        dataset = builtin.open()
        if request.ids is not None:
            dataset = dataset.select(request.ids)
        return self.keep(items_of(dataset), label, key)

    def find_builtin(self, name: str) -> Dataset | None:
        """The built-in dataset of this name, where the owner has it already. Errors as `keep_builtin`."""
        request = BuiltinRequest(builtin=name)
        return self.records.find_builtin(_label_of(parse_builtin(name), request))


def items_of(dataset: OpenDataset) -> OpenItems:
    """A dataset's items, one after the other."""
    headers = tuple(ViewHeader(view.name, view.kind) for view in dataset.views)

    def read() -> Iterator[Item]:
        columns = [encoded_items(view) for view in dataset.views]
        for item, *values in zip(dataset.ids, *columns, strict=True):
            yield Item(item, tuple(values))

    return OpenItems(headers, read)


def _label_of(builtin: BuiltinDataset, request: BuiltinRequest) -> DatasetLabel:
    """Its own name and version stand in the metadata, where the user sees what it was made of."""
    own: dict[str, Any] = {"builtin": str(builtin), "version": builtin.version}
    chosen = ids_digest(request.ids) if request.ids is not None else "all"
    words = f"{builtin} ({builtin.version}), items {chosen}"
    return DatasetLabel(request.name or builtin.name, {**request.metadata, **own}, words)


def _within(items: OpenItems, left: int) -> Iterator[Item]:
    """The items, as long as the owner may keep them."""
    total = 0
    for item in items.read():
        total += sum(map(len, item.values))
        if total > left:
            raise QuotaExceeded(
                f"The items have more than the {left} bytes that the owner may still keep.",
                value=f"{total} bytes so far",
                limit=left,
                hint="Delete sets or datasets that are no longer needed; CONSILIENCE_OWNER_BYTES_LIMIT is the limit.",
            )
        yield item
