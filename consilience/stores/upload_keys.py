"""Idempotency keys of uploads: the same key with the same content is the same set, with other content an error."""

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from consilience.errors import KeyReused
from consilience.stores import tables

_key = tables.upload_keys


def bind_key(connection: Connection, owner: str, key: str, identity: str, embedding_id: str) -> None:
    """Let the key stand for the set of this identity, as long as that is there.

    Raises
    ------
    KeyReused
        It stands for another content, name or metadata.
    """
    if connection.dialect.name == "postgresql":
        # Two uploads with one key take turns, so that the second finds what the first one's key stands for.
        place = sa.func.hashtextextended(f"upload {owner} {key}", 0)
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(place)))
    known = connection.execute(sa.select(_key.c.identity).where(_key.c.owner == owner, _key.c.key == key)).scalar()
    if known is None:
        row = {"owner": owner, "key": key, "identity": identity, "embedding_id": embedding_id}
        connection.execute(sa.insert(_key).values(**row, created_at=datetime.now(UTC)))
    elif known != identity:
        raise KeyReused(
            "This idempotency key came before, with another upload.", value=key, hint="Use a new key for a new upload."
        )
