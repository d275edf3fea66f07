"""Connection to the database: SQLite in a file by default, PostgreSQL by URL."""

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

#: Seconds that a transaction waits for a lock, and that PostgreSQL allows a transaction to be idle.
BUSY_TIMEOUT_S = 10
#: Timeouts of PostgreSQL connections: seconds to connect, milliseconds until sent bytes are acknowledged.
POSTGRESQL_TIMEOUTS = {"connect_timeout": 5, "tcp_user_timeout": 10_000}
#: Number of the advisory lock under which PostgreSQL is migrated (arbitrary, but fixed).
MIGRATION_LOCK = 0x436F6E73
#: Interval in which a worker checks if the service has migrated the database.
SCHEMA_POLL_S = 0.05
WRITE_OPTION = "consilience_writes"


class Database:
    """Pool of connections to the database.

    Parameters
    ----------
    url : str
        ``sqlite:////absolute/path.db`` or ``postgresql://user:password@host/name``.

    Raises
    ------
    StartupError
        The URL has another form.
    MissingExtra
        The driver of PostgreSQL is not installed.
    """

    def __init__(self, url: str) -> None:
        self._engine = _make_engine(url)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a read-only transaction."""
        with _translate_errors(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that writes. It is committed at the end and rolled back after an error.

        Raises
        ------
        Unavailable
            The database does not respond, or its write lock was not free for 10 s.
        StorageFull
            The disk is full.
        """
        with _translate_errors(), self._engine.connect() as connection:
            connection = connection.execution_options(**{WRITE_OPTION: True})  # noqa: PLW2901 - the same connection, with its purpose
            with connection.begin():
                yield connection

    def migrate(self) -> None:
        """Bring the schema up to date. Several processes may call this at once.

        Raises
        ------
        StartupError
            The database has the schema of a newer version.
        Unavailable
            The database does not respond.
        """
        if self._schema() == SCHEMA:
            return
        # The import takes a quarter of a second and is only needed for a new schema.
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
            The service has not migrated the database within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while (current := self._schema_or_none()) != SCHEMA:
            if time.monotonic() > deadline:
                raise StartupError(
                    f"After {timeout_s:g} s the database has schema {current}, but this version needs schema {SCHEMA}.",
                    value=current,
                    limit=SCHEMA,
                    hint="Start the service of this version: it migrates the database.",
                )
            time.sleep(SCHEMA_POLL_S)

    def ping(self) -> None:
        """Raise Unavailable if the database does not respond."""
        with self.read() as connection:  # SQLite runs SELECT 1 without reading its file
            connection.execute(sa.text("SELECT count(*) FROM alembic_version"))

    def close(self) -> None:
        """Close all idle connections. The next use opens new ones.

        Call this before a fork, so that no connection is shared: SQLite forbids it, and two processes on one socket would
        read each other's responses.
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
        except Unavailable:  # not started yet
            return None


def insert_if_new(connection: Connection, table: Table, *unique: str) -> postgresql.Insert | sqlite.Insert:
    """Return an insert that leaves an existing row unchanged. Rows are compared by `unique`, by default by the primary key."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    insertion: postgresql.Insert | sqlite.Insert = insert(table)
    return insertion.on_conflict_do_nothing(index_elements=unique or [each.name for each in table.primary_key])


def serialize(connection: Connection, name: str) -> None:
    """Let transactions with the same `name` run one after the other. SQLite's write lock does so for all transactions."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))))


def _make_engine(url: str) -> Engine:
    try:
        parsed = sa.make_url(re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url))
        if parsed.drivername == "postgresql+psycopg":
            # A pooled connection may be broken: the server may have been restarted or may be unreachable.
            engine = sa.create_engine(
                parsed, pool_pre_ping=True, pool_size=10, max_overflow=30, connect_args=POSTGRESQL_TIMEOUTS
            )
            event.listen(engine, "connect", _prepare_postgresql)
            return engine
        if parsed.drivername == "sqlite" and parsed.database not in (None, "", ":memory:"):
            return _make_sqlite_engine(parsed)
    except ModuleNotFoundError:
        raise MissingExtra(
            "The driver of PostgreSQL is not installed.", hint="Run: pip install 'consilience[postgres]'"
        ) from None
    except (SQLAlchemyError, NoSuchModuleError, ValueError):
        parsed = None
    raise StartupError(
        "The database URL is not one of SQLite or PostgreSQL.",
        value=parsed.render_as_string(hide_password=True) if parsed else "(not a URL)",
        hint="Set CONSILIENCE_DATABASE_URL to sqlite:////absolute/path.db or postgresql://user:password@host/name.",
    )


def _make_sqlite_engine(url: sa.URL) -> Engine:
    Path(url.database or "").parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # isolation_level None: the hook below starts transactions, not the driver.
    engine = sa.create_engine(
        url, connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None}, pool_size=10, max_overflow=30
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_postgresql(connection: Any, _record: object) -> None:
    # A process that is frozen inside a transaction would otherwise hold its locks forever.
    for limit in ("lock_timeout", "idle_in_transaction_session_timeout"):
        connection.execute(f"SET {limit} = '{BUSY_TIMEOUT_S}s'")
    connection.commit()


def _prepare_sqlite(connection: Any, _record: object) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that reads before it writes fails if another one has written in between;
    # an immediate transaction waits for its turn.
    writes = connection.get_execution_options().get(WRITE_OPTION, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except (DataError, UnicodeEncodeError) as error:  # SQLite's driver raises this for half of a surrogate pair
        cause = getattr(error, "orig", error)
        raise InvalidRequest("The request contains a value that the database cannot store.", value=cause) from error
    except (DBAPIError, PoolTimeout) as error:
        cause = str(getattr(error, "orig", None) or error)
        if "disk is full" in cause or "No space left" in cause:
            raise StorageFull("The disk of the database is full.", hint="Free some disk space.") from error
        raise Unavailable("The database does not respond.", value=cause) from error
