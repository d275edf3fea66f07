"""Operations that all kinds of records share: ids, owners, deduplication, idempotency keys, links to jobs, pages, deletion."""

import base64
import json
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Column, ColumnElement, Connection, Row, Select, Table

from consilience.contract.jobs import UNFINISHED
from consilience.contract.keys import DEFAULT_OWNER
from consilience.errors import InUse, InvalidRequest, KeyReused, NotFound, QuotaExceeded
from consilience.stores import tables
from consilience.stores.database import Database, insert_if_new, serialize


@dataclass(frozen=True)
class Access:
    """Rows that one principal may see, and the limits of its owner.

    Rows of other owners are neither found nor listed nor counted.
    """

    owner: str = DEFAULT_OWNER
    """Owner of all records that are added."""
    sees_all: bool = False
    """True if rows of all owners may be read and changed."""
    queue_limit: int | None = None
    """Maximum number of queued jobs of all owners together."""
    owner_queue_limit: int | None = None
    """Maximum number of queued jobs of this owner."""
    owner_bytes_limit: int | None = None
    """Maximum number of bytes of the sets, datasets and maps of this owner."""

    def visible(self, column: sa.Column[str]) -> ColumnElement[bool]:
        """Return the SQL condition on a table's `owner` column that selects the visible rows."""
        return sa.true() if self.sees_all else column == self.owner


#: Access of workers, which run the jobs of all owners.
ALL_OWNERS = Access(sees_all=True)


LIMIT_MAX = 1000
#: Ids of records of any kind.
RECORD_ID = re.compile(r"[a-z]{2,8}_[0-9a-f]{32}")


class Page(NamedTuple):
    """Rows of one page, and the cursor of the next page."""

    rows: list[Row[Any]]
    next_cursor: str | None

    @property
    def has_more(self) -> bool:
        """True if there is another page."""
        return self.next_cursor is not None


def read_page(connection: sa.Connection, query: Select[Any], table: Table, cursor: str | None, limit: int) -> Page:
    """Return at most `limit` rows of `query` that are older than the row of the cursor.

    Raises
    ------
    InvalidRequest
        The cursor was not returned by this service, or the limit is not in 1..1000.
    """
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidRequest(
            f"limit must be between 1 and {LIMIT_MAX}; got {limit}.", value=limit, limit=LIMIT_MAX, pointer="limit"
        )
    if cursor:
        query = query.where(_is_older(table, cursor))
    newest_first = query.order_by(table.c.created_at.desc(), table.c.id.desc())
    # One row more than requested shows if there is another page.
    rows = list(connection.execute(newest_first.limit(limit + 1)))
    return Page(rows[:limit], _encode(rows[limit - 1]) if len(rows) > limit else None)


def _is_older(table: Table, cursor: str) -> ColumnElement[bool]:
    created_at, row_id = _decode(cursor)
    return sa.or_(table.c.created_at < created_at, sa.and_(table.c.created_at == created_at, table.c.id < row_id))


