"""Records of reference sets: named lists of stored sets that new models are scored against."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.references import ReferenceMember, ReferencePage, ReferenceSet
from consilience.errors import InvalidRequest, UnpairedSides
from consilience.formats.reading import canonical_json
from consilience.stores import tables
from consilience.stores.database import Database
from consilience.stores.embeddings import load_sets
from consilience.stores.records import EMBEDDINGS, REFERENCES, Access

_member = tables.reference_members.c


class ReferenceRecords:
    """Records of reference sets, limited to the access of one principal."""

    def __init__(self, database: Database, access: Access | None = None) -> None:
        self._database, self._access = database, access or Access()

    def add(
        self,
        name: str,
        embeddings: Sequence[str],
        metadata: Mapping[str, Any],
        idempotency_key: str | None = None,
    ) -> tuple[ReferenceSet, bool]:
        """Record a reference set. If one with the same members, name and metadata exists, return that one.

        Returns
        -------
        tuple of ReferenceSet and bool
            The reference set, and True if it is new.

        Raises
        ------
        NotFound
            A member does not exist. The pointer of the error gives its position.
        InvalidRequest, UnpairedSides
            A member occurs twice, or has other items than the first one. See `check_members`.
        KeyReused
            The idempotency key was used before with another request.
        """
        identity = hashlib.sha256(canonical_json([name, list(embeddings), metadata, self._access.owner])).hexdigest()
        with self._database.write() as connection:
            EMBEDDINGS.lock_for_use(connection, embeddings, self._access, "/embeddings")
            members = load_sets(connection, embeddings)
            check_members(members)
            values = {
                "identity": identity,
                "name": name,
                "n": members[0].n,
                "digest": reference_digest([each.digest for each in members]),
                "metadata": dict(metadata),
            }
            row, created = REFERENCES.insert(connection, self._access, values, idempotency_key)
            if created:
                rows = [{"reference_id": row.id, "position": i, "embedding_id": e} for i, e in enumerate(embeddings)]
                connection.execute(sa.insert(tables.reference_members), rows)
            return _to_references(connection, [row])[0], created

    def get(self, reference_id: str) -> ReferenceSet:
        """Return one reference set. Raise NotFound if there is none."""
        with self._database.read() as connection:
            return self._find(connection, reference_id)

    def open(self, reference_id: str) -> tuple[ReferenceSet, tuple[EmbeddingSet, ...]]:
        """Return one reference set and its members, in its order. Raise NotFound if there is none."""
        with self._database.read() as connection:
            reference = self._find(connection, reference_id)
            return reference, tuple(load_sets(connection, [each.embedding for each in reference.members]))

    def page(self, cursor: str | None, limit: int, name: str | None = None) -> ReferencePage:
        """Return at most `limit` reference sets with this name, newest first.

        Raises InvalidRequest for an invalid cursor or limit.
        """
        with self._database.read() as connection:
            page = REFERENCES.page(connection, self._access, cursor, limit, name)
            data = _to_references(connection, page.rows)
        return ReferencePage(data=tuple(data), has_more=page.has_more, next_cursor=page.next_cursor)

    def delete(self, reference_id: str) -> None:
        """Delete a reference set. Its members stay and may be deleted afterwards.

        Raises
        ------
        NotFound
            The reference set does not exist.
        InUse
            An unfinished job uses the reference set.
        """
        with self._database.write() as connection:
            REFERENCES.lock_for_delete(connection, reference_id, self._access)
            REFERENCES.delete(connection, reference_id, ())

    def _find(self, connection: Connection, reference_id: str) -> ReferenceSet:
        return _to_references(connection, [REFERENCES.find(connection, reference_id, self._access)])[0]


def check_members(members: Sequence[EmbeddingSet]) -> None:
    """Check that sets can be members of one reference set.

    Raises
    ------
    InvalidRequest
        Two sets have the same content, which would count twice.
    UnpairedSides
        The numbers of rows, the ids or the groups differ.
    """
    seen: dict[str, int] = {}
    for position, member in enumerate(members):
        first = seen.setdefault(member.digest, position)
        if first != position:
            raise InvalidRequest(
                f"Members {first} and {position} have the same content, which would count twice.",
                value=member.id,
                hint="Name each set once.",
                pointer=f"/embeddings/{position}",
            )
        if member.n != members[0].n:
            raise UnpairedSides(
                f"Member {position} has {member.n} rows, but member 0 has {members[0].n}.",
                value=member.n,
                limit=members[0].n,
                hint="All members of a reference set must be embeddings of the same items in the same order.",
                pointer=f"/embeddings/{position}",
            )
    for name in ("ids", "groups"):
        _check_column(members, name)
    lacking = [position for position, each in enumerate(members) if each.groups is None]
    if lacking and len(lacking) < len(members):
        raise UnpairedSides(
            f"Some members have groups, but member {lacking[0]} has none.",
            value=members[lacking[0]].id,
            hint="Groups change which rows are neighbours. Upload all members with groups, or all without.",
            pointer=f"/embeddings/{lacking[0]}",
        )


def _check_column(members: Sequence[EmbeddingSet], name: str) -> None:
    having = [(position, column.digest) for position, each in enumerate(members) if (column := getattr(each, name))]
    for position, digest in having:
        if digest != having[0][1]:
            raise UnpairedSides(
                f"Members {having[0][0]} and {position} have different {name}.",
                value=members[position].id,
                hint=f"All members that have {name} must have the same ones in the same order. Upload the set again with them.",
                pointer=f"/embeddings/{position}",
            )


def reference_digest(digests: Iterable[str]) -> str:
    """Return the SHA-256 of the members' digests, which does not depend on their order."""
    return hashlib.sha256(canonical_json(sorted(digests))).hexdigest()


def _to_references(connection: Connection, rows: Sequence[Row[Any]]) -> list[ReferenceSet]:
    """Return the reference sets of these rows, in their order, with their members."""
    layers = (
        sa.select(sa.func.count())
        .where(tables.layers.c.embedding_id == _member.embedding_id)
        .correlate(tables.reference_members)
        .scalar_subquery()
    )
    embedding = tables.embeddings.c
    query = (
        sa.select(_member.reference_id, embedding.id, embedding.name, embedding.digest, layers.label("layers"))
        .join(tables.embeddings, embedding.id == _member.embedding_id)
        .where(_member.reference_id.in_([row.id for row in rows]))
        .order_by(_member.position)
    )
    own: dict[str, list[ReferenceMember]] = {row.id: [] for row in rows}
    for each in connection.execute(query) if rows else ():
        member = ReferenceMember(embedding=each.id, name=each.name, layers=each.layers, digest=each.digest)
        own[each.reference_id].append(member)
    return [_to_reference(row, own[row.id]) for row in rows]


def _to_reference(row: Row[Any], members: Iterable[ReferenceMember]) -> ReferenceSet:
    fields = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for a row as a dictionary
    del fields["identity"]
    return ReferenceSet(**fields, members=tuple(members), links={"self": f"/v1/references/{row.id}"})
