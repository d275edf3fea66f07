"""Malicious transfers: false lengths, endless bodies, clients that keep a connection open."""

from tests.hostile.corpus.attack import Attack, post, wire
from tests.hostile.test_bad_transfers import GOOD


def head(*lines: bytes, path: bytes = b"/v1/embeddings") -> bytes:
    return (
        b"\r\n".join([b"POST " + path + b" HTTP/1.1", b"Host: x", b"Content-Type: application/x-npy", *lines])
        + b"\r\n\r\n"
    )


CHUNKED = b"Transfer-Encoding: chunked"
BLOCK = b"10000\r\n" + bytes(65_536) + b"\r\n"
SLOW_S = 0.1

ATTACKS: dict[str, Attack] = {
    "transfer: chunks without end": wire(head(CHUNKED), forever=BLOCK),
    "transfer: JSON in chunks without end": wire(
        head(CHUNKED).replace(b"application/x-npy", b"application/json"), forever=BLOCK
    ),
    "transfer: a question in chunks without end": wire(
        head(CHUNKED, path=b"/v1/alignments").replace(b"application/x-npy", b"application/json"), forever=BLOCK
    ),
    "transfer: chunks without end to an address that is none": wire(head(CHUNKED, path=b"/nowhere"), forever=BLOCK),
    "transfer: a body after an answer that was early": wire(head(b"Content-Length: 99999999999"), forever=bytes(65_536)),
    "transfer: chunks of one byte, slowly": wire(head(CHUNKED), forever=b"1\r\nx\r\n", pause_s=SLOW_S),
    "transfer: a body byte by byte": wire(head(b"Content-Length: 1000000"), forever=b"x", pause_s=SLOW_S),
    "transfer: a question byte by byte": wire(
        head(b"Content-Length: 1000000", path=b"/v1/alignments").replace(b"application/x-npy", b"application/json"),
        forever=b" ", pause_s=SLOW_S,
    ),
    "transfer: a head byte by byte": wire(b"GET /v1/jobs HTTP/1.1\r\n", forever=b"X-A: b\r\n", pause_s=SLOW_S),
    "transfer: a head that stops": wire(b"POST /v1/embeddings HTTP/1.1\r\nHost:"),
    "transfer: silence": wire(b""),
    "transfer: a body that stops": wire(head(b"Content-Length: 1000") + b"abc"),
    "transfer: a chunk that stops": wire(head(CHUNKED) + b"ffff\r\nabc"),
    "transfer: chunks that never end with a last one": wire(head(CHUNKED) + b"3\r\nabc\r\n"),
    "transfer: less than its length": wire(head(b"Content-Length: 1000") + GOOD[:100], shut=True),
    "transfer: more than its length": wire(head(b"Content-Length: 10", b"Connection: close") + GOOD),
    "transfer: another request behind the body": wire(
        head(b"Content-Length: 10") + GOOD[:10] + b"GARBAGE\r\n\r\n"
    ),
    "transfer: a length of less than nothing": wire(head(b"Content-Length: -1")),
    "transfer: a length that is no number": wire(head(b"Content-Length: 0x10")),
    "transfer: a length of a thousand digits": wire(head(b"Content-Length: " + b"9" * 1000)),
    "transfer: two lengths": wire(head(b"Content-Length: 5", b"Content-Length: 6") + b"abcdef"),
    "transfer: a length and chunks": wire(head(b"Content-Length: 5", CHUNKED, b"Connection: close") + b"3\r\nabc\r\n0\r\n\r\n"),
    "transfer: chunks twice": wire(head(b"Transfer-Encoding: chunked, chunked")),
    "transfer: an encoding that nobody knows": wire(head(b"Transfer-Encoding: rot13")),
    "transfer: a chunk of 2^64 bytes": wire(head(CHUNKED) + b"10000000000000000\r\nabc", shut=True),
    "transfer: a chunk of less than nothing": wire(head(CHUNKED) + b"-1\r\nabc"),
    "transfer: a chunk's extension without end": wire(head(CHUNKED) + b"1;", forever=b"a" * 65_536),
    "transfer: trailers without end": wire(head(CHUNKED) + b"0\r\n", forever=b"X-A: b\r\n" * 4096),
    "transfer: a head without end": wire(b"GET /v1/jobs HTTP/1.1\r\n", forever=b"X-A: b\r\n" * 4096),
    "transfer: a header without end": wire(b"GET /v1/jobs HTTP/1.1\r\nX-A: ", forever=b"a" * 65_536),
    "transfer: a path without end": wire(b"GET /", forever=b"a" * 65_536),
    "transfer: NUL in a header": wire(b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nX-A: a\0b\r\n\r\n"),
    "transfer: a header without a name": wire(b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n"),
    "transfer: a folded header": wire(b"GET /v1/none HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-A: a\r\n b\r\n\r\n"),
    "transfer: no host": wire(b"GET /v1/jobs HTTP/1.1\r\n\r\n"),
    "transfer: HTTP/2": wire(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "transfer: a path of slashes": wire(b"GET " + b"/" * 20_000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    "transfer: TLS": wire(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)),
    "transfer: noise": wire(bytes(range(256)) * 100),
    "transfer: compressed": post("/v1/embeddings", b"\x1f\x8b", "application/x-npy", **{"content-encoding": "gzip"}),
    "transfer: compressed twice": post("/v1/alignments", b"x", "application/json", **{"content-encoding": "gzip, br"}),
    "transfer: a type of 8 KB": post("/v1/embeddings", GOOD, "x" * 8000),
    "transfer: a type of control characters": wire(
        head(b"Content-Length: 1").replace(b"application/x-npy", b"a\x1b[2J") + b"x"
    ),
    "transfer: a wait without end": wire(
        head(b"Content-Length: 2", b"Prefer: wait=1e99", b"Connection: close", path=b"/v1/alignments").replace(
            b"application/x-npy", b"application/json") + b"{}"
    ),
    "transfer: a key of 300 characters": post("/v1/alignments", b"{}", "application/json", **{"idempotency-key": "x" * 300}),
}  # fmt: skip