def _encode(row: Row[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps([row.created_at.isoformat(), row.id]).encode()).decode().rstrip("=")


def _decode(cursor: str) -> tuple[datetime, str]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        created_at, row_id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        # A string that is not an id may contain characters that the database rejects.
        return datetime.fromisoformat(created_at).astimezone(UTC), RECORD_ID.fullmatch(row_id)[0]  # type: ignore[index]  # caught
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise InvalidRequest(
            "The cursor was not returned by this list.",
            value=cursor,
            hint="Pass `next_cursor` of the previous page, or omit the cursor for the first page.",
            pointer="cursor",
        ) from None


#: All columns that refer to a blob.
DIGEST_COLUMNS = (
    tables.layers.c.digest,
    tables.embeddings.c.ids_digest,
    tables.embeddings.c.groups_digest,
    tables.dataset_views.c.digest,
    tables.datasets.c.ids_digest,
    tables.maps.c.digest,
)


def find_referenced(connection: Connection, digests: Collection[str]) -> set[str]:
    """Return those of the digests that a record refers to."""
    query = sa.union(*(sa.select(column).where(column.in_(digests)) for column in DIGEST_COLUMNS))
    return set(connection.execute(query).scalars())


def check_not_member(connection: Connection, embedding_id: str) -> None:
    """Raise InUse if the set is a member of a reference set."""
    reference, member = tables.reference_sets.c, tables.reference_members.c
    query = (
        sa.select(reference.id, reference.name)
        .join(tables.reference_members, member.reference_id == reference.id)
        .where(member.embedding_id == embedding_id)
        .limit(1)
    )
    if found := connection.execute(query).first():
        raise InUse(
            f"The set is a member of the reference set {found.name} ({found.id}).",
            value=embedding_id,
            hint="Delete the reference set first.",
        )


def quota_left(database: Database, access: Access) -> int | None:
    """Return the bytes that the owner may still store, at least 0, or None if there is no limit."""
    limit = access.owner_bytes_limit
    if limit is None:
        return None
    with database.read() as connection:
        return max(0, limit - _count_used_bytes(connection, access))


def enforce_quota(connection: Connection, access: Access) -> None:
    """Raise QuotaExceeded if the rows added by this transaction exceed the limit. Other writers of this owner wait."""
    if access.owner_bytes_limit is not None:
        serialize(connection, f"quota of {access.owner}")
        check_quota(connection, access, 0)


def check_quota(connection: Connection, access: Access, more: int) -> None:
    """Raise QuotaExceeded if `more` bytes would exceed the storage limit of the owner."""
    limit = access.owner_bytes_limit
    if limit is None:
        return
    used = _count_used_bytes(connection, access)
    if used + more > limit:
        raise QuotaExceeded(
            f"The sets, datasets and maps of {access.owner} would take {used + more} bytes; the limit is {limit}.",
            value=used + more,
            limit=limit,
            hint="Delete some that are no longer needed. The operator sets the limit with CONSILIENCE_OWNER_BYTES_LIMIT.",
        )


def _count_used_bytes(connection: Connection, access: Access) -> int:
    counted = (tables.embeddings.c, tables.datasets.c, tables.maps.c)
    sums = (sa.select(sa.func.sum(table.bytes)).where(table.owner == access.owner) for table in counted)
    return sum(int(connection.execute(query).scalar() or 0) for query in sums)


@dataclass(frozen=True, eq=False)
class RecordTable:
    """Table of one kind of record, with its links to jobs and its idempotency keys.

    Attributes
    ----------
    word : name of the kind in messages
    prefix : prefix of the ids
    table : the records; equal records have equal `identity`, and `bytes` (if present) counts towards the owner's quota
    links : table of the jobs that use each record
    keys : table of the idempotency keys of these records
    """

    word: str
    prefix: str
    table: Table
    links: Table
    keys: Table

    @property
    def target(self) -> Column[str]:
        """Column of `links` that holds the id of the record."""
        (column,) = (each for each in self.links.c if each.name != "job_id")
        return column

    def not_found(self, record_id: str) -> NotFound:
        """Make the error for an id that does not exist or belongs to another owner."""
        return NotFound(f"There is no such {self.word}.", value=record_id)

    def find(self, connection: Connection, record_id: str, access: Access) -> Row[Any]:
        """Return the row of a record. Raise NotFound if there is none that this access may see."""
        return self._read(connection, sa.select(self.table), record_id, access)

    def insert(
        self, connection: Connection, access: Access, values: Mapping[str, Any], key: str | None = None
    ) -> tuple[Row[Any], bool]:
        """Insert a record, or find the one with the same identity. Return its row, and True if it is new.

        The row cannot be deleted before this transaction has ended.

        Raises
        ------
        QuotaExceeded
            The record would exceed the storage limit of the owner.
        KeyReused
            The idempotency key was used for another record.
        """
        row, created = self._insert_or_find(connection, {**values, "owner": access.owner})
        if created and "bytes" in self.table.c:
            enforce_quota(connection, access)
        if key is not None:
            self._bind_key(connection, access.owner, key, row)
        return row, created

    def lock_for_use(
        self, connection: Connection, record_ids: Iterable[str], access: Access, pointer: str | None = None
    ) -> None:
        """Lock records, so that they cannot be deleted before this transaction has ended.

        Parameters
        ----------
        pointer : str, optional
            JSON pointer of the list in the request.

        Raises
        ------
        NotFound
            A record does not exist. The pointer of the error gives its position in the list.
        """
        wanted = list(record_ids)
        query = sa.select(self.table.c.id).where(self.table.c.id.in_(wanted), access.visible(self.table.c.owner))
        existing = set(connection.execute(query.with_for_update(read=True)).scalars()) if wanted else ()
        for position, each in enumerate(wanted):
            if each not in existing:
                error = self.not_found(each)
                error.pointer = pointer and f"{pointer}/{position}"
                raise error

    def link_to_job(self, connection: Connection, job_id: str, record_ids: Iterable[str]) -> None:
        """Link locked records to a job, so that they cannot be deleted before the job has finished."""
        rows = [{"job_id": job_id, self.target.name: each} for each in set(record_ids)]
        if rows:
            connection.execute(insert_if_new(connection, self.links), rows)

    def lock_for_delete(self, connection: Connection, record_id: str, access: Access) -> Row[Any]:
        """Lock a record that no unfinished job uses, so that no new job can use it, and return its row.

        Raises
        ------
        NotFound
        InUse
            An unfinished job uses the record.
        """
        row = self._read(connection, sa.select(self.table).with_for_update(), record_id, access)
        job = tables.jobs.c
        using = (
            sa.select(job.id)
            .join(self.links, self.links.c.job_id == job.id)
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

    def delete(self, connection: Connection, record_id: str, digests: Collection[str]) -> tuple[str, ...]:
        """Delete a locked record. Return those of the digests that no record refers to any more."""
        connection.execute(sa.delete(self.table).where(self.table.c.id == record_id))
        return tuple(sorted(set(digests) - find_referenced(connection, digests))) if digests else ()

    def page(
        self,
        connection: Connection,
        access: Access,
        cursor: str | None,
        limit: int,
        name: str | None,
        *conditions: ColumnElement[bool],
    ) -> Page:
        """Return one page of visible records, newest first. Raise InvalidRequest for an invalid cursor or limit."""
        query = sa.select(self.table).where(access.visible(self.table.c.owner), *conditions)
        if name is not None:
            query = query.where(self.table.c.name == name)
        return read_page(connection, query, self.table, cursor, limit)

    def _read(self, connection: Connection, rows: Select[Any], record_id: str, access: Access) -> Row[Any]:
        # A string that is not an id may contain characters that the database rejects.
        if re.fullmatch(rf"{self.prefix}_[0-9a-f]{{32}}", record_id):
            query = rows.where(self.table.c.id == record_id, access.visible(self.table.c.owner))
            if (row := connection.execute(query).first()) is not None:
                return row
        raise self.not_found(record_id)

    def _insert_or_find(self, connection: Connection, values: Mapping[str, Any]) -> tuple[Row[Any], bool]:
        own = {"id": f"{self.prefix}_{secrets.token_hex(16)}", "created_at": datetime.now(UTC)}
        insertion = insert_if_new(connection, self.table, "identity").values({**values, **own}).returning(self.table)
        same = sa.select(self.table).where(self.table.c.identity == values["identity"]).with_for_update(read=True)
        while True:  # an existing record may be deleted before it is read; then insert again
            if (row := connection.execute(insertion).first()) is not None:
                return row, True
            if (row := connection.execute(same).first()) is not None:
                return row, False

    def _bind_key(self, connection: Connection, owner: str, key: str, row: Row[Any]) -> None:
        """Bind the key to this record for as long as the record exists."""
        keys = self.keys
        # The second of two requests with the same key finds the record of the first.
        serialize(connection, f"{keys.name} {owner} {key}")
        known = connection.execute(sa.select(keys.c.identity).where(keys.c.owner == owner, keys.c.key == key)).scalar()
        if known is None:
            bound = {"owner": owner, "key": key, "identity": row.identity, self.target.name: row.id}
            connection.execute(sa.insert(keys).values(**bound, created_at=datetime.now(UTC)))
        elif known != row.identity:
            raise KeyReused(
                f"The idempotency key {key!r} was already used for another upload.",
                value=key,
                hint="Use a new key for each upload.",
            )


EMBEDDINGS = RecordTable("embedding set", "emb", tables.embeddings, tables.job_embeddings, tables.upload_keys)
DATASETS = RecordTable("dataset", "ds", tables.datasets, tables.job_datasets, tables.dataset_keys)
REFERENCES = RecordTable("reference set", "ref", tables.reference_sets, tables.job_references, tables.reference_keys)
MAPS = RecordTable("map", "map", tables.maps, tables.job_maps, tables.map_keys)
