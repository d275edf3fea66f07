"""Jobs as a user sees them: added, read, listed, asked to stop. What workers do to them is in `leases`."""

import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Row

from consilience.contract.jobs import Job, JobKind, JobPage, JobStatus, Plan, QueueName, Run
from consilience.contract.webhooks import Webhook
from consilience.errors import InvalidRequest, KeyReused, NotFound, TooManyRequests
from consilience.stores import tables
from consilience.stores.database import Database, take_turns
from consilience.stores.records import DATASETS, EMBEDDINGS, MAPS, REFERENCES, Access, read_page
from consilience.stores.retention import absent
from consilience.stores.webhooks import announce_end, read_webhook, register

JOB_ID = re.compile(r"job_[0-9a-f]{32}")
KEY_LENGTH_MAX = 255


class Added(NamedTuple):
    """A job, the delivery to enqueue it under, and whether it is new."""

    job: Job
    delivery: int
    created: bool


class Versioned(NamedTuple):
    """A job and its version: the version changes when, and only when, the job does."""

    job: Job
    version: int


class JobRecords:
    """The rows of jobs, as one caller may see and add to them."""

    def __init__(self, database: Database, access: Access | None = None) -> None:
        self._database, self._access = database, access or Access()

    def add(
        self,
        kind: JobKind,
        request: dict[str, Any],
        plan: Plan,
        embeddings: Sequence[str],
        idempotency: tuple[str, str] | None = None,
        *,
        queue: QueueName = "align",
        traceparent: str | None = None,
        datasets: Sequence[str] = (),
        references: Sequence[str] = (),
        maps: Sequence[str] = (),
    ) -> Added:
        """Record a queued job; it is committed when this returns, so that it may be enqueued.

        Parameters
        ----------
        kind : str
            What it does.
        request, plan : dict, Plan
            What was asked, and what it will cost. Its `webhook`, if any, is told of the job's end.
        embeddings : sequence of str
            The sets that it reads: they cannot be deleted before it has finished.
        idempotency : tuple of str, optional
            The caller's key, and the SHA-256 of the request's body. The same key again is the same job.
        queue : str
            Which workers take it.
        traceparent : str, optional
            The request's span, in the form of W3C Trace Context: that of the job's runs hangs below it.
        datasets, references, maps : sequence of str
            The datasets, reference sets and maps that it reads, likewise.

        Raises
        ------
        NotFound
            Something that it reads is gone.
        KeyReused
            The key came before, with another body.
        TooManyRequests
            Too many jobs wait already.
        """
        needs = {EMBEDDINGS: embeddings, DATASETS: datasets, REFERENCES: references, MAPS: maps}
        job_id, owner = f"job_{secrets.token_hex(16)}", self._access.owner
        with self._database.write() as connection:
            if idempotency and (known := _find_by_key(connection, owner, *idempotency)):
                return Added(*known, created=False)
            self._refuse_when_full(connection)
            for records, needed in needs.items():
                records.hold(connection, needed, self._access)
            row = {"id": job_id, "kind": kind, "queue": queue, "request": request, "plan": plan.model_dump(mode="json")}
            own = {"owner": owner, "traceparent": traceparent}
            connection.execute(sa.insert(tables.jobs).values(**row, **own, **_fresh()))
            for records, needed in needs.items():
                records.tie(connection, job_id, needed)
            if idempotency:
                _keep_key(connection, owner, idempotency, job_id)
            if request.get("webhook"):
                register(connection, job_id, request["webhook"]["url"])
            return Added(read_job(connection, job_id, self._access).job, 1, created=True)

    def get(self, job_id: str) -> Job:
        """One job; NotFound where there is none, Expired where there was one."""
        return self.versioned(job_id).job

    def versioned(self, job_id: str) -> Versioned:
        """One job and the version of just this state; NotFound where there is none, Expired where there was one."""
        with self._database.read() as connection:
            return read_job(connection, job_id, self._access)

    def version(self, job_id: str) -> int:
        """The job's version, +1 at every change that a user can see; NotFound, Expired as in `get`."""
        with self._database.read() as connection:
            query = sa.select(tables.jobs.c.version).where(_is(job_id, self._access))
            found = connection.execute(query).scalar()
            if found is None:
                raise absent(connection, job_id, self._access)
        return int(found)

    def webhook(self, job_id: str) -> Webhook:
        """The job's webhook and how its delivery goes; NotFound where it has none, or there is no job."""
        with self._database.read() as connection:
            read_job(connection, job_id, self._access)
            found = read_webhook(connection, job_id)
        if found is None:
            raise NotFound("The job has no webhook.", value=job_id, hint="A request for a job may name one: `webhook`.")
        return found

    def page(
        self, cursor: str | None, limit: int, status: JobStatus | None = None, kind: JobKind | None = None
    ) -> JobPage:
        """At most `limit` jobs, newest first; InvalidRequest where the cursor or the limit cannot be used."""
        query = sa.select(tables.jobs).where(self._access.sees(tables.jobs.c.owner))
        if status is not None:
            query = query.where(tables.jobs.c.status == status)
        if kind is not None:
            query = query.where(tables.jobs.c.kind == kind)
        with self._database.read() as connection:
            page = read_page(connection, query, tables.jobs, cursor, limit)
            data = tuple(load_jobs(connection, page.rows))
        return JobPage(data=data, has_more=page.has_more, next_cursor=page.next_cursor)

    def request_cancel(self, job_id: str) -> Job:
        """Ask for a job to stop.

        A queued job is canceled at once, a running one as soon as its process is gone, a finished one stays as it is.
        NotFound where there is none.
        """
        job = tables.jobs
        this = sa.and_(_is(job_id, self._access), job.c.cancel_requested.is_(False))
        with self._database.write() as connection:
            lock_job(connection, job_id)
            connection.execute(
                sa.update(job)
                .where(this, job.c.status == JobStatus.QUEUED)
                .values(status=JobStatus.CANCELED, finished_at=datetime.now(UTC), version=job.c.version + 1)
            )
            connection.execute(
                sa.update(job)
                .where(this, job.c.status == JobStatus.RUNNING)
                .values(cancel_requested=True, version=job.c.version + 1)
            )
            announce_end(connection, job_id)
            return read_job(connection, job_id, self._access).job

    def check_room(self) -> None:
        """Raise TooManyRequests where no further job may wait."""
        with self._database.read() as connection:
            self._refuse_when_full(connection)

    def _refuse_when_full(self, connection: Connection) -> None:
        limits = self._access
        if limits.queue_limit is None and limits.owner_queue_limit is None:
            return
        own = sa.func.count().filter(tables.jobs.c.owner == limits.owner)
        query = sa.select(sa.func.count(), own).where(tables.jobs.c.status == JobStatus.QUEUED)
        waiting, waiting_own = connection.execute(query).one()
        if limits.queue_limit is not None and waiting >= limits.queue_limit:
            raise _too_many(f"{waiting} jobs are waiting", waiting, limits.queue_limit, "QUEUE_LIMIT")
        if limits.owner_queue_limit is not None and waiting_own >= limits.owner_queue_limit:
            jobs = f"{waiting_own} jobs of {limits.owner} are waiting"
            raise _too_many(jobs, waiting_own, limits.owner_queue_limit, "OWNER_QUEUE_LIMIT")


