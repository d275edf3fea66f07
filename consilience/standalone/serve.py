"""Start of the whole service by `consilience serve`: the programs, their order and their settings."""

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
from consilience.standalone.processes import Child, Stopped, Supervisor, block_signals
from consilience.standalone.redis import EmbeddedRedis, find_binary, socket_path

#: Import name of one package of each required extra.
EXTRAS = {"service": "uvicorn", "worker": "rq", "compute": "faiss"}


def require_packages() -> None:
    """Check that the service, the workers and their packages are installed. The wheel contains only the library."""
    if any(importlib.util.find_spec(name) is None for name in ("service", "workers")):
        raise MissingExtra(
            "The service and the workers are not installed; the wheel contains only the library.",
            hint="Clone the repository and run `make serve`, or use the images in docker/.",
        )
    missing = [extra for extra, package in EXTRAS.items() if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingExtra(
            f"The packages of these extras are not installed: {', '.join(missing)}.",
            value=",".join(missing),
            hint="Run: pip install --editable '.[service,worker,local]' in the checkout.",
        )


@contextmanager
def lock_data_dir(data_dir: Path) -> Iterator[None]:
    """Lock the data folder for this process. The lock is released when the process ends."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "serve.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartupError(
            f"The data folder {data_dir} cannot be opened: {error.strerror}.",
            value=data_dir,
            hint="Choose another folder with --data-dir.",
        ) from error
    with os.fdopen(descriptor, "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartupError(
                f"The data folder {data_dir} is in use by process {lock.read().strip() or 'unknown'}.",
                value=data_dir,
                hint="Stop that process, or choose another folder with --data-dir.",
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def free_port(host: str, port: int) -> int:
    """Return `port` if it is free, or any free port for 0."""
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
            hint="Choose another port with --port. --port 0 takes any free port."
            if in_use
            else "Check --host and --port.",
        ) from error


REDIS_TIMEOUT_S = 10.0
#: The first start compiles caches; later ones take one or two seconds.
READY_TIMEOUT_S = 60.0
PROBE_TIMEOUT_S = 2.0
#: Addresses that mean "all interfaces", and an address at which such a service can be reached.
REACHABLE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 -- compared with, not bound to


@dataclass(frozen=True)
class Instance:
    """Service on one machine."""

    host: str
    port: int
    workers: int
    data_dir: Path

    @property
    def reachable_host(self) -> str:
        """Address at which this machine reaches the service."""
        return REACHABLE.get(self.host, self.host)

    @property
    def url(self) -> str:
        """URL at which this machine reaches the service."""
        host = self.reachable_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """Return the user's data folder, by the XDG specification."""
    return Path(environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "consilience"


def serve(instance: Instance, announce: Callable[[str], None]) -> None:
    """Run the whole service until SIGINT or SIGTERM, then stop all processes that were started.

    Raises MissingExtra if the service is not installed, and StartupError if the data folder or the port is in use or a
    process does not start.
    """
    require_packages()
    data_dir = instance.data_dir.expanduser().resolve()
    instance = replace(instance, data_dir=data_dir, port=free_port(instance.host, instance.port))
    with lock_data_dir(data_dir), _redis(data_dir) as redis, block_signals(), _supervisor(announce) as supervisor:
        if redis is not None:
            supervisor.add(redis.child)
            supervisor.wait_until(redis.is_ready, "Redis", REDIS_TIMEOUT_S)
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
    """Make an embedded Redis, unless CONSILIENCE_REDIS_URL is set."""
    if os.environ.get("CONSILIENCE_REDIS_URL"):
        yield None
        return
    binary = find_binary()
    with socket_path(data_dir) as path:
        yield EmbeddedRedis(binary, path, data_dir)


def _applications(instance: Instance, redis: EmbeddedRedis | None) -> list[Child]:
    """Return the API, the delivery of webhooks and the workers, with common settings."""
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
        # This worker needs little memory until a job names a model.
        _python("The worker that runs models", "workers", extract),
    ]


def _python(name: str, module: str, env: Mapping[str, str]) -> Child:
    # -P: a folder `service` in the working directory must not be imported.
    return Child(name, [sys.executable, "-P", "-m", module], env)


def _ready(instance: Instance, redis: EmbeddedRedis | None) -> bool:
    """Return True if the API is ready and a worker has started. Workers on an external Redis are not counted."""
    # Not urllib, which would use the user's proxy.
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
        "Press Ctrl-C to stop it."
    )
