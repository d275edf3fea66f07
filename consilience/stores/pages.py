"""Pages of a list, newest first, under a cursor that only this file reads."""

import base64
import json
import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Row, Select, Table

from consilience.errors import InvalidRequest

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
