"""Malicious Parquet and Arrow files: false headers, hidden code, bombs."""

import pickle
import random
import struct
from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa

from tests.formats.tables.bombs import BOMBS
from tests.formats.tables.table_files import KINDS, MEDIA_TYPES, lists, vectors, write
from tests.hostile.corpus.arrays import Shell
from tests.hostile.corpus.attack import Attack, upload

ROWS = np.random.default_rng(0).standard_normal((40, 6)).astype("f4")
TABLE = pa.table({"id": [f"row {i}" for i in range(40)], "x": vectors(ROWS), "y": lists(ROWS.tolist())})
GOOD = {kind: write(kind, TABLE, 16) for kind in KINDS}
#: Hostile mutations of each kind of file, each by its own seed.
MUTATIONS = 12


def mutated(kind: str, seed: int) -> bytes:
    """A valid file with damaged metadata: the footer of a file, or the first messages of a stream."""
    data, chance = bytearray(GOOD[kind]), random.Random(seed)  # noqa: S311 - any numbers will do
    for _ in range(3):
        at = chance.randrange(8, 400) if kind == "arrow-stream" else len(data) - chance.randrange(12, 400)
        data[at : at + 4] = chance.choice([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\x80" * 4, b"\x7f" * 4])
    return bytes(data)


def footer(length: int) -> bytes:
    """Parquet that declares a footer of this length."""
    return GOOD["parquet"][:-8] + struct.pack("<I", length % 2**32) + b"PAR1"


def thrift(body: bytes) -> bytes:
    """Parquet whose footer is these bytes."""
    return b"PAR1" + bytes(16) + body + struct.pack("<I", len(body)) + b"PAR1"


def extended(kind: str) -> bytes:
    """A type that older versions of pyarrow unpickled when they read it (CVE-2023-47248)."""
    hidden = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(Shell())}
    field = pa.field("x", pa.list_(pa.int32(), 1), metadata=hidden)
    return write(kind, pa.table({"x": pa.array([[1]] * 8, field.type)}, schema=pa.schema([field])))


def page(size: int) -> bytes:
    """Parquet whose first page declares that it unpacks to `size` bytes."""
    data = write("parquet", pa.table({"x": lists(ROWS.tolist())}), compression="zstd", use_dictionary=False)
    # A page's header: its kind, then field 2, the unpacked size, as a zigzag number of some bytes.
    at = data.index(b"\x15\x00\x15") + 3
    end = at
    while data[end] & 0x80:
        end += 1
    return data[:at] + number(2 * size) + data[end + 1 :]


def number(value: int) -> bytes:
    """Thrift's variable-length integer."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def nested(depth: int) -> pa.Table:
    kind: pa.DataType = pa.float32()
    for _ in range(depth):
        kind = pa.list_(kind)
    return pa.table({"x": pa.array([None] * 8, kind)})


PARQUET: dict[str, bytes | Callable[[], bytes]] = {
    "a footer of 4 GB": footer(-1),
    "a footer of nothing": footer(0),
    "a footer as long as the file": footer(len(GOOD["parquet"])),
    "a footer of zeros": thrift(bytes(1000)),
    "a footer of 0xff": thrift(b"\xff" * 1000),
    "a footer of structs without bottom": thrift(b"\x1c" * 100_000),
    "a footer of lists without bottom": thrift(b"\x19" * 100_000),
    "a list of 2^31 columns": thrift(b"\x15\x04\x19\xfc" + number(2**31 - 1) + bytes(64)),
    "a list of a million empty columns": thrift(b"\x15\x04\x19\xfc" + number(1_000_000) + bytes(1_000_000)),
    "a string of 2 GB": thrift(b"\x15\x04\x19\x1c\x48" + number(2**31 - 1) + b"x" * 64),
    "a footer of 9 MB": thrift(bytes(9_000_000)),
    "only its marks": b"PAR1PAR1",
    "marks that share their bytes": b"PAR1",
    "encrypted": GOOD["parquet"][:-4] + b"PARE",
    "a page of 2 GB": lambda: page(2**31 - 1),
    "a page of less than nothing": lambda: page(2**31),
    "a page of 1 GB": lambda: page(2**30),
    "a page too small for its values": lambda: page(7),
    "columns without bottom": lambda: write("parquet", nested(60)),
    "two thousand layers": lambda: write(
        "parquet", pa.table({f"{i}": pa.array([[1.0]] * 4, pa.list_(pa.float32(), 1)) for i in range(2000)})
    ),
    "a thousand empty row groups": lambda: write("parquet", pa.table({"x": vectors(ROWS)}), 1)[:-9],
}
ARROW: dict[str, tuple[str, bytes | Callable[[], bytes]]] = {
    "file: only its marks": ("arrow-file", b"ARROW1\0\0" + bytes(4) + b"ARROW1"),
    "file: a footer of 2 GB": ("arrow-file", GOOD["arrow-file"][:-10] + b"\xff\xff\xff\x7fARROW1"),
    "file: a footer of less than nothing": ("arrow-file", GOOD["arrow-file"][:-10] + b"\xff\xff\xff\xffARROW1"),
    "file: no stream before its footer": ("arrow-file", GOOD["arrow-file"][:8] + bytes(2000) + GOOD["arrow-file"][-600:]),
    "file: a stream by its type": ("arrow-file", GOOD["arrow-stream"]),
    "stream: a file by its type": ("arrow-stream", GOOD["arrow-file"]),
    "stream: no end": ("arrow-stream", GOOD["arrow-stream"][:-8]),
    "stream: another one behind it": ("arrow-stream", GOOD["arrow-stream"] * 2),
    "stream: a message of 2 GB": ("arrow-stream", b"\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(64) + b"\xff" * 4 + bytes(4)),
    "stream: a message of less than nothing": ("arrow-stream", b"\xff" * 8 + bytes(64) + b"\xff" * 4 + bytes(4)),
    "stream: no batches": ("arrow-stream", write("arrow-stream", TABLE[:0])),
    "stream: columns without bottom": ("arrow-stream", lambda: write("arrow-stream", nested(60))),
    "stream: half of a batch": ("arrow-stream", GOOD["arrow-stream"][:1500] + b"\xff" * 4 + bytes(4)),
}  # fmt: skip

ATTACKS: dict[str, Attack] = {
    **{f"Parquet: {name}": upload(data, MEDIA_TYPES["parquet"]) for name, data in PARQUET.items()},
    **{f"Arrow {name}": upload(data, MEDIA_TYPES[kind]) for name, (kind, data) in ARROW.items()},
    **{f"{kind}: code in a type": upload(partial(extended, kind), MEDIA_TYPES[kind]) for kind in KINDS},
    **{f"{kind}: cut at {share:.0%}": upload(GOOD[kind][: int(len(GOOD[kind]) * share)], MEDIA_TYPES[kind])
       for kind in KINDS for share in (0.1, 0.5, 0.9)},
    **{f"{kind}: damaged, {seed}": upload(partial(mutated, kind, seed), MEDIA_TYPES[kind])
       for kind in KINDS for seed in range(MUTATIONS)},
    **{f"bomb: {name}": upload(make) for name, (make, _) in BOMBS.items()},
}  # fmt: skip
