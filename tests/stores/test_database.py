import multiprocessing
import sqlite3
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from consilience.errors import InvalidRequest, StartupError, Unavailable
from consilience.stores import tables
from consilience.stores.database import Database
from consilience.stores.migrations.upgrade import make_config


@pytest.fixture
def empty_url(database_url: str) -> str:
    """The URL of a database without any table."""
    database = Database(database_url)
    with database.write() as connection:
        tables.metadata.drop_all(connection)
        connection.execute(sa.text("DROP TABLE alembic_version"))
    database.close()
    return database_url


def migrate(url: str) -> None:
    database = Database(url)
    database.migrate()
    database.close()


def check_schema(url: str) -> None:
    database = Database(url)
    database.wait_for_schema(0)
    database.close()


def test_the_migrations_make_the_tables_that_the_code_uses(empty_url: str) -> None:
    migrate(empty_url)
    database = Database(empty_url)
    with database.read() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, tables.metadata) == []
    database.close()


def test_the_schema_constant_is_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(make_config()).get_current_head() == tables.SCHEMA


def test_several_processes_may_migrate_at_once(empty_url: str) -> None:
    processes = [multiprocessing.get_context("spawn").Process(target=migrate, args=(empty_url,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    check_schema(empty_url)


def test_several_threads_may_migrate_at_once(empty_url: str) -> None:
    threads = [threading.Thread(target=migrate, args=(empty_url,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_schema(empty_url)


def test_a_worker_waits_for_the_schema(empty_url: str) -> None:
    database = Database(empty_url)
    later = threading.Timer(0.2, migrate, [empty_url])
    later.start()
    database.wait_for_schema(10)
    later.join()
    database.close()


def test_waiting_for_the_schema_ends_with_what_was_found(empty_url: str) -> None:
    database = Database(empty_url)
    with pytest.raises(StartupError, match=f"has schema None, but this version needs schema {tables.SCHEMA}"):
        database.wait_for_schema(0.1)
    database.close()


def test_a_database_of_a_newer_version_is_refused(database: Database) -> None:
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StartupError, match="newer version"):
        database.migrate()


def test_an_error_rolls_the_transaction_back(database: Database) -> None:
    def change_and_fail() -> None:
        with database.write() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change_and_fail()
    database.wait_for_schema(0)


@pytest.mark.parametrize(
    "url",
    ["", "sqlite://", "sqlite:///:memory:", "mysql://root:secret@host/db", "not a url secret", "postgresql://h:secret"],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StartupError) as caught:
        Database(url)
    assert "secret" not in f"{caught.value} {caught.value.value}"


def test_a_server_that_is_not_there_is_unavailable() -> None:
    database = Database("postgresql://nobody:secret@127.0.0.1:1/none")
    with pytest.raises(Unavailable) as caught:
        database.ping()
    assert caught.value.retryable
    assert "secret" not in str(caught.value.value)
    database.close()


def test_a_value_that_the_database_cannot_hold_is_the_callers_fault(postgresql_server: sa.URL) -> None:
    database = Database(postgresql_server.render_as_string(hide_password=False))
    with pytest.raises(InvalidRequest), database.read() as connection:
        connection.execute(sa.select(sa.literal("\x00")))
    database.close()


def test_sqlite_is_durable_and_waits(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with database.read() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}
    database.close()


def test_a_writer_that_reads_first_waits_for_its_turn(sqlite_url: str, tmp_path: Path) -> None:
    """A deferred transaction would fail at once with `database is locked`."""
    database = Database(sqlite_url)
    other = sqlite3.connect(tmp_path / "consilience.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.2, other.execute, ["COMMIT"])
    release.start()
    began = time.monotonic()
    with database.write() as connection:
        connection.execute(sa.text("SELECT count(*) FROM jobs"))
        connection.execute(sa.text("DELETE FROM jobs"))
    assert time.monotonic() - began >= 0.15
    release.join()
    other.close()
    database.close()


def test_a_reader_does_not_wait_for_a_writer(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with database.write() as writing, database.read() as reading:
        writing.execute(sa.text("DELETE FROM jobs"))
        assert reading.execute(sa.text("SELECT count(*) FROM jobs")).scalar() == 0
    database.close()


def test_postgresql_frees_what_a_frozen_process_holds(postgresql_server: sa.URL) -> None:
    database = Database(postgresql_server.render_as_string(hide_password=False))
    with database.read() as connection:
        limits = [
            connection.exec_driver_sql(f"SHOW {name}").scalar()
            for name in ("lock_timeout", "idle_in_transaction_session_timeout")
        ]
    assert limits == ["10s", "10s"]
    database.close()
