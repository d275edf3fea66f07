"""Malicious npy, npz, safetensors and JSON files: false headers, hidden code, bombs."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable

import numpy as np

from tests.hostile.corpus.attack import Attack, upload
from tests.hostile.test_bad_uploads import BAD_FILES, with_header
from tests.service.servers import npy, rows

GOOD = npy(rows(6))
NPY, NPZ = "application/x-npy", "application/x-npz"
SAFETENSORS, JSON = "application/x-safetensors", "application/json"


def described(descr: object, shape: object, body: bytes = b"1234", *, order: object = False) -> bytes:
    return with_header(repr({"descr": descr, "fortran_order": order, "shape": shape}), body)


class Shell:
    """An object that runs a program when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        import os

        return os.system, ("touch /tmp/consilience-was-here",)


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as zipped:
        for name, data in members.items():
            zipped.writestr(name, data)
    return file.getvalue()


def bomb(size: int) -> bytes:
    return archive({"a.npy": npy(np.zeros((size // 32, 8), np.float32))}, zipfile.ZIP_DEFLATED)


def lying(data: bytes, field: bytes, lie: bytes) -> bytes:
    """The archive with a value in its directory replaced by a false one."""
    assert field in data
    return data.replace(field, lie)


def overlapping() -> bytes:
    """A zip directory of a thousand members that share the same bytes."""
    data = bytearray(archive({"a.npy": npy(rows(5000))}))
    end = data.rindex(b"PK\x05\x06")
    start = data.rindex(b"PK\x01\x02", 0, end)
    entry = bytes(data[start:end])
    assert entry.count(b"a.npy") == 1
    names = (b"%05d" % i for i in range(1000))
    directory = b"".join(entry.replace(b"a.npy", name[:1] + b".npy", 1) for name in names)
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1000, 1000, len(directory), start, 0)
    return bytes(data[:start]) + directory + tail


def tensors(header: object, body: bytes = bytes(96), *, length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + body


def entry(begin: int, end: int, shape: list[int] | None = None, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape or [4, 3], "data_offsets": [begin, end]}


HUGE = "9" * 4000
ARRAYS: dict[str, tuple[bytes | Callable[[], bytes], str]] = {
    "npy: 2^63 rows": (described("<f4", (2**63, 768)), NPY),
    "npy: 2^64 rows": (described("<f4", (2**64, 1)), NPY),
    "npy: a product that is 0 in 64 bits": (described("<f4", (2**32, 2**32)), NPY),
    "npy: a shape of 4000 digits": (with_header(f"{{'descr':'<f4','fortran_order':False,'shape':({HUGE},1)}}"), NPY),
    "npy: a shape of floats": (described("<f4", (6.0, 4.0)), NPY),
    "npy: a shape of booleans": (described("<f4", (True, True)), NPY),
    "npy: objects with code": (npy(np.array([Shell()] * 5, dtype=object)), NPY),
    "npy: fields": (npy(np.zeros(5, np.dtype([("a", "f4"), ("b", "O")]))), NPY),
    "npy: fields by a list": (described([("a", "<f4"), ("b", "|O")], (6,)), NPY),
    "npy: arrays in arrays": (described("(2,)<f4", (6, 4)), NPY),
    "npy: dates": (npy(np.zeros((6, 2), "M8[s]")), NPY),
    "npy: strings": (npy(np.full((6, 2), "x")), NPY),
    "npy: raw bytes": (described("|V2", (6, 4), bytes(48)), NPY),
    "npy: parentheses without end": (with_header("(" * 4000), NPY),
    "npy: minus signs without end": (with_header("{'shape': " + "-" * 3900 + "1}"), NPY),
    "npy: a power in its header": (with_header("{'descr': '<f4', 'shape': (9**9**9, 1), 'fortran_order': False}"), NPY),
    "npy: a header of 4 GB": (b"\x93NUMPY\x02\x00" + b"\xff" * 4 + b"{}", NPY),
    "npy: a header longer than the file": (b"\x93NUMPY\x01\x00\xff\xff{}", NPY),
    "npy: version 9": (b"\x93NUMPY\x09\x00\x10\x00" + b" " * 16, NPY),
    "npy: too wide in columns": (described("<f4", (4, 70_000), bytes(4 * 4 * 70_000), order=True), NPY),
    "npy: another one behind it": (GOOD + GOOD, NPY),
    "npz: code in a member": (archive({"a.npy": npy(np.array([Shell()] * 5, dtype=object))}), NPZ),
    "npz: a pickle beside an array": (archive({"a.npy": GOOD, "b.pkl": pickle.dumps(1)}), NPZ),
    "npz: a torch file": (archive({"archive/data.pkl": pickle.dumps(Shell())}), NPZ),
    "npz: an archive in an archive": (archive({"a.npy": archive({"b.npy": GOOD})}), NPZ),
    "npz: 60 MB out of 60 KB": (lambda: bomb(60_000_000), NPZ),
    "npz: a bomb that says it is small": (
        lambda: lying(bomb(30_000_000), struct.pack("<I", 30_000_128), struct.pack("<I", 224)), NPZ,
    ),
    "npz: a thousand members of the same bytes": (overlapping, NPZ),
    "npz: twenty thousand empty members": (lambda: archive({f"{i}.npy": b"" for i in range(20_000)}), NPZ),
    "npz: a way out by its name": (archive({"../../etc/cron.d/x.npy": GOOD[:-1]}), NPZ),
    "npz: control characters in a name": (archive({"a\x1b[31m\r\n.npy": GOOD}), NPZ),
    "npz: a name of nothing": (archive({".npy": GOOD}), NPZ),
    "npz: a name of 60000 characters": (archive({"x" * 60_000 + ".npy": GOOD}), NPZ),
    "npz: bzip2": (archive({"a.npy": GOOD}, zipfile.ZIP_BZIP2), NPZ),
    "npz: lzma": (archive({"a.npy": GOOD}, zipfile.ZIP_LZMA), NPZ),
    "npz: another checksum": (lambda: archive({"a.npy": GOOD}).replace(GOOD[-4:], b"\0\0\x80?"), NPZ),
    "npz: cut off": (archive({"a.npy": GOOD})[:-30], NPZ),
    "npz: a directory beyond its end": (archive({"a.npy": GOOD})[:-6] + b"\xff\xff\xff\x7f\0\0", NPZ),
    "safetensors: overlapping tensors": (tensors({"a": entry(0, 48), "b": entry(24, 72)}, bytes(72)), SAFETENSORS),
    "safetensors: the same bytes a thousand times": (tensors({f"{i}": entry(0, 48) for i in range(1000)}), SAFETENSORS),
    "safetensors: a hole": (tensors({"a": entry(0, 48), "b": entry(49, 97)}, bytes(97)), SAFETENSORS),
    "safetensors: beyond its end": (tensors({"a": entry(0, 2**40, [2**38, 1])}), SAFETENSORS),
    "safetensors: backwards": (tensors({"a": entry(48, 0)}), SAFETENSORS),
    "safetensors: before its start": (tensors({"a": entry(-48, 0)}), SAFETENSORS),
    "safetensors: 2^63 rows": (tensors({"a": entry(0, 96, [2**63, 768])}), SAFETENSORS),
    "safetensors: a product that is 24 in 64 bits": (tensors({"a": entry(0, 96, [2**32, 2**32, 24])}), SAFETENSORS),
    "safetensors: a header of 2^63 bytes": (tensors({}, length=2**63), SAFETENSORS),
    "safetensors: a header of 3 MB": (lambda: tensors(b"{}".ljust(3_000_000)), SAFETENSORS),
    "safetensors: a header without bottom": (tensors(b'{"a":' * 100_000), SAFETENSORS),
    "safetensors: brackets without bottom": (tensors(b"[" * 1_000_000), SAFETENSORS),
    "safetensors: a name twice": (
        tensors(b'{"a":%s,"a":%s}' % ((json.dumps(entry(0, 48)).encode(),) * 2), bytes(48)), SAFETENSORS,
    ),
    "safetensors: control characters in a name": (tensors({"a\0\x1b": entry(0, 48)}, bytes(48)), SAFETENSORS),
    "safetensors: an unknown type": (tensors({"a": entry(0, 48, dtype="F8_E4M3")}, bytes(48)), SAFETENSORS),
    "safetensors: ten thousand tensors": (
        lambda: tensors({f"{i}": entry(16 * i, 16 * i + 16, [4, 1]) for i in range(10_000)}, bytes(160_000)), SAFETENSORS,
    ),
    "JSON: no bottom": (b'{"vectors": ' + b"[" * 1_000_000, JSON),
    "JSON: a deep row": (b'{"vectors": ' + b"[" * 900 + b"]" * 900 + b"}", JSON),
    "JSON: infinity": (b'{"vectors": [[1], [Infinity], [2], [3]]}', JSON),
    "JSON: a number beyond floats": (b'{"vectors": [[1], [1e999], [2], [3]]}', JSON),
    "JSON: a number of a million digits": (b'{"vectors": [[1], [' + b"9" * 1_000_000 + b"], [2], [3]]}", JSON),
    "JSON: a million rows of nothing": (b'{"vectors": [' + b"[]," * 1_000_000 + b"[]]}", JSON),
    "JSON: a ragged row after many": (b'{"vectors": [' + b"[1]," * 1_000_000 + b"[1,2]]}", JSON),
    "JSON: a layer named NUL": (b'{"layers": {"\\u0000": [[1],[2],[3],[4]]}}', JSON),
    "JSON: a layer named for a terminal": (b'{"layers": {"\\u001b[2J": [[1],[2],[3],[4]]}}', JSON),
    "JSON: a lone surrogate": (b'{"layers": {"\\ud800": [[1],[2],[3],[4]]}}', JSON),
    "JSON: ids that draw": (b'{"vectors": [[1],[2],[3],[4]], "ids": ["\\u202e", 1, 2, 3]}', JSON),
    "JSON: five thousand layers": (
        json.dumps({"layers": {f"{i}": [[1], [2], [3], [4]] for i in range(5000)}}).encode(), JSON,
    ),
    "JSON: over its limit": (b'{"vectors": [[1]]}'.ljust(9_000_000), JSON),
}  # fmt: skip

ATTACKS: dict[str, Attack] = {
    **{name: upload(data, media_type) for name, (data, media_type) in ARRAYS.items()},
    **{f"file: {name}": upload(data, media_type) for name, (data, media_type, *_) in BAD_FILES.items()},
}