def lock_job(connection: Connection, job_id: str) -> None:
    """Let nobody change the job between the several looks of this transaction; SQLite's write lock does that anyway."""
    connection.execute(sa.select(tables.jobs.c.id).where(tables.jobs.c.id == job_id).with_for_update())


def read_job(connection: Connection, job_id: str, access: Access) -> Versioned:
    """One job as this transaction sees it; NotFound where there is none, Expired where there was one."""
    rows = connection.execute(sa.select(tables.jobs).where(_is(job_id, access))).all()
    if not rows:
        raise absent(connection, job_id, access)
    return Versioned(load_jobs(connection, rows)[0], rows[0].version)


def load_jobs(connection: Connection, rows: Sequence[Row[Any]]) -> list[Job]:
    """The jobs of these rows, in their order, with their runs."""
    query = sa.select(tables.runs).where(tables.runs.c.job_id.in_([row.id for row in rows]))
    own: dict[str, list[Run]] = {row.id: [] for row in rows}
    for run in connection.execute(query.order_by(tables.runs.c.delivery)) if rows else ():
        own[run.job_id].append(Run.model_validate(run, from_attributes=True))
    return [_to_job(row, own[row.id]) for row in rows]


def _to_job(row: Row[Any], runs: Sequence[Run]) -> Job:
    self_link = f"/v1/jobs/{row.id}"
    links = {"self": self_link, "cancel": f"{self_link}/cancel", "events": f"{self_link}/events"}
    if row.request.get("webhook"):
        links["webhook"] = f"{self_link}/webhook"
    if row.kind == "study":
        links["study"] = f"/v1/studies/{row.id}"
    if row.kind == "upgrade":
        links["upgrade"] = f"/v1/upgrades/{row.id}"
    # Columns that are not the user's business (delivery, beat, ...) are not fields of Job, which ignores them.
    return Job.model_validate({**row._mapping, "runs": runs, "links": links})  # noqa: SLF001 - SQLAlchemy's public name for a row as a dictionary


