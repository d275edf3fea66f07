"""What must hold before anything is started, each with an error that says what to do."""

import errno
import fcntl
import importlib.util
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from consilience.errors import MissingExtra, StartupError

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
