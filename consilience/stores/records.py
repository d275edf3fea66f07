"""What records of every kind share: ids, owners, one row for the same thing, keys, ties to jobs, pages and an end."""

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
from consilience.stores.database import Database, insert_if_new, take_turns


@dataclass(frozen=True)
class Access:
    """What every statement on behalf of one caller is held to.

    Another owner's rows do not exist for it: they are not found, not listed, not counted.
    """

    owner: str = DEFAULT_OWNER
    """Whose everything is that is added."""
    sees_all: bool = False
    """Whether it reads and changes the rows of every owner."""
    queue_limit: int | None = None
    """Jobs that may wait, of all owners together."""
    owner_queue_limit: int | None = None
    """Jobs that may wait, of this owner."""
    owner_bytes_limit: int | None = None
    """Bytes that this owner's sets may have."""

    def sees(self, column: sa.Column[str]) -> ColumnElement[bool]:
        """The condition on a table's `owner` under which a row exists."""
        return sa.true() if self.sees_all else column == self.owner


#: For workers, which run everybody's jobs.
EVERYTHING = Access(sees_all=True)


LIMIT_MAX = 1000
#: An id of any record.
RECORD_ID = re.compile(r"[a-z]{2,8}_[0-9a-f]{32}")


class Page(NamedTuple):
    """The rows of one page and what follows it."""

    rows: list[Row[Any]]
    next_cursor: str | None

    @property
    def has_more(self) -> bool:
        """Whether there is another page."""
        return self.next_cursor is not None


def read_page(connection: sa.Connection, query: Select[Any], table: Table, cursor: str | None, limit: int) -> Page:
    """At most `limit` rows of `query` that are older than the cursor's.

    Raises
    ------
    InvalidRequest
        The cursor is not one of ours, or the limit is not in 1..1000.
    """
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidRequest(f"A page has 1 to {LIMIT_MAX} entries.", value=limit, limit=LIMIT_MAX, pointer="limit")
    if cursor:
        query = query.where(_is_older(table, cursor))
    newest_first = query.order_by(table.c.created_at.desc(), table.c.id.desc())
    # One row more than asked tells whether there are more.
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
        # What is no id may be no text that a database takes either.
        return datetime.fromisoformat(created_at).astimezone(UTC), RECORD_ID.fullmatch(row_id)[0]  # type: ignore[index]  # caught
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise InvalidRequest(
            "The cursor is not one of this list.",
            value=cursor,
            hint="Take `next_cursor` of the page before, or none for the first page.",
            pointer="cursor",
        ) from None


#: Everywhere that a record names a blob.
BLOB_NAMES = (
    tables.layers.c.digest,
    tables.embeddings.c.ids_digest,
    tables.embeddings.c.groups_digest,
    tables.dataset_views.c.digest,
    tables.datasets.c.ids_digest,
    tables.maps.c.digest,
)


def named_blobs(connection: Connection, digests: Collection[str]) -> set[str]:
    """Those of the digests that some record names."""
    query = sa.union(*(sa.select(place).where(place.in_(digests)) for place in BLOB_NAMES))
    return set(connection.execute(query).scalars())


def refuse_if_member(connection: Connection, embedding_id: str) -> None:
    """Raise InUse where a reference set has this set as a member."""
    reference, member = tables.reference_sets.c, tables.reference_members.c
    query = (
        sa.select(reference.id, reference.name)
        .join(tables.reference_members, member.reference_id == reference.id)
        .where(member.embedding_id == embedding_id)
        .limit(1)
    )
    if found := connection.execute(query).first():
        raise InUse(
            f"The reference set {found.name} ({found.id}) has this set as a member.",
            value=embedding_id,
            hint="Delete the reference set first.",
        )


def quota_left(database: Database, access: Access) -> int | None:
    """Bytes that the owner may still keep, never less than 0; None where there is no limit."""
    limit = access.owner_bytes_limit
    if limit is None:
        return None
    with database.read() as connection:
        return max(0, limit - _used(connection, access))


def enforce_quota(connection: Connection, access: Access) -> None:
    """Raise QuotaExceeded where the owner has too much by what this transaction added. Others that add wait for its end."""
    if access.owner_bytes_limit is not None:
        take_turns(connection, f"quota of {access.owner}")
        refuse_over_quota(connection, access, 0)


def refuse_over_quota(connection: Connection, access: Access, more: int) -> None:
    """Raise QuotaExceeded where `more` bytes would be more than the owner may keep."""
    limit = access.owner_bytes_limit
    if limit is None:
        return
    used = _used(connection, access)
    if used + more > limit:
        raise QuotaExceeded(
            f"The sets, datasets and maps of {access.owner} would have {used + more} bytes; at most {limit} are allowed.",
            value=used + more,
            limit=limit,
            hint="Delete those that are no longer needed; CONSILIENCE_OWNER_BYTES_LIMIT is the limit.",
        )


def _used(connection: Connection, access: Access) -> int:
    kept = (tables.embeddings.c, tables.datasets.c, tables.maps.c)
    sums = (sa.select(sa.func.sum(table.bytes)).where(table.owner == access.owner) for table in kept)
    return sum(int(connection.execute(query).scalar() or 0) for query in sums)


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
