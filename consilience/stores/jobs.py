"""Records of jobs as users see them: add, read, list and cancel. `leases` holds the changes that workers make."""

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
from consilience.stores.database import Database, serialize
from consilience.stores.records import DATASETS, EMBEDDINGS, MAPS, REFERENCES, Access, read_page
from consilience.stores.retention import explain_missing_job
from consilience.stores.webhooks import add_webhook, read_webhook, schedule_webhook

JOB_ID = re.compile(r"job_[0-9a-f]{32}")
KEY_LENGTH_MAX = 255


class AddedJob(NamedTuple):
    """Job, number of the delivery to enqueue it under, and True if the job is new."""

    job: Job
    delivery: int
    created: bool


class VersionedJob(NamedTuple):
    """Job and its version, which changes with every change of the job that a user can see."""

    job: Job
    version: int


class JobRecords:
    """Records of jobs, limited to the access of one principal."""

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
    ) -> AddedJob:
        """Record a queued job. It is committed when this returns, so that it may be enqueued.

        Parameters
        ----------
        kind : str
            Kind of the job.
        request, plan : dict, Plan
            Request of the user, and its planned cost. The `webhook` of the request, if any, is called when the job ends.
        embeddings : sequence of str
            Sets that the job reads. They cannot be deleted before the job has finished.
        idempotency : tuple of str, optional
            Idempotency key, and SHA-256 of the request's body. A repeated key returns the existing job.
        queue : str
            Queue that the job is sent to.
        traceparent : str, optional
            Span of the request, in the form of W3C Trace Context. It is the parent of the spans of the job's runs.
        datasets, references, maps : sequence of str
            Datasets, reference sets and maps that the job reads. They cannot be deleted either.

        Raises
        ------
        NotFound
            A record that the job reads does not exist.
        KeyReused
            The idempotency key was used before with another body.
        TooManyRequests
            Too many jobs are queued already.
        """
        needs = {EMBEDDINGS: embeddings, DATASETS: datasets, REFERENCES: references, MAPS: maps}
        job_id, owner = f"job_{secrets.token_hex(16)}", self._access.owner
        with self._database.write() as connection:
            if idempotency and (known := _find_by_key(connection, owner, *idempotency)):
                return AddedJob(*known, created=False)
            self._check_queue_limits(connection)
            for records, needed in needs.items():
                records.lock_for_use(connection, needed, self._access)
            row = {"id": job_id, "kind": kind, "queue": queue, "request": request, "plan": plan.model_dump(mode="json")}
            own = {"owner": owner, "traceparent": traceparent}
            connection.execute(sa.insert(tables.jobs).values(**row, **own, **_initial_values()))
            for records, needed in needs.items():
                records.link_to_job(connection, job_id, needed)
            if idempotency:
                _keep_key(connection, owner, idempotency, job_id)
            if request.get("webhook"):
                add_webhook(connection, job_id, request["webhook"]["url"])
            return AddedJob(read_job(connection, job_id, self._access).job, 1, created=True)

    def get(self, job_id: str) -> Job:
        """Return one job. Raise NotFound if there is none, Expired if it has been deleted."""
        return self.versioned(job_id).job

    def versioned(self, job_id: str) -> VersionedJob:
        """Return one job and the version of this state. Raise NotFound or Expired as `get` does."""
        with self._database.read() as connection:
            return read_job(connection, job_id, self._access)

    def version(self, job_id: str) -> int:
        """Return the version of a job, which every change that a user can see increases by 1. Raise as `get` does."""
        with self._database.read() as connection:
            query = sa.select(tables.jobs.c.version).where(_is(job_id, self._access))
            version = connection.execute(query).scalar()
            if version is None:
                raise explain_missing_job(connection, job_id, self._access)
        return int(version)

    def webhook(self, job_id: str) -> Webhook:
        """Return the webhook of a job and the status of its delivery. Raise NotFound if there is no job or no webhook."""
        with self._database.read() as connection:
            read_job(connection, job_id, self._access)
            webhook = read_webhook(connection, job_id)
        if webhook is None:
            raise NotFound(
                "The job has no webhook.", value=job_id, hint="Set `webhook` in the request that creates a job."
            )
        return webhook

    def page(
        self, cursor: str | None, limit: int, status: JobStatus | None = None, kind: JobKind | None = None
    ) -> JobPage:
        """Return at most `limit` jobs, newest first. Raise InvalidRequest for an invalid cursor or limit."""
        query = sa.select(tables.jobs).where(self._access.visible(tables.jobs.c.owner))
        if status is not None:
            query = query.where(tables.jobs.c.status == status)
        if kind is not None:
            query = query.where(tables.jobs.c.kind == kind)
        with self._database.read() as connection:
            page = read_page(connection, query, tables.jobs, cursor, limit)
            data = tuple(load_jobs(connection, page.rows))
        return JobPage(data=data, has_more=page.has_more, next_cursor=page.next_cursor)

    def request_cancel(self, job_id: str) -> Job:
        """Request the cancellation of a job.

        A queued job is canceled at once, and a running one as soon as its process has stopped. A finished job stays
        unchanged. Raises NotFound if there is no such job.
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
            schedule_webhook(connection, job_id)
            return read_job(connection, job_id, self._access).job

    def check_room(self) -> None:
        """Raise TooManyRequests if no further job may be queued."""
        with self._database.read() as connection:
            self._check_queue_limits(connection)

    def _check_queue_limits(self, connection: Connection) -> None:
        limits = self._access
        if limits.queue_limit is None and limits.owner_queue_limit is None:
            return
        own = sa.func.count().filter(tables.jobs.c.owner == limits.owner)
        query = sa.select(sa.func.count(), own).where(tables.jobs.c.status == JobStatus.QUEUED)
        waiting, waiting_own = connection.execute(query).one()
        if limits.queue_limit is not None and waiting >= limits.queue_limit:
            raise _too_many(f"{waiting} jobs are queued", waiting, limits.queue_limit, "QUEUE_LIMIT")
        if limits.owner_queue_limit is not None and waiting_own >= limits.owner_queue_limit:
            jobs = f"{waiting_own} jobs of {limits.owner} are queued"
            raise _too_many(jobs, waiting_own, limits.owner_queue_limit, "OWNER_QUEUE_LIMIT")


def lock_job(connection: Connection, job_id: str) -> None:
    """Lock the row of a job until this transaction ends. SQLite's write lock does so for all rows."""
    connection.execute(sa.select(tables.jobs.c.id).where(tables.jobs.c.id == job_id).with_for_update())


