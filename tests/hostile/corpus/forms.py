"""Malicious multipart bodies: floods, missing ends, smuggled content."""

from collections.abc import Callable, Iterator

from tests.hostile.corpus.attack import Attack, post
from tests.hostile.test_bad_transfers import BAD_FORMS, GOOD, form

FORM = "multipart/form-data; boundary=XX"


def part(headers: bytes, data: bytes = b"x") -> bytes:
    return b"--XX\r\n" + headers + b"\r\n\r\n" + data + b"\r\n"


def named(name: bytes, data: bytes = b"x") -> bytes:
    return part(b'Content-Disposition: form-data; name="%s"' % name, data)


def flood(piece: bytes, times: int) -> Iterator[bytes]:
    """Repeat a piece, in chunks as a client would send them."""
    together = max(1, 65_536 // len(piece))
    return (piece * together for _ in range(max(1, times // together)))


END = b"--XX--\r\n"
FORMS: dict[str, bytes | Callable[[], bytes | Iterator[bytes]]] = {
    "a hundred thousand parts": lambda: flood(named(b"metadata", b"{}"), 100_000),
    "a hundred thousand files": lambda: flood(named(b"file", GOOD), 100_000),
    "a hundred thousand unknown parts": lambda: flood(named(b"part"), 100_000),
    "a hundred thousand headers in a part": lambda: (
        piece for source in ([b"--XX\r\n"], flood(b"X-A: b\r\n", 100_000)) for piece in source
    ),
    "a header of 20 MB in a part": lambda: (
        piece for source in ([b"--XX\r\nX-A: "], flood(b"a" * 65_536, 320)) for piece in source
    ),
    "a header's name of 20 MB": lambda: (piece for source in ([b"--XX\r\n"], flood(b"a" * 65_536, 320)) for piece in source),
    "a name of 60 KB": named(b"a" * 60_000) + END,
    "a part of metadata of 20 MB": lambda: (
        piece
        for source in ([b'--XX\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n'], flood(b" " * 65_536, 320))
        for piece in source
    ),
    "almost the boundary, again and again": lambda: (
        piece
        for source in ([b'--XX\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n'], flood(b"\r\n--X" * 16_384, 320))
        for piece in source
    ),
    "20 MB before the first boundary": lambda: flood(b"\r\n" * 32_768, 320),
    "a form in a form": part(b"Content-Type: multipart/mixed; boundary=YY", b"--YY\r\n\r\nx\r\n--YY--") + END,
    "a way out by the file's name": part(b'Content-Disposition: form-data; name="file"; filename="../../../etc/x"', b"x") + END,
    "control characters in the file's name": (
        part(b'Content-Disposition: form-data; name="file"; filename="\x00\x1b[2J"', b"x") + END
    ),
    "a name in another alphabet": named("фaйл".encode()) + END,
    "a name that is no text": named(b"\xff\xfe") + END,
    "quotes that never end": part(b'Content-Disposition: form-data; name="file; filename="x') + END,
    "parameters without end": part(b'Content-Disposition: form-data; name="file"' + b"; a=b" * 10_000) + END,
    "parts without headers": b"--XX\r\n\r\nx\r\n" * 1000 + END,
    "bytes behind its end": form(("file", b"x")) + b"x" * 1_000_000,
    "a pickled file beside ids": form(("file", b"\x80\x04N."), ("ids", b"[1]")),
    "ids of 60 MB of brackets": lambda: (
        piece
        for source in ([b'--XX\r\nContent-Disposition: form-data; name="ids"\r\n\r\n'], flood(b"[" * 65_536, 900))
        for piece in source
    ),
    "a million ids": lambda: form(("file", GOOD), ("ids", b"[" + b"1," * 1_000_000 + b"1]")),
    "ids of a million digits": form(("file", GOOD), ("ids", b"[" + b"9" * 1_000_000 + b"]")),
}  # fmt: skip

ATTACKS: dict[str, Attack] = {
    **{f"form: {name}": post("/v1/embeddings", body, FORM) for name, body in FORMS.items()},
    **{f"form: {name}": post("/v1/embeddings", body, FORM) for name, (body, _) in BAD_FORMS.items()},
    "form: no boundary": post("/v1/embeddings", form(), "multipart/form-data"),
    "form: a boundary of 5000 characters": post(
        "/v1/embeddings", form(), "multipart/form-data; boundary=" + "x" * 5000
    ),
    "form: an alignment of one file": post("/v1/alignments", form(("a", GOOD)), FORM),
    "form: an alignment with a request without bottom": post(
        "/v1/alignments", form(("a", GOOD), ("b", GOOD), ("request", b'{"metrics":' + b"[" * 60_000)), FORM
    ),
}
