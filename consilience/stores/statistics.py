"""Statistics of the stores. Each one is a small query with a time limit."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from consilience.contract.embeddings import DTYPE_BYTES
from consilience.contract.jobs import JobStatus
from consilience.contract.webhooks import WebhookStatus
from consilience.stores import tables
from consilience.stores.database import Database

#: Age and number of the finished jobs that job times are taken from.
RECENT = timedelta(minutes=15)
RECENT_JOBS = 100
#: Name of the total time, beside the parts of a job.
WHOLE = "whole"
#: Number of SQLite instructions between two looks at the clock, about a millisecond.
SQLITE_STEPS = 10_000
_job, _run, _hook, _set, _layer = tables.jobs.c, tables.runs.c, tables.webhooks.c, tables.embeddings.c, tables.layers.c


class StoredSize(NamedTuple):
    """Number of records, and their size in bytes. Content that several share counts for each."""

    n: int
    bytes: int


class StoreStatistics:
    """Statistics of the records of all owners, without names or ids.

    Each method raises Unavailable if the database does not respond within `limit_s` seconds.
    """

    def __init__(self, database: Database, limit_s: float = 1.0) -> None:
        self._database, self._limit_s = database, limit_s

    def count_jobs(self) -> dict[JobStatus, int]:
        """Return the number of jobs of each status."""
        counts = self._count(_job.status)
        return {status: counts.get(status.value, 0) for status in JobStatus}

    def find_longest_wait(self) -> float:
        """Return the seconds since the oldest queued job was submitted, or 0 if none is queued."""
        query = sa.select(sa.func.min(_job.created_at)).where(_job.status == JobStatus.QUEUED)
        [(oldest,)] = self._rows(query)
        return max(0.0, (datetime.now(UTC) - oldest).total_seconds()) if oldest else 0.0

    def time_jobs(self) -> dict[str, list[float]]:
        """Return the seconds that each part of recent successful jobs took: metrics by name, and stages.

        `WHOLE` is the time from the start of a job's last run to its end.
        """
        timings = tables.jobs.c.result["timings_s"].label("timings")
        query = (
            sa.select(timings, _job.started_at, _job.finished_at)
            .where(_job.status == JobStatus.SUCCEEDED, _job.finished_at > datetime.now(UTC) - RECENT)
            .order_by(_job.finished_at.desc())
            .limit(RECENT_JOBS)
        )
        times: defaultdict[str, list[float]] = defaultdict(list)
        for row in self._rows(query):
            whole = max(0.0, (row.finished_at - row.started_at).total_seconds())
            for part, seconds in {**(row.timings or {}), WHOLE: whole}.items():
                times[part].append(seconds)
        return dict(times)

    def size_of_sets(self) -> StoredSize:
        """Return number and size of the embedding sets."""
        return self._size_of(tables.embeddings)

    def size_of_datasets(self) -> StoredSize:
        """Return number and size of the datasets."""
        return self._size_of(tables.datasets)

    def size_of_layers(self) -> int:
        """Return the size of all layers on the disk in bytes. A layer that several sets share counts once."""
        width = sa.case(dict(DTYPE_BYTES), value=_layer.dtype)
        once = (
            sa.select(sa.func.max(_set.n * _layer.dim * width).label("bytes"))
            .join(tables.embeddings, _set.id == _layer.embedding_id)
            .group_by(_layer.digest)
            .subquery()
        )
        [(total,)] = self._rows(sa.select(sa.func.sum(once.c.bytes)))
        return int(total or 0)

    def count_webhooks(self) -> dict[WebhookStatus, int]:
        """Return the number of webhooks of each status."""
        status = sa.case(
            (_hook.delivered_at.is_not(None), WebhookStatus.DELIVERED.value),
            (_hook.failed_at.is_not(None), WebhookStatus.FAILED.value),
            (_hook.due_at.is_not(None), WebhookStatus.PENDING.value),
            else_=WebhookStatus.WAITING.value,
        ).label("status")
        each = sa.select(status).subquery()
        counts = self._count(each.c.status)
        return {status: counts.get(status.value, 0) for status in WebhookStatus}

    def find_busy_workers(self) -> set[str]:
        """Return the names of workers with a running job."""
        query = sa.select(_run.worker).join(tables.jobs, _run.job_id == _job.id)
        current = sa.and_(_job.status == JobStatus.RUNNING, _run.delivery == _job.delivery)
        return {row.worker for row in self._rows(query.where(current))}

    def _size_of(self, table: sa.Table) -> StoredSize:
        query = sa.select(sa.func.count().label("n"), sa.func.sum(table.c.bytes).label("bytes"))
        [held] = self._rows(query.select_from(table))
        return StoredSize(int(held.n), int(held.bytes or 0))

    def _count(self, column: sa.ColumnElement[str]) -> dict[str, int]:
        rows = self._rows(sa.select(column.label("value"), sa.func.count().label("n")).group_by(column))
        return {row.value: row.n for row in rows}

    def _rows(self, query: sa.Executable) -> list[sa.Row[Any]]:
        with self._database.read() as connection, _time_limit(connection, self._limit_s):
            return list(connection.execute(query).all())


@contextmanager
def _time_limit(connection: Connection, limit_s: float) -> Iterator[None]:
    """Limit the time of each statement in the context."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {max(1, round(limit_s * 1000))}")
        yield
        return
    driver: Any = connection.connection.driver_connection
    deadline = time.monotonic() + limit_s
    driver.set_progress_handler(lambda: time.monotonic() > deadline, SQLITE_STEPS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)
