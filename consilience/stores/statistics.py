"""How many of everything there are. Each figure is one small query that gives up in time."""

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

#: Job times are those of the jobs that finished in this time, and of no more than so many.
RECENT = timedelta(minutes=15)
RECENT_JOBS = 100
#: Beside the parts of a job.
WHOLE = "whole"
#: SQLite looks at the clock once in so many of its instructions: about a millisecond.
SQLITE_STEPS = 10_000
_job, _run, _hook, _set, _layer = tables.jobs.c, tables.runs.c, tables.webhooks.c, tables.embeddings.c, tables.layers.c


class StoredSize(NamedTuple):
    """How many there are, and the bytes that they were given; what several share counts for each."""

    n: int
    bytes: int


class StoreStatistics:
    """Figures about everybody's rows, without a name or an id of anybody.

    Each method raises Unavailable where the database does not answer, or not within `limit_s` seconds.
    """

    def __init__(self, database: Database, limit_s: float = 1.0) -> None:
        self._database, self._limit_s = database, limit_s

    def count_jobs(self) -> dict[JobStatus, int]:
        """The jobs of each status."""
        counts = self._count(_job.status)
        return {status: counts.get(status.value, 0) for status in JobStatus}

    def find_longest_wait(self) -> float:
        """Seconds since the oldest job that waits was submitted; 0 where none waits."""
        query = sa.select(sa.func.min(_job.created_at)).where(_job.status == JobStatus.QUEUED)
        [(oldest,)] = self._rows(query)
        return max(0.0, (datetime.now(UTC) - oldest).total_seconds()) if oldest else 0.0

    def time_jobs(self) -> dict[str, list[float]]:
        """The seconds that each part of a job took, for the jobs that lately succeeded: metrics by name, and stages.

        `WHOLE` is from the start of a job's last run to its end.
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
        """How many sets of embeddings there are, and how large they are."""
        return self._size_of(tables.embeddings)

    def size_of_datasets(self) -> StoredSize:
        """How many datasets there are, and how large they are."""
        return self._size_of(tables.datasets)

    def size_of_layers(self) -> int:
        """The bytes of all layers; one that several sets share counts once, as it lies on the disk."""
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
        """The webhooks of each status."""
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
        """The names of workers whose jobs run; one that went silent loses its job to the reconciler."""
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
    """Let no statement of the block run for longer."""
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
