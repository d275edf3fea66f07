"""Transactional outbox of webhooks: a row is made with its job and scheduled by the transaction that ends the job.

So a job never ends without its message being scheduled.
"""

import secrets
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Row

from consilience.contract.jobs import FINISHED, JobStatus
from consilience.contract.webhooks import Webhook, WebhookStatus
from consilience.stores import tables
from consilience.stores.database import Database

#: Maximum delay of a message. A message that is due later was written before the clock was set back, so it is due now.
MAX_DELAY = timedelta(days=2)
ERROR_LENGTH = 500
_hook, _job = tables.webhooks, tables.jobs


class WebhookMessage(NamedTuple):
    """Message to send, and the number of the attempt."""

    message_id: str
    url: str
    host: str
    attempt: int
    """Number of the attempt, starting at 1."""
    body: dict[str, Any]


class Outbox:
    """Webhooks of jobs that have ended. Several processes may claim messages and report at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, lease_s: float, excluded_hosts: Collection[str] = ()) -> WebhookMessage | None:
        """Claim the message that has been due for longest for `lease_s` seconds. Return None if there is none.

        Messages to `excluded_hosts` are skipped.
        """
        now = datetime.now(UTC)
        query = (
            sa.select(_hook.c.message_id, _hook.c.due_at)
            .where(_is_due(now), _hook.c.host.not_in(excluded_hosts))
            .order_by(_hook.c.due_at)
            .limit(1)
        )
        with (
            self._database.read() as connection
        ):  # most often there is nothing to claim, and then no write lock is taken
            due = connection.execute(query).first()
        if due is None:
            return None
        unclaimed = sa.and_(_hook.c.message_id == due.message_id, _hook.c.due_at == due.due_at)
        claiming = (
            sa.update(_hook)
            .where(unclaimed)
            .values(due_at=now + timedelta(seconds=lease_s), attempts=_hook.c.attempts + 1)
        )
        with self._database.write() as connection:
            if connection.execute(claiming).rowcount != 1:
                return None
            joined = sa.select(_hook, _job).join(_job, _job.c.id == _hook.c.job_id)
            return _to_message(connection.execute(joined.where(_hook.c.message_id == due.message_id)).one())

    def delivered(self, message_id: str) -> None:
        """Record that the receiver accepted the message. It is not sent again."""
        now = datetime.now(UTC)
        self._end(_hook.c.message_id == message_id, delivered_at=now, failed_at=None, due_at=None)

    def failed(self, message: WebhookMessage, error: str, retry_in_s: float | None) -> None:
        """Record a failed attempt and send the message again after `retry_in_s` seconds, or never if None.

        This changes nothing if the message was claimed again since.
        """
        now = datetime.now(UTC)
        mine = sa.and_(_hook.c.message_id == message.message_id, _hook.c.attempts == message.attempt)
        outcome: dict[str, Any] = {"due_at": None, "failed_at": now}
        if retry_in_s is not None:
            outcome = {"due_at": now + timedelta(seconds=retry_in_s)}
        self._end(mine, last_error=error[:ERROR_LENGTH], **outcome)

    def _end(self, condition: ColumnElement[bool], **outcome: Any) -> None:
        with self._database.write() as connection:
            undelivered = sa.and_(condition, _hook.c.delivered_at.is_(None))
            connection.execute(sa.update(_hook).where(undelivered).values(**outcome))


def _is_due(now: datetime) -> ColumnElement[bool]:
    return sa.or_(_hook.c.due_at <= now, _hook.c.due_at > now + MAX_DELAY)


def _to_message(row: Row[Any]) -> WebhookMessage:
    status = JobStatus(row.status)
    links = {"self": f"/v1/jobs/{row.job_id}"}
    data = {
        "id": row.job_id,
        "kind": row.kind,
        "status": status.value,
        "finished_at": _text(row.finished_at),
        "metadata": row.request.get("metadata", {}),
        "links": links,
    }
    body = {"type": f"job.{status.value}", "timestamp": _text(row.finished_at), "data": data}
    return WebhookMessage(row.message_id, row.url, row.host, row.attempts, body)


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def add_webhook(connection: Connection, job_id: str, url: str) -> None:
    """Add the webhook of a job."""
    host = urlsplit(url).hostname or ""
    message_id = f"msg_{secrets.token_hex(16)}"
    row = {"job_id": job_id, "message_id": message_id, "url": url, "host": host, "attempts": 0}
    connection.execute(sa.insert(_hook).values(row))


def schedule_webhook(connection: Connection, job_id: str) -> None:
    """Schedule the webhook of a job, if there is one and the job has ended in this transaction."""
    is_over = sa.select(tables.jobs.c.id).where(tables.jobs.c.id == job_id, tables.jobs.c.status.in_(FINISHED))
    unsent = sa.and_(*(column.is_(None) for column in (_hook.c.due_at, _hook.c.delivered_at, _hook.c.failed_at)))
    connection.execute(
        sa.update(_hook).where(_hook.c.job_id == job_id, unsent, is_over.exists()).values(due_at=datetime.now(UTC))
    )


def read_webhook(connection: Connection, job_id: str) -> Webhook | None:
    """Return the webhook of a job as this transaction sees it, or None if there is none."""
    row = connection.execute(sa.select(_hook).where(_hook.c.job_id == job_id)).first()
    if row is None:
        return None
    return Webhook(
        id=row.message_id,
        url=row.url,
        status=_status(row),
        attempts=row.attempts,
        last_error=row.last_error,
        next_attempt_at=row.due_at,
        delivered_at=row.delivered_at,
        failed_at=row.failed_at,
    )


def _status(row: Row[tuple[object, ...]]) -> WebhookStatus:
    if row.delivered_at:
        return WebhookStatus.DELIVERED
    if row.failed_at:
        return WebhookStatus.FAILED
    return WebhookStatus.PENDING if row.due_at else WebhookStatus.WAITING
