"""Every bad file is refused with a problem that quotes the bad value, and nothing of it is stored."""

import io
import pickle
import struct
import zipfile
from typing import Any

import httpx2
import numpy as np
import pytest

from tests.service.servers import Server, assert_problem, npy, rows

NPY = "application/x-npy"
GOOD = rows(6)


def with_header(header: str, body: bytes = b"") -> bytes:
    """An npy file with any header."""
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def spoiled(value: float) -> np.ndarray[Any, Any]:
    array = GOOD.copy()
    array[3, 2] = value
    return array


def npz(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return file.getvalue()


BAD_FILES = {
    "not an npy": (b"hello, I am no array at all", NPY, 422, "unreadable-file", None),
    "empty": (b"", NPY, 422, "unreadable-file", None),
    "unknown bytes": (b"GIF89a, or so", "application/octet-stream", 415, "unsupported-format", "GIF89a"),
    "truncated": (npy(GOOD)[:-5], NPY, 422, "unreadable-file", None),
    "cut in its header": (npy(GOOD)[:40], NPY, 422, "unreadable-file", None),
    "with bytes behind its end": (npy(GOOD) + b"more", NPY, 422, "unreadable-file", None),
    "pickled objects": (npy(np.array([{"a": 1}] * 5, dtype=object)), NPY, 422, "unsupported-dtype", "|O"),
    "a bare pickle": (pickle.dumps(GOOD), "application/octet-stream", 415, "unsupported-format", None),
    "integers": (npy(np.ones((6, 3), np.int64)), NPY, 422, "unsupported-dtype", "<i8"),
    "complex numbers": (npy(np.ones((6, 3), np.complex64)), NPY, 422, "unsupported-dtype", "<c8"),
    "one dimension": (npy(np.ones(6, np.float32)), NPY, 422, "invalid-shape", "(6,)"),
    "four dimensions": (npy(np.ones((6, 2, 2, 2), np.float32)), NPY, 422, "invalid-shape", "(6, 2, 2, 2)"),
    "no columns": (npy(np.ones((6, 0), np.float32)), NPY, 422, "invalid-shape", "(6, 0)"),
    "NaN": (npy(spoiled(np.nan)), NPY, 422, "non-finite-values", "row 3, column 2 of layer 0: nan"),
    "infinity": (npy(spoiled(-np.inf)), NPY, 422, "non-finite-values", "row 3, column 2 of layer 0: -inf"),
    "float64 beyond float32": (npy(np.full((6, 2), 1e300)), NPY, 422, "non-finite-values", "1e+300"),
    "three rows": (npy(rows(3)), NPY, 422, "too-few-rows", "3"),
    "a header of 10^12 rows": (
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 768), }", b"1234"),
        NPY,
        422,
        "unreadable-file",
        "(1000000000000, 768)",
    ),
    "a negative shape": (
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-6, 4), }", b"1234"),
        NPY,
        422,
        "unreadable-file",
        "(-6, 4)",
    ),
    "code in its header": (with_header("{'descr': __import__('os').system('x')}"), NPY, 422, "unreadable-file", None),
    "npz that is a bomb": (
        npz(a=npy(np.zeros((4_000_000, 8), np.float32))),
        "application/x-npz",
        413,
        "too-large",
        "128000128",
    ),
    "npz without members": (npz(), "application/x-npz", 415, "unsupported-format", None),
    "npz with pickles": (npz(a=npy(np.array([None] * 5, object))), "application/x-npz", 422, "unsupported-dtype", "|O"),
    "safetensors with a huge header": (
        struct.pack("<Q", 2**60) + b"{}",
        "application/x-safetensors",
        422,
        "unreadable-file",
        str(2**60),
    ),
    "JSON with NaN": (b'{"vectors": [[1], [NaN], [2], [3]]}', "application/json", 422, "unreadable-file", None),
    "JSON ragged": (b'{"vectors": [[1], [2, 3], [2], [3]]}', "application/json", 422, "invalid-shape", "[2, 3]"),
    "JSON of words": (b'{"vectors": [["x"], [2], [2], [3]]}', "application/json", 422, "unsupported-dtype", "x"),
    "JSON deeper than Python's stack": (
        b'{"vectors": [[1], [1], [1], ' + b"[" * 1020 + b"]" * 1020 + b"]}",
        "application/json",
        422,
        "unsupported-dtype",
        "a list is not a number",
    ),
    "JSON of another shape": (b'{"rows": 7}', "application/json", 422, "invalid-request", "rows"),
    "a foreign type": (b"x", "image/png", 415, "unsupported-format", "image/png"),
    "a form by mistake": (b"x=1", "application/x-www-form-urlencoded", 415, "unsupported-format", None),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_with_its_value_and_leaves_nothing(
    server: Server, client: httpx2.Client, name: str
) -> None:
    data, media_type, status, code, value = BAD_FILES[name]
    before = server.contents()

    answer = client.post("/v1/embeddings", content=data, headers={"content-type": media_type})

    document = assert_problem(answer, status, code)
    assert (value or "") in document.get("value", "") + document["detail"]
    assert server.contents() == before


@pytest.mark.parametrize("name", [name for name in BAD_FILES if not name.startswith(("a foreign", "a form"))])
def test_a_bad_file_together_with_a_good_one_leaves_neither(server: Server, client: httpx2.Client, name: str) -> None:
    data, media_type, *_ = BAD_FILES[name]
    before = server.contents()

    files = {"a": ("a", npy(GOOD), NPY), "b": ("b", data, media_type)}
    answer = client.post("/v1/alignments", files=files, data={"request": '{"metrics": "cka"}'})

    assert 400 <= answer.status_code < 500, answer.text
    document = assert_problem(answer, answer.status_code, answer.json()["type"].rsplit("/", 1)[-1])
    assert document["pointer"].startswith("/b"), document
    assert server.contents() == before
