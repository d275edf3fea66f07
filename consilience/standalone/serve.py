"""`consilience serve`: what is started, in which order, with which settings."""

import errno
import fcntl
import http.client
import importlib.util
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from consilience.errors import MissingExtra, StartupError
from consilience.standalone.processes import Child, Stopped, Supervisor, signals_held
from consilience.standalone.redis import EmbeddedRedis, find_binary, socket_path

#: Import name of one package of each extra that the children need.
EXTRAS = {"service": "uvicorn", "worker": "rq", "compute": "faiss"}


def require_packages() -> None:
    """The applications and their packages; the wheel alone has neither."""
    if any(importlib.util.find_spec(name) is None for name in ("service", "workers")):
        raise MissingExtra(
            "This installation is the library alone: the service and its workers are not in the wheel.",
            hint="Run it from a checkout (clone the repository, then `make serve`) or from the images in docker/.",
        )
    missing = [extra for extra, package in EXTRAS.items() if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingExtra(
            f"The packages of {', '.join(missing)} are not installed.",
            value=",".join(missing),
            hint="Run: pip install --editable '.[service,worker,local]' in the checkout.",
        )


@contextmanager
def hold(data_dir: Path) -> Iterator[None]:
    """The data folder for this process alone; the lock goes with the process, however that ends."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "serve.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartupError(
            f"The data folder {data_dir} cannot be used: {error.strerror}.",
            value=data_dir,
            hint="Choose another with --data-dir.",
        ) from error
    with os.fdopen(descriptor, "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartupError(
                f"The data folder {data_dir} is in use by process {lock.read().strip() or 'unknown'}.",
                value=data_dir,
                hint="Stop that one, or choose another folder with --data-dir.",
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def free_port(host: str, port: int) -> int:
    """`port` if it can be listened on, any free one for 0."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        problem = "is in use" if in_use else f"cannot be used: {error.strerror}"
        raise StartupError(
            f"Port {port} on {host} {problem}.",
            value=port,
            hint="Choose another with --port; --port 0 takes any free one." if in_use else "See --host and --port.",
        ) from error


REDIS_TIMEOUT_S = 10.0
#: The first start fills caches; later ones take a second or two.
READY_TIMEOUT_S = 60.0
PROBE_TIMEOUT_S = 2.0
#: Addresses that mean "every interface", and one through which such a service can be reached.
REACHABLE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 -- compared with, not bound to


@dataclass(frozen=True)
class Instance:
    """One service on one machine."""

    host: str
    port: int
    workers: int
    data_dir: Path

    @property
    def reachable_host(self) -> str:
        """The address by which this machine reaches it."""
        return REACHABLE.get(self.host, self.host)

    @property
    def url(self) -> str:
        """Where this machine reaches it."""
        host = self.reachable_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """The user's data folder by the XDG rules."""
    return Path(environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "consilience"


def serve(instance: Instance, announce: Callable[[str], None]) -> None:
    """Run the whole service until SIGINT or SIGTERM; nothing that it started is left running.

    Raises MissingExtra where the applications are not installed, and StartupError for a data folder in use, a busy
    port, or a child that does not come up.
    """
    require_packages()
    data_dir = instance.data_dir.expanduser().resolve()
    instance = replace(instance, data_dir=data_dir, port=free_port(instance.host, instance.port))
    with hold(data_dir), _redis(data_dir) as redis, signals_held(), _supervisor(announce) as supervisor:
        if redis is not None:
            supervisor.add(redis.child)
            supervisor.wait_until(redis.answers, "Redis", REDIS_TIMEOUT_S)
        supervisor.add(*_applications(instance, redis))
        supervisor.wait_until(lambda: _ready(instance, redis), "The service", READY_TIMEOUT_S)
        announce(_welcome(instance))
        supervisor.watch()


@contextmanager
def _supervisor(announce: Callable[[str], None]) -> Iterator[Supervisor]:
    supervisor = Supervisor(announce)
    try:
        yield supervisor
    except Stopped:
        announce("Stopping.")
    finally:
        supervisor.stop()


@contextmanager
def _redis(data_dir: Path) -> Iterator[EmbeddedRedis | None]:
    """One of our own, unless the user has named another."""
    if os.environ.get("CONSILIENCE_REDIS_URL"):
        yield None
        return
    binary = find_binary()
    with socket_path(data_dir) as path:
        yield EmbeddedRedis(binary, path, data_dir)


def _applications(instance: Instance, redis: EmbeddedRedis | None) -> list[Child]:
    """The API and the workers, with the settings that make them one service."""
    env = {
        **os.environ,
        "CONSILIENCE_HOST": instance.host,
        "CONSILIENCE_PORT": str(instance.port),
        "CONSILIENCE_DATA_DIR": str(instance.data_dir),
        "CONSILIENCE_WORKERS": str(instance.workers),
    }
    if redis is not None:
        env["CONSILIENCE_REDIS_URL"] = redis.url
    names = ["The worker"] if instance.workers == 1 else [f"Worker {i + 1}" for i in range(instance.workers)]
    own = [_python("The API", "service", env), _python("The delivery of webhooks", "service.deliveries", env)]
    extract = {**env, "CONSILIENCE_QUEUE": "extract"}
    align = {**env, "CONSILIENCE_QUEUE": "align"}
    return [
        *own,
        *(_python(name, "workers", align) for name in names),
        # Its child too does one job at a time; it is small until a job names a model.
        _python("The worker that runs models", "workers", extract),
    ]


def _python(name: str, module: str, env: Mapping[str, str]) -> Child:
    # -P: a folder called `service` where the user happens to be must not be taken for ours.
    return Child(name, [sys.executable, "-P", "-m", module], env)


def _ready(instance: Instance, redis: EmbeddedRedis | None) -> bool:
    """Whether the API is ready and a worker has come up; workers at a Redis of the user's own are not counted."""
    # Not urllib: it would send a question to our own child through the user's proxy.
    connection = http.client.HTTPConnection(instance.reachable_host, instance.port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK and (redis is None or redis.workers() > 0)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _welcome(instance: Instance) -> str:
    return (
        "Consilience is ready.\n"
        f"  API   {instance.url}/v1\n"
        f"  Docs  {instance.url}/docs\n"
        f"  Data  {instance.data_dir}\n"
        "Ctrl-C stops it."
    )
