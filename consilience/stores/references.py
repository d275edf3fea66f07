"""Reference sets: which stored sets a new model is scored against, under which name."""

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
    """The rows of reference sets, as one caller may see and add to them."""

    def __init__(self, database: Database, access: Access | None = None) -> None:
        self._database, self._access = database, access or Access()

    def add(
        self,
        name: str,
        embeddings: Sequence[str],
        metadata: Mapping[str, Any],
        idempotency_key: str | None = None,
    ) -> tuple[ReferenceSet, bool]:
        """Record a reference set; the same members under the same name and metadata are the one that is there already.

        Returns
        -------
        tuple of ReferenceSet and bool
            The reference set, and whether it is new.

        Raises
        ------
        NotFound
            There is no such set; the pointer says which.
        InvalidRequest, UnpairedSides
            A member comes twice, or has other items than the first: `check_members`.
        KeyReused
            The key came before, with another request.
        """
        identity = hashlib.sha256(canonical_json([name, list(embeddings), metadata, self._access.owner])).hexdigest()
        with self._database.write() as connection:
            EMBEDDINGS.hold(connection, embeddings, self._access, "/embeddings")
            members = load_sets(connection, embeddings)
            check_members(members)
            values = {
                "identity": identity,
                "name": name,
                "n": members[0].n,
                "digest": reference_digest([each.digest for each in members]),
                "metadata": dict(metadata),
            }
            row, created = REFERENCES.keep(connection, self._access, values, idempotency_key)
            if created:
                rows = [{"reference_id": row.id, "position": i, "embedding_id": e} for i, e in enumerate(embeddings)]
                connection.execute(sa.insert(tables.reference_members), rows)
            return _to_references(connection, [row])[0], created

    def get(self, reference_id: str) -> ReferenceSet:
        """One reference set; NotFound where there is none."""
        with self._database.read() as connection:
            return self._find(connection, reference_id)

    def open(self, reference_id: str) -> tuple[ReferenceSet, tuple[EmbeddingSet, ...]]:
        """One reference set and its members, in its order; NotFound where there is none."""
        with self._database.read() as connection:
            found = self._find(connection, reference_id)
            return found, tuple(load_sets(connection, [each.embedding for each in found.members]))

    def page(self, cursor: str | None, limit: int, name: str | None = None) -> ReferencePage:
        """At most `limit` reference sets, newest first, of this name; InvalidRequest where cursor or limit cannot be used."""
        with self._database.read() as connection:
            page = REFERENCES.page(connection, self._access, cursor, limit, name)
            data = _to_references(connection, page.rows)
        return ReferencePage(data=tuple(data), has_more=page.has_more, next_cursor=page.next_cursor)

    def delete(self, reference_id: str) -> None:
        """Forget a reference set; its members stay, and may be deleted from now on.

        Raises
        ------
        NotFound
            There is no such reference set.
        InUse
            An unfinished job needs it.
        """
        with self._database.write() as connection:
            REFERENCES.release(connection, reference_id, self._access)
            REFERENCES.forget(connection, reference_id, ())

    def _find(self, connection: Connection, reference_id: str) -> ReferenceSet:
        return _to_references(connection, [REFERENCES.find(connection, reference_id, self._access)])[0]


def check_members(members: Sequence[EmbeddingSet]) -> None:
    """Refuse sets that cannot be members of one reference set.

    Raises
    ------
    InvalidRequest
        Two have the same content: it would count twice.
    UnpairedSides
        They have different numbers of rows; of those with ids or groups, two have different ones.
    """
    seen: dict[str, int] = {}
    for place, member in enumerate(members):
        first = seen.setdefault(member.digest, place)
        if first != place:
            raise InvalidRequest(
                f"Members {first} and {place} hold the same content, which would count twice.",
                value=member.id,
                hint="Name each set once.",
                pointer=f"/embeddings/{place}",
            )
        if member.n != members[0].n:
            raise UnpairedSides(
                f"Member {place} has {member.n} rows and member 0 has {members[0].n}.",
                value=member.n,
                limit=members[0].n,
                hint="The members of a reference set are embeddings of the same items in the same order.",
                pointer=f"/embeddings/{place}",
            )
    for what in ("ids", "groups"):
        _check_column(members, what)
    lacking = [place for place, each in enumerate(members) if each.groups is None]
    if lacking and len(lacking) < len(members):
        raise UnpairedSides(
            f"Some members have groups, and member {lacking[0]} has none.",
            value=members[lacking[0]].id,
            hint="Groups change who is a neighbour: give them to all members, or to none.",
            pointer=f"/embeddings/{lacking[0]}",
        )


def _check_column(members: Sequence[EmbeddingSet], what: str) -> None:
    having = [(place, column.digest) for place, each in enumerate(members) if (column := getattr(each, what))]
    for place, digest in having:
        if digest != having[0][1]:
            raise UnpairedSides(
                f"Members {having[0][0]} and {place} have different {what}.",
                value=members[place].id,
                hint=f"The members that have {what} have the same, in the same order; upload the set again so.",
                pointer=f"/embeddings/{place}",
            )


def reference_digest(digests: Iterable[str]) -> str:
    """SHA-256 over the members' digests: equal for the same members in whatever order."""
    return hashlib.sha256(canonical_json(sorted(digests))).hexdigest()


def _to_references(connection: Connection, rows: Sequence[Row[Any]]) -> list[ReferenceSet]:
    """The reference sets of these rows, in their order, with their members."""
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
