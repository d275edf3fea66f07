"""What is forgotten: jobs whose retention has passed, and blobs that no record names."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from consilience.contract.jobs import FINISHED
from consilience.errors import Expired, NotFound, StateError
from consilience.stores import tables
from consilience.stores.cells import Cells
from consilience.stores.database import Database
from consilience.stores.records import Access, named_blobs

_job, _gone = tables.jobs.c, tables.expired_jobs


class Retention:
    """What the collector asks of the records."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def expire(self, retention: timedelta, limit: int) -> tuple[str, ...]:
        """Delete at most `limit` of the jobs that finished longer ago than `retention`, the oldest first.

        A job whose webhook is still being delivered stays. What is left is its id, its owner and when: see `absent`.

        Returns
        -------
        tuple of str
            Their ids.
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
            # Another collector skips these rows, or finds them gone.
            rows = connection.execute(query.with_for_update(of=tables.jobs, skip_locked=True)).all()
            if rows:
                stones = [{**row._mapping, "expired_at": now} for row in rows]  # noqa: SLF001 - SQLAlchemy's public name for a row as a dictionary
                connection.execute(sa.insert(_gone), stones)
                connection.execute(sa.delete(tables.jobs).where(_job.id.in_([row.id for row in rows])))
        return tuple(row.id for row in rows)

    def expire_cells(self, retention: timedelta) -> int:
        """Forget cells of studies that were found longer ago; how many."""
        return Cells(self._database).expire(retention)

    def named(self, digests: Collection[str]) -> set[str]:
        """Those of the digests that some record names."""
        with self._database.read() as connection:
            return named_blobs(connection, digests)


def absent(connection: Connection, job_id: str, access: Access) -> StateError:
    """Why there is no such job for this caller: Expired, with the time, or NotFound."""
    query = sa.select(_gone.c.expired_at).where(_gone.c.id == job_id, access.sees(_gone.c.owner))
    expired_at = connection.execute(query).scalar()
    if expired_at is None:
        return NotFound("There is no such job.", value=job_id)
    return Expired(
        f"The job and its result were deleted at {expired_at:%Y-%m-%dT%H:%MZ}: finished jobs are kept for a time.",
        value=job_id,
        hint="GET /v1/info says for how many days: job_retention_days. Its sets may still be there; ask again.",
    )
