"""Timeouts of idle connections."""

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2
import pytest

from service.request_body import BodyLimits
from tests.service.servers import Server, npy, rows, running_service

IDLE_S = 0.4


@pytest.fixture(scope="module")
def hasty(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hasty")
    with running_service(folder, f"{redis_server}?db=7", connection_idle_limit_s=IDLE_S) as server:
        yield server


def connect(server: Server) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), timeout=10)


def read(connection: socket.socket, end: bytes) -> bytes:
    answer = b""
    while not answer.endswith(end):
        answer += connection.recv(1000)
    return answer


@pytest.mark.parametrize("head", [b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: x\r\n"])
def test_a_connection_without_complete_headers_is_closed(hasty: Server, head: bytes) -> None:
    started = time.monotonic()
    with connect(hasty) as connection:
        connection.sendall(head)
        assert connection.recv(1) == b""
    assert IDLE_S * 0.9 < time.monotonic() - started < 5


def test_a_connection_that_sends_on_after_the_response_is_closed(hasty: Server) -> None:
    with connect(hasty) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 404")
        with pytest.raises(ConnectionError):  # noqa: PT012 - it ends in one of many
            while True:
                connection.sendall(b"x" * 1000)
                time.sleep(0.01)


def test_a_long_upload_is_not_interrupted(hasty: Server) -> None:
    data = npy(rows(400))

    def slowly() -> Iterator[bytes]:
        for start in range(0, len(data), len(data) // 5):
            time.sleep(IDLE_S / 2)
            yield data[start : start + len(data) // 5]

    answer = httpx2.post(hasty.url + "/v1/embeddings", content=slowly(), headers={"content-type": "application/x-npy"})

    assert answer.status_code == 201


def test_a_connection_is_reused(hasty: Server) -> None:
    request = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(hasty) as connection:
        for _ in range(4):
            connection.sendall(request[:20])
            time.sleep(IDLE_S / 2)
            connection.sendall(request[20:])
            assert read(connection, b"}").startswith(b"HTTP/1.1 200")


def test_invalid_http_gets_a_problem_document(hasty: Server) -> None:
    with connect(hasty) as connection:
        connection.sendall(b"hello\r\n\r\n")
        answer = read(connection, b"}")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer
    assert b"https://consilience.dev/problems/bad-request" in answer


def test_a_slow_body_times_out_and_a_paused_one_does_not() -> None:
    limits = BodyLimits(limit=10**9, idle_s=30.0, min_bytes_per_s=1000)
    assert limits.timeout(0.0, 0) == 30.0
    assert limits.timeout(29.0, 0) == 1.0
    assert limits.timeout(60.0, 10**6) == 30.0
    assert limits.timeout(100.0, 1000) == 0.0
