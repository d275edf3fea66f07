"""What an owner may keep: the bytes of its sets, datasets and maps together."""

import sqlalchemy as sa
from sqlalchemy import Connection

from consilience.errors import QuotaExceeded
from consilience.stores import tables
from consilience.stores.access import Access
from consilience.stores.database import Database, take_turns


def quota_left(database: Database, access: Access) -> int | None:
    """Bytes that the owner may still keep, never less than 0; None where there is no limit."""
    limit = access.owner_bytes_limit
    if limit is None:
        return None
    with database.read() as connection:
        return max(0, limit - _used(connection, access))


def enforce_quota(connection: Connection, access: Access) -> None:
    """Raise QuotaExceeded where the owner has too much by what this transaction added. Others that add wait for its end."""
    if access.owner_bytes_limit is not None:
        take_turns(connection, f"quota of {access.owner}")
        refuse_over_quota(connection, access, 0)


def refuse_over_quota(connection: Connection, access: Access, more: int) -> None:
    """Raise QuotaExceeded where `more` bytes would be more than the owner may keep."""
    limit = access.owner_bytes_limit
    if limit is None:
        return
    used = _used(connection, access)
    if used + more > limit:
        raise QuotaExceeded(
            f"The sets, datasets and maps of {access.owner} would have {used + more} bytes; at most {limit} are allowed.",
            value=used + more,
            limit=limit,
            hint="Delete those that are no longer needed; CONSILIENCE_OWNER_BYTES_LIMIT is the limit.",
        )


def _used(connection: Connection, access: Access) -> int:
    kept = (tables.embeddings.c, tables.datasets.c, tables.maps.c)
    sums = (sa.select(sa.func.sum(table.bytes)).where(table.owner == access.owner) for table in kept)
    return sum(int(connection.execute(query).scalar() or 0) for query in sums)
