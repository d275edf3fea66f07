"""Bodies that are too large, compressed, truncated, too slow, or invalid forms."""

import socket
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.hostile.conftest import INLINE_LIMIT_BYTES, UPLOAD_LIMIT_BYTES
from tests.service.servers import Server, assert_problem, npy, rows

NPY = {"content-type": "application/x-npy"}
FORM = {"content-type": "multipart/form-data; boundary=XX"}
BIG = b"\0" * (UPLOAD_LIMIT_BYTES + 1)


def chunks(data: bytes, size: int = 65_536) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def connect(server: Server) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), timeout=10)


def read_answer(connection: socket.socket) -> bytes:
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(65_536)
    return answer


def test_a_declared_length_over_the_limit_is_refused_before_a_byte_is_sent(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(
            b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\n"
            b"Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n"
        )
        answer = read_answer(connection)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"99999999999 bytes" in answer
    assert str(UPLOAD_LIMIT_BYTES).encode() in answer


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/alignments"])
def test_a_declared_length_over_the_limit_names_limit_and_size(
    server: Server, client: httpx2.Client, path: str
) -> None:
    before = server.contents()
    headers = NPY if path == "/v1/embeddings" else FORM

    answer = client.post(path, content=BIG, headers=headers)

    assert_problem(answer, 413, "too-large", value=f"{len(BIG)} bytes", limit=UPLOAD_LIMIT_BYTES)
    assert server.contents() == before


def test_a_chunked_body_over_the_limit_is_refused_midway(server: Server, client: httpx2.Client) -> None:
    before = server.contents()

    answer = client.post("/v1/embeddings", content=chunks(BIG), headers=NPY)

    assert_problem(answer, 413, "too-large", limit=UPLOAD_LIMIT_BYTES)
    assert server.contents() == before


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/alignments"])
def test_json_has_its_own_limit(client: httpx2.Client, path: str) -> None:
    body = b'{"vectors": [[0.1]]}'.ljust(INLINE_LIMIT_BYTES + 1)

    answer = client.post(path, content=body, headers={"content-type": "application/json"})

    assert_problem(answer, 413, "too-large", limit=INLINE_LIMIT_BYTES, value=f"{len(body)} bytes")


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/alignments"])
def test_a_compressed_body_is_refused(client: httpx2.Client, path: str) -> None:
    answer = client.post(path, content=b"x", headers={"content-encoding": "gzip", "content-type": "application/json"})

    assert_problem(answer, 415, "unsupported-format", value="gzip")


@pytest.mark.parametrize("headers", [b"Content-Length: 2000000\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_client_that_disconnects_during_an_upload_leaves_nothing(server: Server, headers: bytes) -> None:
    before = server.contents()
    with connect(server) as connection:
        connection.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\n" + headers)
        connection.sendall(b"\r\n" + (b"" if b"Length" in headers else b"186a00\r\n") + b"\0" * 1_500_000)
        wait_for(lambda: server.contents() != before)

    wait_for(lambda: server.contents() == before)


def test_a_client_that_disconnects_during_a_form_leaves_nothing(server: Server) -> None:
    before = server.contents()
    part = b'--XX\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n' + b"\0" * 1_500_000
    with connect(server) as connection:
        connection.sendall(
            b"POST /v1/alignments HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=XX\r\n"
            b"Content-Length: 2000000\r\n\r\n" + part
        )
        wait_for(lambda: server.contents() != before)

    wait_for(lambda: server.contents() == before)


def test_an_upload_of_a_silent_client_is_aborted(server: Server) -> None:
    before = server.contents()
    with connect(server) as connection:
        connection.sendall(
            b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\nContent-Length: 9\r\n\r\nab"
        )
        answer = read_answer(connection)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in answer
    wait_for(lambda: server.contents() == before)


def form(*parts: tuple[str, bytes], end: bytes = b"--XX--\r\n") -> bytes:
    body = b""
    for name, data in parts:
        body += b'--XX\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), data)
    return body + end


GOOD = npy(rows(6))
BAD_FORMS = {
    "no part": (form(), "no part"),
    "no file": (form(("name", b"x")), "no part `file`"),
    "an unknown part": (form(("file", GOOD), ("row_ids", b"[]")), "allowed: file, groups, ids, metadata, name"),
    "ids twice": (form(("file", GOOD), ("ids", b"[1]"), ("ids", b"[1]")), "two parts 'ids'; each part can occur once"),
    "ids that are no JSON": (form(("file", GOOD), ("ids", b"a,b,c")), "`ids` is not valid JSON"),
    "ids that are nothing": (form(("ids", b""), ("file", GOOD)), "`ids` is not valid JSON"),
    "ids that are too deep": (form(("file", GOOD), ("ids", b"[" * 500_000)), "`ids` is not valid JSON"),
    "ids that are no list": (form(("file", GOOD), ("ids", b'{"0": "x"}')), "`ids` is not a list"),
    "fewer ids than rows": (form(("file", GOOD), ("ids", b"[1, 2]")), "`ids` has 2 entries, but there are 6 rows"),
    "more groups than rows": (form(("file", GOOD), ("groups", b"[1, 2, 3, 4, 5, 6, 7]")), "`groups` has 7 entries"),
    "a float among the ids": (form(("file", GOOD), ("ids", b"[1, 2, 3, 4.5, 5, 6]")), "Entry 3 of `ids` is a number"),
    "NaN among the ids": (form(("file", GOOD), ("ids", b"[NaN, 2, 3, 4, 5, 6]")), "Entry 0 of `ids` is a number"),
    "null among the groups": (form(("file", GOOD), ("groups", b"[1, 2, 3, 4, 5, null]")), "Entry 5 of `groups` is null"),
    "a control character": (form(("file", GOOD), ("ids", b'["\\u0000", 2, 3, 4, 5, 6]')), "Entry 0 of `ids` is not pri"),
    "half a character": (form(("file", GOOD), ("ids", b'[1, "\\ud800", 3, 4, 5, 6]')), "Entry 1 of `ids` is not pri"),
    "ids without a file": (form(("ids", b"[1]")), "no part `file`"),
    "a part without a name": (form(("", GOOD)), "unknown part ''"),
    "a part twice": (form(("file", GOOD), ("file", GOOD)), "two parts 'file'; each part can occur once"),
    "cut off": (form(("file", GOOD), end=b""), "closing boundary"),
    "no form at all": (b"hello", "multipart body is not valid"),
    "empty": (b"", "closing boundary"),
    "a bad name": (form(("file", GOOD), ("name", b"../../x")), "The name is not valid"),
    "a name of another type": (form(("file", GOOD), ("name", b'"\\u0000"')), "The name is not valid"),
    "metadata that is no object": (form(("file", GOOD), ("metadata", b"[1]")), "JSON object"),
    "metadata that is no JSON": (form(("file", GOOD), ("metadata", b"{x")), "not valid JSON"),
    "metadata that is no text": (form(("file", GOOD), ("metadata", b"\xff")), "not valid JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FORMS)
def test_a_bad_form_is_refused_and_leaves_nothing(server: Server, client: httpx2.Client, name: str) -> None:
    body, words = BAD_FORMS[name]
    before = server.contents()

    answer = client.post("/v1/embeddings", content=body, headers=FORM)

    assert words in assert_problem(answer, 422, "invalid-request")["detail"]
    assert server.contents() == before


def test_a_form_field_has_a_limit(server: Server, client: httpx2.Client) -> None:
    before = server.contents()
    body = form(("file", GOOD), ("metadata", b" " * 70_000))

    assert_problem(client.post("/v1/embeddings", content=body, headers=FORM), 413, "too-large", limit=65_536)
    assert server.contents() == before


@pytest.mark.parametrize("value", ["multipart/form-data", "multipart/form-data; boundary=" + "x" * 5000])
def test_a_form_without_a_usable_boundary_is_refused(client: httpx2.Client, value: str) -> None:
    answer = client.post("/v1/embeddings", content=form(), headers={"content-type": value})

    assert_problem(answer, 422, "invalid-request")


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
