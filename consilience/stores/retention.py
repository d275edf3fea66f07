"""Deletion of expired jobs, and search for blobs that no record refers to."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from consilience.contract.jobs import FINISHED
from consilience.errors import Expired, NotFound, StateError
from consilience.stores import tables
from consilience.stores.cells import CellRecords
from consilience.stores.database import Database
from consilience.stores.records import Access, find_referenced

_job, _tombstones = tables.jobs.c, tables.expired_jobs


class Retention:
    """Queries of the garbage collector."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def expire(self, retention: timedelta, limit: int) -> tuple[str, ...]:
        """Delete at most `limit` jobs that finished longer ago than `retention`, the oldest first.

        Jobs whose webhook is still being delivered are kept. The id, owner and times of a deleted job remain as a tombstone,
        see `explain_missing_job`.

        Returns
        -------
        tuple of str
            Ids of the deleted jobs.
        """
        now = datetime.now(UTC)
        pending = sa.select(tables.webhooks.c.job_id).where(tables.webhooks.c.due_at.is_not(None))
        query = (
            sa.select(_job.id, _job.owner, _job.finished_at)
            .where(_job.finished_at < now - retention, _job.status.in_(FINISHED), _job.id.not_in(pending))
            .order_by(_job.finished_at)
            .limit(limit)
        )
        with self._database.write() as connection:
            # A concurrent collector skips these rows or does not find them.
            rows = connection.execute(query.with_for_update(of=tables.jobs, skip_locked=True)).all()
            if rows:
                tombstones = [{**row._mapping, "expired_at": now} for row in rows]  # noqa: SLF001 - SQLAlchemy's public name for a row as a dictionary
                connection.execute(sa.insert(_tombstones), tombstones)
                connection.execute(sa.delete(tables.jobs).where(_job.id.in_([row.id for row in rows])))
        return tuple(row.id for row in rows)

    def expire_cells(self, retention: timedelta) -> int:
        """Delete cells of studies older than `retention`. Return their number."""
        return CellRecords(self._database).expire(retention)

    def find_referenced(self, digests: Collection[str]) -> set[str]:
        """Return those of the digests that a record refers to."""
        with self._database.read() as connection:
            return find_referenced(connection, digests)


def explain_missing_job(connection: Connection, job_id: str, access: Access) -> StateError:
    """Return the error for a missing job: Expired, with the time, or NotFound."""
    query = sa.select(_tombstones.c.expired_at).where(_tombstones.c.id == job_id, access.visible(_tombstones.c.owner))
    expired_at = connection.execute(query).scalar()
    if expired_at is None:
        return NotFound("There is no such job.", value=job_id)
    return Expired(
        f"The job and its result were deleted at {expired_at:%Y-%m-%dT%H:%MZ}, when its retention time had passed.",
        value=job_id,
        hint="GET /v1/info returns the retention time as job_retention_days. Submit the job again if its sets still exist.",
    )
