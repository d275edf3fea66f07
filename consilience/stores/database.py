"""The database: SQLite in a file by default, PostgreSQL by URL."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, Table, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from consilience.errors import InvalidRequest, MissingExtra, StartupError, StorageFull, Unavailable
from consilience.stores.tables import SCHEMA

#: How long a transaction waits for a lock, and how long PostgreSQL lets one rest.
BUSY_TIMEOUT_S = 10
#: How long PostgreSQL may be silent: seconds to connect, milliseconds for bytes under way.
POSTGRESQL_PATIENCE = {"connect_timeout": 5, "tcp_user_timeout": 10_000}
#: The advisory lock under which PostgreSQL is migrated: any fixed number of our own.
MIGRATION_LOCK = 0x436F6E73
#: How often a worker looks whether the service has migrated the database.
SCHEMA_POLL_S = 0.05
WRITES = "consilience_writes"


class Database:
    """Connections to the store of record.

    Parameters
    ----------
    url : str
        ``sqlite:////absolute/path.db`` or ``postgresql://user:password@host/name``.

    Raises
    ------
    StartupError
        The URL is not one of these.
    MissingExtra
        The driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self._engine = _make_engine(url)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with _translated_errors(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: committed at the end, rolled back by an error.

        Raises
        ------
        Unavailable
            The database does not answer, or its write lock was not free for 10 s.
        StorageFull
            There is no room left.
        """
        with _translated_errors(), self._engine.connect() as connection:
            connection = connection.execution_options(**{WRITES: True})  # noqa: PLW2901 - the same connection, with its purpose
            with connection.begin():
                yield connection

    def migrate(self) -> None:
        """Bring the schema up to date. Safe from several processes at once: they take turns.

        Raises
        ------
        StartupError
            The database was made by a newer version.
        Unavailable
            The database does not answer.
        """
        if self._schema() == SCHEMA:
            return
        # It takes a quarter of a second to import, and only a new schema needs it.
        from consilience.stores.migrations.upgrade import upgrade  # noqa: PLC0415 - as the line above says

        with self.write() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            upgrade(connection)

    def wait_for_schema(self, timeout_s: float) -> None:
        """Wait until the service has migrated the database.

        Raises
        ------
        StartupError
            It has not within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while (found := self._schema_or_none()) != SCHEMA:
            if time.monotonic() > deadline:
                raise StartupError(
                    f"The database has schema {found}, this version needs {SCHEMA}, after {timeout_s:g} s of waiting.",
                    value=found,
                    limit=SCHEMA,
                    hint="Start the service: it migrates the database.",
                )
            time.sleep(SCHEMA_POLL_S)

    def ping(self) -> None:
        """Raise Unavailable where the database does not answer."""
        with self.read() as connection:  # SQLite answers SELECT 1 without a look at its file
            connection.execute(sa.text("SELECT count(*) FROM alembic_version"))

    def close(self) -> None:
        """Close every idle connection; the next use opens new ones.

        A process that is about to fork calls this, so that no connection crosses the fork: SQLite forbids it,
        and two processes on one socket would mix their answers.
        """
        self._engine.dispose()

    def _schema(self) -> str | None:
        with self.read() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()

    def _schema_or_none(self) -> str | None:
        try:
            return self._schema()
        except Unavailable:  # not there yet, like its schema
            return None


def insert_if_new(connection: Connection, table: Table, *unique: str) -> postgresql.Insert | sqlite.Insert:
    """An insert that leaves a row which is there already as it is; `unique` are the columns that tell, else the primary key."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    insertion: postgresql.Insert | sqlite.Insert = insert(table)
    return insertion.on_conflict_do_nothing(index_elements=unique or [each.name for each in table.primary_key])


def take_turns(connection: Connection, words: str) -> None:
    """Let transactions that say the same words follow one another; SQLite's write lock does that anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(words, 0))))


def _make_engine(url: str) -> Engine:
    try:
        parsed = sa.make_url(re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url))
        if parsed.drivername == "postgresql+psycopg":
            # A pooled connection may be older than the server's last restart, or lead to one that is out of reach.
            engine = sa.create_engine(
                parsed, pool_pre_ping=True, pool_size=10, max_overflow=30, connect_args=POSTGRESQL_PATIENCE
            )
            event.listen(engine, "connect", _prepare_postgresql)
            return engine
        if parsed.drivername == "sqlite" and parsed.database not in (None, "", ":memory:"):
            return _make_sqlite_engine(parsed)
    except ModuleNotFoundError:
        raise MissingExtra(
            "PostgreSQL's driver is not installed.", hint="Install it with: pip install 'consilience[postgres]'"
        ) from None
    except (SQLAlchemyError, NoSuchModuleError, ValueError):
        parsed = None
    raise StartupError(
        "This is not a database that Consilience can use.",
        value=parsed.render_as_string(hide_password=True) if parsed else "(not a URL)",
        hint="CONSILIENCE_DATABASE_URL is sqlite:////absolute/path.db or postgresql://user:password@host/name.",
    )


def _make_sqlite_engine(url: sa.URL) -> Engine:
    Path(url.database or "").parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # isolation_level None: the driver starts no transactions of its own, the hook below does.
    engine = sa.create_engine(
        url, connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None}, pool_size=10, max_overflow=30
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_postgresql(connection: Any, _record: object) -> None:
    # A process that is frozen inside a transaction would otherwise hold its rows' locks for ever.
    for limit in ("lock_timeout", "idle_in_transaction_session_timeout"):
        connection.execute(f"SET {limit} = '{BUSY_TIMEOUT_S}s'")
    connection.commit()


def _prepare_sqlite(connection: Any, _record: object) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that reads first and then writes fails at once when another has written in between;
    # an immediate one waits for its turn.
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except (DataError, UnicodeEncodeError) as error:  # SQLite's driver gives half of a surrogate pair so
        cause = getattr(error, "orig", error)
        raise InvalidRequest("The database cannot hold a value of this request.", value=cause) from error
    except (DBAPIError, PoolTimeout) as error:
        cause = str(getattr(error, "orig", None) or error)
        if "disk is full" in cause or "No space left" in cause:
            raise StorageFull("The database has no room left.", hint="Free some disk space.") from error
        raise Unavailable("The database does not answer.", value=cause) from error