def _fresh() -> dict[str, Any]:
    return {
        "status": JobStatus.QUEUED,
        "cancel_requested": False,
        "delivery": 1,
        "beat": 0,
        "crashes": 0,
        "version": 1,
        "created_at": datetime.now(UTC),
    }


def _find_by_key(connection: Connection, owner: str, key: str, body_sha256: str) -> tuple[Job, int] | None:
    if len(key) > KEY_LENGTH_MAX:
        raise InvalidRequest(
            "The idempotency key is too long.", value=key, limit=KEY_LENGTH_MAX, pointer="Idempotency-Key"
        )
    take_turns(connection, f"{owner} {key}")  # of two requests with one key the second finds the first one's job
    known = connection.execute(
        sa.select(tables.idempotency_keys.c.body_sha256, tables.jobs.c.id, tables.jobs.c.delivery)
        .join(tables.jobs, tables.jobs.c.id == tables.idempotency_keys.c.job_id)
        .where(tables.idempotency_keys.c.owner == owner, tables.idempotency_keys.c.key == key)
    ).first()
    if known is None:
        return None
    if known.body_sha256 != body_sha256:
        raise KeyReused(
            "This idempotency key came before, with another request.",
            value=key,
            hint="Use a new key for a new request.",
        )
    return read_job(connection, known.id, Access(owner)).job, known.delivery


def _keep_key(connection: Connection, owner: str, idempotency: tuple[str, str], job_id: str) -> None:
    key, body_sha256 = idempotency
    row = {"owner": owner, "key": key, "body_sha256": body_sha256, "job_id": job_id, "created_at": datetime.now(UTC)}
    connection.execute(sa.insert(tables.idempotency_keys).values(row))


def _is(job_id: str, access: Access) -> ColumnElement[bool]:
    return sa.and_(tables.jobs.c.id == _checked(job_id), access.sees(tables.jobs.c.owner))


def _too_many(what: str, value: int, limit: int, variable: str) -> TooManyRequests:
    hint = f"Ask again later, with the same Idempotency-Key; CONSILIENCE_{variable} is the limit."
    return TooManyRequests(f"{what}; at most {limit} may.", value=value, limit=limit, hint=hint)


def _checked(job_id: str) -> str:
    """An id that can be one; anything else would not even reach the table."""
    if not JOB_ID.fullmatch(job_id):
        raise NotFound("There is no such job.", value=job_id)
    return job_id
