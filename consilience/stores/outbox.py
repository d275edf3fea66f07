"""What deliveries do to webhooks: claim one that is due, then say how it went.

A claim moves the row's `due_at` past the time that one attempt may take. Whoever dies after the claim leaves a row that
is due again then, so a message is sent at least once, and under the same id each time.
"""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Row

from consilience.contract.jobs import JobStatus
from consilience.stores import tables
from consilience.stores.database import Database

#: No row is put off for longer: one that is due later than this was written before the clock was set back.
FARTHEST = timedelta(days=2)
ERROR_LENGTH = 500
_hook, _job = tables.webhooks, tables.jobs


class Message(NamedTuple):
    """A message to send, and the attempt that it was claimed for."""

    message_id: str
    url: str
    host: str
    attempt: int
    """1 for the first."""
    body: dict[str, Any]


class Outbox:
    """The webhooks of jobs that have ended. Any number of processes may claim and report at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, lease_s: float, besides: Collection[str] = ()) -> Message | None:
        """Take the message that has been due for longest, if any, for `lease_s` seconds; none to hosts of `besides`."""
        now = datetime.now(UTC)
        query = (
            sa.select(_hook.c.message_id, _hook.c.due_at)
            .where(_is_due(now), _hook.c.host.not_in(besides))
            .order_by(_hook.c.due_at)
            .limit(1)
        )
        with self._database.read() as connection:  # most looks find nothing, and then nobody is kept from writing
            found = connection.execute(query).first()
        if found is None:
            return None
        unclaimed = sa.and_(_hook.c.message_id == found.message_id, _hook.c.due_at == found.due_at)
        claiming = (
            sa.update(_hook)
            .where(unclaimed)
            .values(due_at=now + timedelta(seconds=lease_s), attempts=_hook.c.attempts + 1)
        )
        with self._database.write() as connection:
            if connection.execute(claiming).rowcount != 1:
                return None
            joined = sa.select(_hook, _job).join(_job, _job.c.id == _hook.c.job_id)
            return _to_message(connection.execute(joined.where(_hook.c.message_id == found.message_id)).one())

    def delivered(self, message_id: str) -> None:
        """The receiver has accepted it: it is not sent again."""
        now = datetime.now(UTC)
        self._end(_hook.c.message_id == message_id, delivered_at=now, gave_up_at=None, due_at=None)

    def failed(self, message: Message, error: str, again_in_s: float | None) -> None:
        """The attempt failed: it is due again after so long; None gives it up. Nothing, if it was claimed again since."""
        now = datetime.now(UTC)
        mine = sa.and_(_hook.c.message_id == message.message_id, _hook.c.attempts == message.attempt)
        outcome: dict[str, Any] = {"due_at": None, "gave_up_at": now}
        if again_in_s is not None:
            outcome = {"due_at": now + timedelta(seconds=again_in_s)}
        self._end(mine, last_error=error[:ERROR_LENGTH], **outcome)

    def _end(self, condition: ColumnElement[bool], **outcome: Any) -> None:
        with self._database.write() as connection:
            undelivered = sa.and_(condition, _hook.c.delivered_at.is_(None))
            connection.execute(sa.update(_hook).where(undelivered).values(**outcome))


def _is_due(now: datetime) -> ColumnElement[bool]:
    return sa.or_(_hook.c.due_at <= now, _hook.c.due_at > now + FARTHEST)


def _to_message(row: Row[Any]) -> Message:
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
    return Message(row.message_id, row.url, row.host, row.attempts, body)


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
