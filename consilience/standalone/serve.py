"""`consilience serve`: what is started, in which order, with which settings."""

import http.client
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from consilience.standalone.child import Child
from consilience.standalone.embedded_redis import EmbeddedRedis, find_binary, socket_path
from consilience.standalone.preflight import free_port, hold, require_packages
from consilience.standalone.supervisor import Stopped, Supervisor, signals_held

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
