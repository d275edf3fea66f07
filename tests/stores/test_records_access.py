"""One owner's rows do not exist for another."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from alembic import command

from consilience.contract.embeddings import EmbeddingSet, Layer
from consilience.contract.jobs import Job
from consilience.errors import KeyReused, NotFound, QuotaExceeded, TooManyRequests
from consilience.stores import tables
from consilience.stores.database import Database
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.jobs import JobRecords
from consilience.stores.migrations.upgrade import make_config
from consilience.stores.records import ALL_OWNERS, Access
from tests.stores.conftest import PLAN, digest

ANA, BOB = Access("ana"), Access("bob")
LAYER = Layer(name="0", dim=3, dtype="F32", digest=digest("x"))


def add_set(database: Database, access: Access, name: str = "docs", size: int = 60) -> tuple[EmbeddingSet, bool]:
    return EmbeddingRecords(database, access).add(name, 5, [LAYER], digest("x"), {}, size)


def add_job(database: Database, access: Access, *used: str, key: str | None = None) -> Job:
    idempotency = (key, "sha") if key else None
    return JobRecords(database, access).add("alignment", {}, PLAN, used, idempotency).job


def test_the_same_content_of_two_owners_is_two_sets(database: Database) -> None:
    (ana, new), (bob, also_new), (again, not_new) = (add_set(database, each) for each in (ANA, BOB, ANA))

    assert (new, also_new, not_new) == (True, True, False)
    assert ana.id == again.id != bob.id
    assert (ana.owner, bob.owner) == ("ana", "bob")


def test_the_default_owner_finds_sets_from_before_owners(database: Database) -> None:
    first, _ = add_set(database, Access())
    assert add_set(database, Access()) == (first, False)


def test_sets_of_others_are_not_found_and_not_listed(database: Database) -> None:
    theirs, own = add_set(database, ANA)[0].id, add_set(database, BOB)[0].id
    bob = EmbeddingRecords(database, BOB)

    for ask in (bob.get, bob.delete):
        with pytest.raises(NotFound):
            ask(theirs)
    assert [each.id for each in bob.page(None, 10).data] == [own]
    assert [each.id for each in bob.page(None, 10, "docs").data] == [own]
    assert EmbeddingRecords(database, ANA).get(theirs)


def test_layers_that_another_owner_has_too_stay_when_a_set_goes(database: Database) -> None:
    first, _ = add_set(database, ANA)
    second, _ = add_set(database, BOB)

    assert EmbeddingRecords(database, ANA).delete(first.id) == ()
    assert EmbeddingRecords(database, BOB).delete(second.id) == (digest("x"),)


def test_jobs_of_others_are_not_found_not_listed_and_not_stopped(database: Database) -> None:
    theirs, own = add_job(database, ANA), add_job(database, BOB)
    bob = JobRecords(database, BOB)

    for ask in (bob.get, bob.version, bob.versioned, bob.request_cancel):
        with pytest.raises(NotFound):
            ask(theirs.id)
    assert [each.id for each in bob.page(None, 10).data] == [own.id]
    assert JobRecords(database, ANA).get(theirs.id) == theirs


def test_a_set_of_another_cannot_be_used(database: Database) -> None:
    theirs, _ = add_set(database, ANA)
    with pytest.raises(NotFound):
        add_job(database, BOB, theirs.id)
    assert add_job(database, ANA, theirs.id).owner == "ana"


def test_an_idempotency_key_is_its_owners_own(database: Database) -> None:
    ana, bob, again = (add_job(database, each, key="run-1") for each in (ANA, BOB, ANA))
    assert ana.id == again.id != bob.id


def test_access_to_all_owners_reads_and_cancels_their_jobs(database: Database) -> None:
    held, job = add_set(database, ANA)[0], add_job(database, ANA)
    sets, jobs = EmbeddingRecords(database, ALL_OWNERS), JobRecords(database, ALL_OWNERS)

    assert sets.get(held.id) == held
    assert jobs.request_cancel(job.id).status == "canceled"
    assert (len(sets.page(None, 10).data), len(jobs.page(None, 10).data)) == (1, 1)


def test_an_owner_keeps_no_more_bytes_than_allowed(database: Database) -> None:
    limited = Access("ana", owner_bytes_limit=120)
    records = EmbeddingRecords(database, limited)
    add_set(database, limited, "one")
    records.check_quota(60)
    assert (records.quota_left(), EmbeddingRecords(database, ANA).quota_left()) == (60, None)
    add_set(database, limited, "two")

    with pytest.raises(QuotaExceeded) as caught:
        add_set(database, limited, "three")
    with pytest.raises(QuotaExceeded):
        records.check_quota(1)

    assert (caught.value.value, caught.value.limit) == ("180", 120)
    assert len(records.page(None, 10).data) == 2
    assert add_set(database, limited, "two")[1] is False
    assert add_set(database, Access("bob", owner_bytes_limit=120), "three")[1]


def test_jobs_that_wait_are_counted_for_all_and_for_each_owner(database: Database) -> None:
    ana, bob = (Access(owner, queue_limit=3, owner_queue_limit=2) for owner in ("ana", "bob"))
    first = add_job(database, ana, key="known")
    add_job(database, ana)

    with pytest.raises(TooManyRequests, match="2 jobs of ana") as own:
        add_job(database, ana)
    add_job(database, bob)
    with pytest.raises(TooManyRequests, match="3 jobs are queued") as every:
        JobRecords(database, bob).check_room()

    assert (own.value.limit, every.value.limit) == (2, 3)
    assert add_job(database, ana, key="known") == first
    JobRecords(database, ana).request_cancel(first.id)
    assert add_job(database, ana).owner == "ana"


def test_records_from_before_owners_belong_to_the_default_owner(
    database: Database, add_set: Callable[..., EmbeddingSet]
) -> None:
    """The migration keeps sets, layers, jobs and idempotency keys."""
    kept = add_set("x y")
    job = add_job(database, Access(), kept.id, key="run-1")
    with database.write() as connection:
        _go_back_before_owners(connection)
        config = make_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    assert EmbeddingRecords(database).get(kept.id) == kept
    assert add_job(database, Access(), kept.id, key="run-1") == job
    assert (kept.owner, job.owner) == ("default", "default")
    with pytest.raises(NotFound):
        EmbeddingRecords(database, ANA).get(kept.id)


def test_the_idempotency_keys_of_uploads_are_each_owners_own(database: Database) -> None:
    def add(access: Access, content: str) -> tuple[EmbeddingSet, bool]:
        layers = [Layer(name="0", dim=3, dtype="F32", digest=content)]
        return EmbeddingRecords(database, access).add("docs", 5, layers, content, {}, 60, idempotency_key="key")

    first, _ = add(ANA, digest("x"))
    assert add(BOB, digest("y"))[1], "another owner's key is another key"
    assert add(ANA, digest("x")) == (first, False)
    with pytest.raises(KeyReused):
        add(ANA, digest("y"))


TABLES_BEFORE_OWNERS = {"embeddings", "layers", "labels", "jobs", "runs", "job_embeddings", "idempotency_keys"}


def _go_back_before_owners(connection: sa.Connection) -> None:
    for table in reversed(tables.metadata.sorted_tables):
        if table.name not in TABLES_BEFORE_OWNERS:
            table.drop(connection)
    for index in (
        "jobs_finished_at",
        "embeddings_owner_created_at_id",
        "embeddings_owner_bytes",
        "jobs_owner_created_at_id",
        "jobs_status_owner",
        "embeddings_extraction",
    ):
        connection.execute(sa.text(f"DROP INDEX ix_{index}"))
    added = {"embeddings": ("owner", "extraction", "record"), "jobs": ("owner", "queue", "traceparent")}
    for name, column in ((table, column) for table, columns in added.items() for column in columns):
        connection.execute(sa.text(f"ALTER TABLE {name} DROP COLUMN {column}"))
    connection.execute(sa.text("CREATE INDEX ix_jobs_status ON jobs (status)"))
    rows = connection.execute(sa.text("SELECT key, body_sha256, job_id, created_at FROM idempotency_keys")).all()
    connection.execute(sa.text("DROP TABLE idempotency_keys"))
    connection.execute(
        sa.text(
            "CREATE TABLE idempotency_keys (key VARCHAR(255) NOT NULL, body_sha256 VARCHAR(64) NOT NULL,"
            " job_id VARCHAR(36) NOT NULL, created_at TIMESTAMP NOT NULL,"
            " CONSTRAINT pk_idempotency_keys PRIMARY KEY (key), CONSTRAINT fk_idempotency_keys_job_id"
            " FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE)"
        )
    )
    connection.execute(sa.text("CREATE INDEX ix_idempotency_keys_job_id ON idempotency_keys (job_id)"))
    insert = sa.text("INSERT INTO idempotency_keys VALUES (:key, :body_sha256, :job_id, :created_at)")
    connection.execute(insert, [dict(row._mapping) for row in rows])
    connection.execute(sa.text("UPDATE alembic_version SET version_num = '0002'"))
