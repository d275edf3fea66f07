"""The row of a job's webhook: made with the job, due from the transaction that ends the job.

The row is the outbox: there is no moment at which a job has ended and its message is not there.
"""

import secrets
from datetime import UTC, datetime
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from consilience.contract.jobs import FINISHED
from consilience.contract.webhooks import Webhook, WebhookStatus
from consilience.stores import tables

_hook = tables.webhooks


def register(connection: Connection, job_id: str, url: str) -> None:
    """Keep where the job's end is to be told."""
    host = urlsplit(url).hostname or ""
    message_id = f"msg_{secrets.token_hex(16)}"
    row = {"job_id": job_id, "message_id": message_id, "url": url, "host": host, "attempts": 0}
    connection.execute(sa.insert(_hook).values(row))


def announce_end(connection: Connection, job_id: str) -> None:
    """Make the job's webhook due if the job has ended in this transaction, and has one."""
    is_over = sa.select(tables.jobs.c.id).where(tables.jobs.c.id == job_id, tables.jobs.c.status.in_(FINISHED))
    unsent = sa.and_(*(column.is_(None) for column in (_hook.c.due_at, _hook.c.delivered_at, _hook.c.gave_up_at)))
    connection.execute(
        sa.update(_hook).where(_hook.c.job_id == job_id, unsent, is_over.exists()).values(due_at=datetime.now(UTC))
    )


def read_webhook(connection: Connection, job_id: str) -> Webhook | None:
    """The job's webhook as this transaction sees it; None where it has none."""
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
        gave_up_at=row.gave_up_at,
    )


def _status(row: Row[tuple[object, ...]]) -> WebhookStatus:
    if row.delivered_at:
        return WebhookStatus.DELIVERED
    if row.gave_up_at:
        return WebhookStatus.FAILED
    return WebhookStatus.PENDING if row.due_at else WebhookStatus.WAITING
