"""Idempotency keys of uploads: the same key with the same content is the same set, with other content an error."""

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy import Connection, Table

from consilience.errors import KeyReused
from consilience.stores import tables

#: What each table of keys calls that for which a key stands.
TARGETS: dict[Table, str] = {
    tables.upload_keys: "embedding_id",
    tables.dataset_keys: "dataset_id",
    tables.reference_keys: "reference_id",
    tables.map_keys: "map_id",
}


def bind_key(  # noqa: PLR0917 - where, then whose key stands for what
    connection: Connection, table: Table, owner: str, key: str, identity: str, target_id: str
) -> None:
    """Let the key stand for the set or dataset of this identity, as long as that is there.

    Raises
    ------
    KeyReused
        It stands for another content, name or metadata.
    """
    if connection.dialect.name == "postgresql":
        # Two uploads with one key take turns, so that the second finds what the first one's key stands for.
        place = sa.func.hashtextextended(f"{table.name} {owner} {key}", 0)
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(place)))
    this = table.c.owner == owner, table.c.key == key
    known = connection.execute(sa.select(table.c.identity).where(*this)).scalar()
    if known is None:
        row = {"owner": owner, "key": key, "identity": identity, TARGETS[table]: target_id}
        connection.execute(sa.insert(table).values(**row, created_at=datetime.now(UTC)))
    elif known != identity:
        raise KeyReused(
            "This idempotency key came before, with another upload.", value=key, hint="Use a new key for a new upload."
        )
