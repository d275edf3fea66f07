"""Kinds of faults. Each is a context manager that causes the fault and cleans up at its end."""

import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import psutil

from benchmarks.faults.live_service import LiveService, Postgresql, ServiceSettings, default_settings
from benchmarks.faults.load import FAST, Load
from benchmarks.faults.watch import find_unfinished_jobs
from consilience.contract.jobs import JobStatus

#: Longer than SQLite waits for a lock (10 s) and than a lease lasts (6 s).
LOCKED_S = 12.0
FROZEN_S = 10.0
QUEUED = 200
CHANCE = random.Random(0)  # noqa: S311 - moments of a test


@dataclass(frozen=True)
class Scene:
    """Objects that a fault can act on."""

    live: LiveService
    load: Load
    postgresql: Postgresql | None = None
    failing: set[str] = field(default_factory=set)
    """Jobs that must fail."""
    remarks: list[str] = field(default_factory=list)

    @contextmanager
    def client(self) -> Iterator[httpx2.Client]:
        """Open another client."""
        with httpx2.Client(base_url=self.live.url, timeout=10) as client:
            yield client


Strike = Callable[[Scene], AbstractContextManager[None]]


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    name: str
    strike: Strike
    word: str | None = None
    """Child that is killed, if any."""
    clients: int = 3
    databases: tuple[str, ...] = ("sqlite", "postgresql")
    settings: ServiceSettings = default_settings


@contextmanager
def kill_job_process(scene: Scene) -> Iterator[None]:
    """Kill the process of a running job."""
    wait_for(lambda: any(_kill(each) for each in scene.live.job_processes()))
    yield


def kill_child(word: str) -> Strike:
    """Kill one child of `consilience serve` at a random moment."""

    @contextmanager
    def strike(scene: Scene) -> Iterator[None]:
        time.sleep(CHANCE.uniform(0, 0.3))
        if word == "workers":
            wait_for(scene.live.job_processes)
        scene.live.children(word)[0].kill()
        yield

    return strike


@contextmanager
def kill_api_before_enqueue(scene: Scene) -> Iterator[None]:
    """Kill the API while a request that has committed its job waits for a silent Redis."""
    redis, api = scene.live.children("valkey-server")[0], scene.live.children("service")[0]
    redis.send_signal(signal.SIGSTOP)
    before = {each.job_id for each in find_unfinished_jobs(scene.live)}
    with suppress(TimeoutError):
        wait_for(lambda: {each.job_id for each in find_unfinished_jobs(scene.live)} - before, pause_s=0.002)
    api.kill()
    redis.send_signal(signal.SIGCONT)
    yield


@contextmanager
def kill_api_in_upload(scene: Scene) -> Iterator[None]:
    """Kill the API when half of a file has arrived, or while the whole file is being stored."""
    api, size = scene.live.children("service")[0], 48_000_000
    stop_at = CHANCE.choice([size // 2, size])

    def body() -> Iterator[bytes]:
        head = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (120000, 100), }"
        yield head.ljust(127) + b"\n"
        for sent in range(0, stop_at, 1_000_000):
            yield CHANCE.randbytes(1_000_000) if sent == 0 else bytes(1_000_000)
        if stop_at < size:
            api.kill()
            # The connection breaks at the next piece.
            yield bytes(1_000_000)

    with scene.client() as client, suppress(httpx2.TransportError):
        if stop_at == size:
            _later(CHANCE.uniform(0.1, 0.4), api.kill)
        client.post("/v1/embeddings", content=body(), headers={"content-type": "application/x-npy"})
    with suppress(psutil.NoSuchProcess):
        api.kill()
    yield


@contextmanager
def kill_serve(scene: Scene) -> Iterator[None]:
    """Kill the supervisor, whose children exit with it, and start it again."""
    scene.live.kill()
    scene.live.start()
    yield


@contextmanager
def flush_redis(scene: Scene) -> Iterator[None]:
    """Delete everything in Redis with 200 jobs queued and some running."""
    with scene.client() as client:
        for seed in range(QUEUED):
            scene.load.submit(client, scene.load.fast, FAST, seed + (1 << 50))
    with scene.live.redis() as redis:
        redis.flushall()
    yield


@contextmanager
def freeze_redis(scene: Scene) -> Iterator[None]:
    """Freeze Redis: it accepts connections and does not respond."""
    redis = scene.live.children("valkey-server")[0]
    redis.send_signal(signal.SIGSTOP)
    time.sleep(FROZEN_S)
    redis.send_signal(signal.SIGCONT)
    yield


@contextmanager
def freeze_worker(scene: Scene) -> Iterator[None]:
    """Freeze a worker beyond its lease while its job's process continues, then wake it up: two workers have the job."""
    wait_for(scene.live.job_processes)
    worker = next((each for each in scene.live.children("workers") if each.children()), None)
    worker = worker or scene.live.children("workers")[0]
    worker.send_signal(signal.SIGSTOP)
    time.sleep(FROZEN_S)
    worker.send_signal(signal.SIGCONT)
    yield


@contextmanager
def lock_sqlite(scene: Scene) -> Iterator[None]:
    """Lock the database for 12 s."""
    connection = sqlite3.connect(scene.live.data_dir / "consilience.db", isolation_level=None, timeout=30)
    connection.execute("BEGIN IMMEDIATE")
    time.sleep(LOCKED_S)
    connection.execute("ROLLBACK")
    connection.close()
    yield


@contextmanager
def restart_postgresql(scene: Scene) -> Iterator[None]:
    """Restart PostgreSQL as after a loss of power."""
    if scene.postgresql:
        scene.postgresql.restart()
    yield


def running(scene: Scene) -> bool:
    """Return whether some jobs run and others wait."""
    statuses = [each.status for each in find_unfinished_jobs(scene.live)]
    return JobStatus.RUNNING in statuses and JobStatus.QUEUED in statuses


def wait_for(look: Callable[[], Any], timeout_s: float = 10.0, pause_s: float = 0.01) -> Any:
    """Return the first result of `look` that is not empty. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(pause_s)
    return found


def _kill(process: psutil.Process) -> bool:
    """Kill a process; return whether it was still running."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True


def _later(delay_s: float, act: Callable[[], None]) -> None:

    threading.Timer(delay_s, act).start()


KINDS = (
    Kind("kill -9 of a job's process", kill_job_process),
    Kind("kill -9 of a worker", kill_child("workers"), "workers"),
    Kind("kill -9 of the API", kill_child("service"), "service"),
    Kind("kill -9 of the API in mid-upload", kill_api_in_upload, "service"),
    Kind("kill -9 of the API between commit and enqueue", kill_api_before_enqueue, "service"),
    Kind("kill -9 of deliveries", kill_child("service.deliveries"), "service.deliveries"),
    Kind("kill -9 of Redis, which comes back empty", kill_child("valkey-server"), "valkey-server"),
    Kind("FLUSHALL with 200 jobs queued", flush_redis),
    Kind("Redis silent for 10 s", freeze_redis),
    Kind("a worker silent for 10 s, then awake", freeze_worker),
    Kind("kill -9 of consilience serve, started again", kill_serve),
    Kind("SQLite locked for 12 s by another", lock_sqlite, databases=("sqlite",)),
    Kind("PostgreSQL restarted without warning", restart_postgresql, databases=("postgresql",)),
)
