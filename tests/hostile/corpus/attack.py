"""An attack on a server, and its outcome."""

import json
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Outcome:
    """Outcome of an attack: a response, or a connection closed without one (status 0)."""

    status: int
    media_type: str = ""
    body: bytes = b""

    @property
    def problem(self) -> str:
        """The last part of the problem's type; empty without a problem."""
        with suppress(ValueError, KeyError, TypeError):
            return str(json.loads(self.body)["type"]).rsplit("/", 1)[-1]
        return ""


#: Takes the server's URL.
Send = Callable[[str], Outcome]
Content = bytes | Callable[[], bytes | Iterable[bytes]]


@dataclass(frozen=True)
class Attack:
    """An attack; `ready` prepares its content before the time is measured."""

    ready: Callable[[], Send]


def post(path: str, content: Content, media_type: str, **headers: str) -> Attack:
    """A normal request with a hostile body."""

    def ready() -> Send:
        body = content() if callable(content) else content

        def send(url: str) -> Outcome:
            with httpx2.Client(base_url=url, timeout=TIMEOUT_S) as client:
                answer = client.post(path, content=body, headers={"content-type": media_type, **headers})
            return Outcome(answer.status_code, answer.headers.get("content-type", ""), answer.content)

        return send

    return Attack(ready)


def upload(content: Content, media_type: str = "application/octet-stream") -> Attack:
    """An upload of a file."""
    return post("/v1/embeddings", content, media_type)


def get(method: str, path: str) -> Attack:
    """A request without a body."""

    def send(url: str) -> Outcome:
        with httpx2.Client(base_url=url, timeout=TIMEOUT_S) as client:
            answer = client.request(method, path)
        return Outcome(answer.status_code, answer.headers.get("content-type", ""), answer.content)

    return Attack(lambda: send)


def wire(*pieces: bytes, pause_s: float = 0.0, forever: bytes = b"", shut: bool = False) -> Attack:
    """Raw bytes on a connection, piece by piece; then `forever` repeatedly, or the end of the client's side."""

    def send(url: str) -> Outcome:
        address = urlsplit(url)
        answer = bytearray()
        with socket.create_connection((address.hostname, address.port), timeout=TIMEOUT_S) as connection:
            with suppress(ConnectionError):
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(pause_s)
                if shut:
                    connection.shutdown(socket.SHUT_WR)
                if forever:
                    _send_until_closed(connection, forever, pause_s, answer)
            with suppress(ConnectionError):
                while data := connection.recv(65_536):
                    answer += data
        return _parse(bytes(answer))

    return Attack(lambda: send)


def _send_until_closed(connection: socket.socket, piece: bytes, pause_s: float, answer: bytearray) -> None:
    """Send until the server closes the connection, and collect its response meanwhile, which could get lost later."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        connection.settimeout(max(pause_s, 0.001))
        with suppress(TimeoutError):
            data = connection.recv(65_536)
            if not data:
                return
            answer += data
        connection.settimeout(TIMEOUT_S)
        connection.sendall(piece)


def _parse(answer: bytes) -> Outcome:
    if not answer:
        return Outcome(0)
    head, _, body = answer.partition(b"\r\n\r\n")
    line, *headers = head.split(b"\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (header.partition(b":") for header in headers)}
    length = int(fields.get(b"content-length", len(body)))
    return Outcome(int(line.split()[1]), fields.get(b"content-type", b"").decode(), body[:length])
