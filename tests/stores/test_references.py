import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from consilience.contract.embeddings import Column, EmbeddingSet
from consilience.errors import InUse, InvalidRequest, KeyReused, NotFound, UnpairedSides
from consilience.stores import tables
from consilience.stores.database import Database
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.jobs import JobRecords
from consilience.stores.leases import Leases
from consilience.stores.records import Access
from consilience.stores.references import ReferenceRecords, check_members
from tests.stores.conftest import PLAN, digest

AddSet = Callable[..., EmbeddingSet]
UNKNOWN = "emb_" + "0" * 32


@pytest.fixture
def references(database: Database) -> ReferenceRecords:
    return ReferenceRecords(database)


@pytest.fixture
def members(add_set: AddSet) -> list[str]:
    return [add_set(word, name=f"model {word}").id for word in ("x", "y z", "w")]


def test_a_reference_set_comes_back_as_it_was_recorded(references: ReferenceRecords, members: list[str]) -> None:
    added, created = references.add("released", members, {"run": 7})

    assert created
    assert references.get(added.id) == added
    assert [(each.embedding, each.name, each.layers) for each in added.members] == [
        (members[0], "model x", 1),
        (members[1], "model y z", 2),
        (members[2], "model w", 1),
    ]
    assert (added.name, added.n, added.metadata) == ("released", 5, {"run": 7})
    assert added.links == {"self": f"/v1/references/{added.id}"}
    assert [each.id for each in references.open(added.id)[1]] == members


def test_the_digest_is_a_version_of_the_content_whatever_the_order(
    references: ReferenceRecords, members: list[str]
) -> None:
    first, turned, fewer = (references.add("r", each, {})[0] for each in (members, members[::-1], members[:2]))

    assert first.digest == turned.digest != fewer.digest
    assert len({first.id, turned.id, fewer.id}) == 3
    assert [each.id for each in references.page(None, 10, "r").data] == [fewer.id, turned.id, first.id]
    assert references.page(None, 10, "other").data == ()


def test_the_same_request_is_the_same_reference_set_also_at_the_same_time(
    references: ReferenceRecords, members: list[str]
) -> None:
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(references.add("r", members, {})[0].id)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(ids) == 5
    assert len(set(ids)) == 1
    assert references.add("r", members, {}) == (references.get(ids[0]), False)


def test_a_key_stands_for_one_request(references: ReferenceRecords, members: list[str]) -> None:
    first, _ = references.add("r", members, {}, "key")

    assert references.add("r", members, {}, "key") == (first, False)
    with pytest.raises(KeyReused):
        references.add("r", members[:2], {}, "key")
    assert references.page(None, 10).data == (first,)


def test_members_are_pinned_as_long_as_the_reference_set_is_there(
    references: ReferenceRecords, embeddings: EmbeddingRecords, members: list[str]
) -> None:
    added, _ = references.add("released", members, {})

    with pytest.raises(InUse, match=rf"member of the reference set released \({added.id}\)"):
        embeddings.delete(members[1])
    references.delete(added.id)
    embeddings.delete(members[1])

    with pytest.raises(NotFound):
        references.get(added.id)
    with pytest.raises(NotFound):
        references.open(added.id)


def test_the_database_itself_keeps_a_member(
    database: Database, references: ReferenceRecords, members: list[str]
) -> None:
    references.add("r", members, {})
    with database.write() as connection, pytest.raises(IntegrityError), connection.begin_nested():
        connection.execute(sa.delete(tables.embeddings).where(tables.embeddings.c.id == members[0]))


def test_a_reference_set_stays_while_an_unfinished_job_needs_it(
    references: ReferenceRecords, jobs: JobRecords, leases: Leases, members: list[str]
) -> None:
    reference = references.add("r", members, {})[0].id
    job = jobs.add("alignment", {}, PLAN, members, references=[reference]).job

    with pytest.raises(InUse, match=f"unfinished job {job.id} uses this reference set"):
        references.delete(reference)
    jobs.request_cancel(job.id)
    references.delete(reference)

    with pytest.raises(NotFound):
        jobs.add("alignment", {}, PLAN, members, references=[reference])


def test_a_member_that_is_not_there_is_not_found(references: ReferenceRecords, members: list[str]) -> None:
    for unknown in (UNKNOWN, "emb_"):
        with pytest.raises(NotFound) as caught:
            references.add("r", [*members, unknown], {})
        assert caught.value.pointer == "/embeddings/3"
    assert references.page(None, 10).data == ()


def test_the_same_content_twice_is_refused_and_named(
    references: ReferenceRecords, add_set: AddSet, members: list[str]
) -> None:
    copy = add_set("x", name="a copy of x").id
    for twice in (members[0], copy):
        with pytest.raises(InvalidRequest, match="Members 0 and 3 have the same content") as caught:
            references.add("r", [*members, twice], {})
        assert caught.value.pointer == "/embeddings/3"


def with_columns(
    embeddings: EmbeddingRecords, add_set: AddSet, word: str, *, n: int = 5, **columns: str
) -> EmbeddingSet:
    kept = {name: Column(digest=digest(value), unique=n) for name, value in columns.items()}
    return embeddings.add(word, n, add_set(word).layers, digest(f"{word} {n} {columns}"), {}, 60, **kept)[0]


def test_members_are_of_the_same_items(embeddings: EmbeddingRecords, add_set: AddSet) -> None:
    bare, first = add_set("a"), with_columns(embeddings, add_set, "b", ids="one")
    same, other = (with_columns(embeddings, add_set, word, ids=ids) for word, ids in (("c", "one"), ("d", "two")))
    longer, grouped = with_columns(embeddings, add_set, "e", n=6), with_columns(embeddings, add_set, "f", groups="g")

    check_members([bare, first, same])
    with pytest.raises(UnpairedSides, match="Members 1 and 2 have different ids"):
        check_members([bare, first, other])
    with pytest.raises(UnpairedSides, match="Member 1 has 6 rows, but member 0 has 5"):
        check_members([bare, longer])
    with pytest.raises(UnpairedSides, match="member 0 has none"):
        check_members([bare, grouped])
    with pytest.raises(UnpairedSides, match="different groups"):
        check_members([grouped, with_columns(embeddings, add_set, "g", groups="h")])


def test_reference_sets_of_others_do_not_exist(database: Database, add_set: AddSet, members: list[str]) -> None:
    bob, own = ReferenceRecords(database, Access("bob")), ReferenceRecords(database)
    theirs = own.add("r", members, {})[0].id

    for ask in (bob.get, bob.open, bob.delete):
        with pytest.raises(NotFound):
            ask(theirs)
    with pytest.raises(NotFound):
        bob.add("mine", members, {})
    with pytest.raises(NotFound):
        JobRecords(database, Access("bob")).add("alignment", {}, PLAN, [], references=[theirs])
    assert bob.page(None, 10).data == ()


def test_pages_go_through_all_newest_first(references: ReferenceRecords, members: list[str]) -> None:
    added = [references.add(f"r{number}", members, {})[0].id for number in range(5)]
    first = references.page(None, 3)
    second = references.page(first.next_cursor, 3)

    assert [each.id for each in (*first.data, *second.data)] == added[::-1]
    assert (first.has_more, second.has_more) == (True, False)
