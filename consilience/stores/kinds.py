"""What records of every kind share: ids, owners, one row for the same thing, keys, ties to jobs, pages and an end."""

import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, ColumnElement, Connection, Row, Select, Table

from consilience.contract.jobs import UNFINISHED
from consilience.errors import InUse, KeyReused, NotFound
from consilience.stores import tables
from consilience.stores.access import Access
from consilience.stores.database import insert_if_new, take_turns
from consilience.stores.pages import Page, read_page
from consilience.stores.quotas import enforce_quota
from consilience.stores.uses import named_blobs


@dataclass(frozen=True, eq=False)
class RecordKind:
    """Records that callers make and name.

    Attributes
    ----------
    word : what one is called
    prefix : what its id begins with
    table : their rows; `identity` says what makes two the same, `bytes` (if any) what counts for the owner's quota
    uses : which unfinished or finished jobs need which of them
    keys : the idempotency keys that stand for them
    """

    word: str
    prefix: str
    table: Table
    uses: Table
    keys: Table

    @property
    def target(self) -> Column[str]:
        """Where a job's tie names what it needs."""
        (column,) = (each for each in self.uses.c if each.name != "job_id")
        return column

    def not_found(self, record_id: str) -> NotFound:
        """What is said of an id that nothing has, and of another owner's."""
        return NotFound(f"There is no such {self.word}.", value=record_id)

    def find(self, connection: Connection, record_id: str, access: Access) -> Row[Any]:
        """The row of a record; NotFound where there is none that this access sees."""
        return self._read(connection, sa.select(self.table), record_id, access)

    def keep(
        self, connection: Connection, access: Access, values: Mapping[str, Any], key: str | None = None
    ) -> tuple[Row[Any], bool]:
        """The row of this identity, and whether it is new: it cannot be deleted before this transaction has ended.

        Raises
        ------
        QuotaExceeded
            The owner would keep too much.
        KeyReused
            The idempotency key stands for something else.
        """
        row, created = self._insert(connection, {**values, "owner": access.owner})
        if created and "bytes" in self.table.c:
            enforce_quota(connection, access)
        if key is not None:
            self._bind(connection, access.owner, key, row)
        return row, created

    def hold(
        self, connection: Connection, record_ids: Iterable[str], access: Access, pointer: str | None = None
    ) -> None:
        """Keep records from being deleted until this transaction has committed what uses them.

        Parameters
        ----------
        pointer : str, optional
            Where the request lists them.

        Raises
        ------
        NotFound
            One is gone; which in the list, the pointer says.
        """
        wanted = list(record_ids)
        query = sa.select(self.table.c.id).where(self.table.c.id.in_(wanted), access.sees(self.table.c.owner))
        found = set(connection.execute(query.with_for_update(read=True)).scalars()) if wanted else ()
        for place, each in enumerate(wanted):
            if each not in found:
                error = self.not_found(each)
                error.pointer = pointer and f"{pointer}/{place}"
                raise error

    def tie(self, connection: Connection, job_id: str, record_ids: Iterable[str]) -> None:
        """Keep records that are held from being deleted before the job has finished."""
        rows = [{"job_id": job_id, self.target.name: each} for each in set(record_ids)]
        if rows:
            connection.execute(insert_if_new(connection, self.uses), rows)

    def release(self, connection: Connection, record_id: str, access: Access) -> Row[Any]:
        """The row of a record that nothing needs, locked: no job can be added that does.

        Raises
        ------
        NotFound
        InUse
            An unfinished job needs it.
        """
        row = self._read(connection, sa.select(self.table).with_for_update(), record_id, access)
        job = tables.jobs.c
        using = (
            sa.select(job.id)
            .join(self.uses, self.uses.c.job_id == job.id)
            .where(self.target == record_id, job.status.in_(UNFINISHED))
            .limit(1)
        )
        if job_id := connection.execute(using).scalar():
            raise InUse(
                f"The unfinished job {job_id} uses this {self.word}.",
                value=record_id,
                hint="Wait for the job or cancel it.",
            )
        return row

    def forget(self, connection: Connection, record_id: str, digests: Collection[str]) -> tuple[str, ...]:
        """Delete a released record; those of its blobs that no record names any more."""
        connection.execute(sa.delete(self.table).where(self.table.c.id == record_id))
        return tuple(sorted(set(digests) - named_blobs(connection, digests))) if digests else ()

    def page(
        self,
        connection: Connection,
        access: Access,
        cursor: str | None,
        limit: int,
        name: str | None,
        *conditions: ColumnElement[bool],
    ) -> Page:
        """The caller's own, newest first; InvalidRequest where cursor or limit cannot be used."""
        query = sa.select(self.table).where(access.sees(self.table.c.owner), *conditions)
        if name is not None:
            query = query.where(self.table.c.name == name)
        return read_page(connection, query, self.table, cursor, limit)

    def _read(self, connection: Connection, rows: Select[Any], record_id: str, access: Access) -> Row[Any]:
        # What cannot be an id may be no text that a database takes.
        if re.fullmatch(rf"{self.prefix}_[0-9a-f]{{32}}", record_id):
            query = rows.where(self.table.c.id == record_id, access.sees(self.table.c.owner))
            if (row := connection.execute(query).first()) is not None:
                return row
        raise self.not_found(record_id)

    def _insert(self, connection: Connection, values: Mapping[str, Any]) -> tuple[Row[Any], bool]:
        own = {"id": f"{self.prefix}_{secrets.token_hex(16)}", "created_at": datetime.now(UTC)}
        insertion = insert_if_new(connection, self.table, "identity").values({**values, **own}).returning(self.table)
        same = sa.select(self.table).where(self.table.c.identity == values["identity"]).with_for_update(read=True)
        while True:  # what was there may be deleted before it is read; then this one is new
            if (row := connection.execute(insertion).first()) is not None:
                return row, True
            if (row := connection.execute(same).first()) is not None:
                return row, False

    def _bind(self, connection: Connection, owner: str, key: str, row: Row[Any]) -> None:
        """Let the key stand for this record, as long as that is there."""
        keys = self.keys
        # Of two requests with one key the second finds what the first one's stands for.
        take_turns(connection, f"{keys.name} {owner} {key}")
        known = connection.execute(sa.select(keys.c.identity).where(keys.c.owner == owner, keys.c.key == key)).scalar()
        if known is None:
            bound = {"owner": owner, "key": key, "identity": row.identity, self.target.name: row.id}
            connection.execute(sa.insert(keys).values(**bound, created_at=datetime.now(UTC)))
        elif known != row.identity:
            raise KeyReused(
                "This idempotency key came before, with another upload.",
                value=key,
                hint="Use a new key for a new upload.",
            )


EMBEDDINGS = RecordKind("embedding set", "emb", tables.embeddings, tables.job_embeddings, tables.upload_keys)
DATASETS = RecordKind("dataset", "ds", tables.datasets, tables.job_datasets, tables.dataset_keys)
REFERENCES = RecordKind("reference set", "ref", tables.reference_sets, tables.job_references, tables.reference_keys)
MAPS = RecordKind("map", "map", tables.maps, tables.job_maps, tables.map_keys)
