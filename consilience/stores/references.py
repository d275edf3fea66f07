"""Reference sets: which stored sets a new model is scored against, under which name."""

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Row
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.references import ReferenceMember, ReferencePage, ReferenceSet
from consilience.errors import InvalidRequest, NotFound, UnpairedSides
from consilience.formats.digests import canonical
from consilience.stores import tables
from consilience.stores.access import Access
from consilience.stores.database import Database
from consilience.stores.embeddings import hold_sets, load_sets
from consilience.stores.pages import read_page
from consilience.stores.upload_keys import bind_key
from consilience.stores.uses import refuse_if_used

REFERENCE_ID = re.compile(r"ref_[0-9a-f]{32}")
_reference, _member = tables.reference_sets.c, tables.reference_members.c


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
            There is no such set.
        InvalidRequest, UnpairedSides
            A member comes twice, or has other items than the first: `check_members`.
        KeyReused
            The key came before, with another request.
        """
        owner, reference_id = self._access.owner, f"ref_{secrets.token_hex(16)}"
        identity = hashlib.sha256(canonical([name, list(embeddings), metadata, owner])).hexdigest()
        with self._database.write() as connection:
            hold_sets(connection, embeddings, self._access)
            members = load_sets(connection, embeddings)
            check_members(members)
            values = {
                "id": reference_id,
                "owner": owner,
                "identity": identity,
                "name": name,
                "n": members[0].n,
                "digest": reference_digest([each.digest for each in members]),
                "metadata": dict(metadata),
                "created_at": datetime.now(UTC),
            }
            insert = insert_postgresql if connection.dialect.name == "postgresql" else insert_sqlite
            statement = insert(tables.reference_sets).values(values).on_conflict_do_nothing(index_elements=["identity"])
            created = connection.execute(statement.returning(_reference.id)).first() is not None
            if created:
                rows = [
                    {"reference_id": reference_id, "position": i, "embedding_id": each}
                    for i, each in enumerate(embeddings)
                ]
                connection.execute(sa.insert(tables.reference_members), rows)
            [stored] = self._load(connection, _reference.identity == identity)
            if idempotency_key is not None:
                bind_key(connection, tables.reference_keys, owner, idempotency_key, identity, stored.id)
            return stored, created

    def get(self, reference_id: str) -> ReferenceSet:
        """One reference set; NotFound where there is none."""
        with self._database.read() as connection:
            found = self._load(connection, self._is(reference_id))
        if not found:
            raise _not_found(reference_id)
        return found[0]

    def open(self, reference_id: str) -> tuple[ReferenceSet, tuple[EmbeddingSet, ...]]:
        """One reference set and its members, in its order; NotFound where there is none."""
        with self._database.read() as connection:
            found = self._load(connection, self._is(reference_id))
            if not found:
                raise _not_found(reference_id)
            return found[0], tuple(load_sets(connection, [each.embedding for each in found[0].members]))

    def page(self, cursor: str | None, limit: int, name: str | None = None) -> ReferencePage:
        """At most `limit` reference sets, newest first, of this name; InvalidRequest where cursor or limit cannot be used."""
        query = sa.select(tables.reference_sets).where(self._access.sees(_reference.owner))
        if name is not None:
            query = query.where(_reference.name == name)
        with self._database.read() as connection:
            page = read_page(connection, query, tables.reference_sets, cursor, limit)
            data = _to_references(connection, page.rows)
        return ReferencePage(data=tuple(data), has_more=page.next_cursor is not None, next_cursor=page.next_cursor)

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
            # The lock keeps a job from being added between this look and the deletion.
            query = sa.select(_reference.id).where(self._is(reference_id)).with_for_update()
            if connection.execute(query).first() is None:
                raise _not_found(reference_id)
            refuse_if_used(connection, tables.job_references.c.reference_id, reference_id)
            connection.execute(sa.delete(tables.reference_sets).where(_reference.id == reference_id))

    def _load(self, connection: Connection, *conditions: ColumnElement[bool]) -> list[ReferenceSet]:
        rows = connection.execute(sa.select(tables.reference_sets).where(*conditions)).all()
        return _to_references(connection, rows)

    def _is(self, reference_id: str) -> ColumnElement[bool]:
        if not REFERENCE_ID.fullmatch(reference_id):  # it would not even reach the table
            raise _not_found(reference_id)
        return sa.and_(_reference.id == reference_id, self._access.sees(_reference.owner))


def hold_references(connection: Connection, reference_ids: Iterable[str], access: Access) -> None:
    """Keep reference sets from being deleted until this transaction has committed the job that uses them.

    Raises NotFound where one is not there.
    """
    for each in reference_ids:
        query = sa.select(_reference.id).where(_reference.id == each, access.sees(_reference.owner))
        if connection.execute(query.with_for_update(read=True)).first() is None:
            raise _not_found(each)


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
    return hashlib.sha256(canonical(sorted(digests))).hexdigest()


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


def _not_found(reference_id: str) -> NotFound:
    return NotFound("There is no such reference set.", value=reference_id)