def read_job(connection: Connection, job_id: str, access: Access) -> VersionedJob:
    """Return one job as this transaction sees it. Raise NotFound if there is none, Expired if it has been deleted."""
    rows = connection.execute(sa.select(tables.jobs).where(_is(job_id, access))).all()
    if not rows:
        raise explain_missing_job(connection, job_id, access)
    return VersionedJob(load_jobs(connection, rows)[0], rows[0].version)


def load_jobs(connection: Connection, rows: Sequence[Row[Any]]) -> list[Job]:
    """Return the jobs of these rows, in their order, with their runs."""
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
    # Internal columns (delivery, beat, ...) are not fields of Job, which ignores them.
    return Job.model_validate({**row._mapping, "runs": runs, "links": links})  # noqa: SLF001 - SQLAlchemy's public name for a row as a dictionary


def _initial_values() -> dict[str, Any]:
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
            f"The idempotency key has {len(key)} characters; the limit is {KEY_LENGTH_MAX}.",
            value=key,
            limit=KEY_LENGTH_MAX,
            pointer="Idempotency-Key",
        )
    serialize(connection, f"{owner} {key}")  # the second of two requests with one key finds the job of the first
    known = connection.execute(
        sa.select(tables.idempotency_keys.c.body_sha256, tables.jobs.c.id, tables.jobs.c.delivery)
        .join(tables.jobs, tables.jobs.c.id == tables.idempotency_keys.c.job_id)
        .where(tables.idempotency_keys.c.owner == owner, tables.idempotency_keys.c.key == key)
    ).first()
    if known is None:
        return None
    if known.body_sha256 != body_sha256:
        raise KeyReused(
            f"The idempotency key {key!r} was already used for another request.",
            value=key,
            hint="Use a new key for each request.",
        )
    return read_job(connection, known.id, Access(owner)).job, known.delivery


def _keep_key(connection: Connection, owner: str, idempotency: tuple[str, str], job_id: str) -> None:
    key, body_sha256 = idempotency
    row = {"owner": owner, "key": key, "body_sha256": body_sha256, "job_id": job_id, "created_at": datetime.now(UTC)}
    connection.execute(sa.insert(tables.idempotency_keys).values(row))


def _is(job_id: str, access: Access) -> ColumnElement[bool]:
    return sa.and_(tables.jobs.c.id == _checked(job_id), access.visible(tables.jobs.c.owner))


def _too_many(what: str, value: int, limit: int, variable: str) -> TooManyRequests:
    hint = f"Repeat the request later, with the same Idempotency-Key. The operator sets the limit with CONSILIENCE_{variable}."
    return TooManyRequests(f"{what}; the limit is {limit}.", value=value, limit=limit, hint=hint)


def _checked(job_id: str) -> str:
    """Return a well-formed id. Raise NotFound for any other string."""
    if not JOB_ID.fullmatch(job_id):
        raise NotFound("There is no such job.", value=job_id)
    return job_id
