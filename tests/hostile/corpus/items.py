"""Malicious datasets: false headers, hidden content, bombs."""

import io
import pickle
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import partial

import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from tests.formats.items.item_files import ITEMS, animation, encoded_image, image_archive, jsonl, table, tarred, zipped
from tests.hostile.corpus.arrays import Shell
from tests.hostile.corpus.attack import Attack, post
from tests.hostile.corpus.tables import PARQUET

JSONL, ZIP, TAR, TABLE = "application/jsonl", "application/zip", "application/x-tar", "application/vnd.apache.parquet"
#: Hostile mutations of each kind of file, each by its own seed.
MUTATIONS = 4
GOOD = {
    JSONL: jsonl(ITEMS),
    ZIP: zipped(image_archive()),
    TAR: tarred(image_archive()),
    TABLE: table({"id": ["a", "b"], "text": ["x", "y"], "photo": [encoded_image(), encoded_image("blue")]}),
}
SHAPES = {
    "PNG": encoded_image(size=(64, 64)),
    "JPEG": encoded_image(size=(64, 64), kind="JPEG"),
    "WEBP": encoded_image(kind="WEBP"),
}

Content = bytes | Callable[[], bytes]


def dataset(content: Content, media_type: str = "application/octet-stream") -> Attack:
    return post("/v1/datasets", content, media_type)


def archive_of(*images: bytes) -> bytes:
    """An archive of these images, without compression."""
    files = {f"{number}.png": data for number, data in enumerate(images)}
    return zipped({"manifest.jsonl": jsonl([{"id": name, "image": name} for name in files]), **files})


def png(width: int, height: int, body: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG with one bit per pixel and valid chunks around any content."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", body), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def black(width: int, height: int) -> bytes:
    """A complete black PNG that is very small."""
    packer = zlib.compressobj(9)
    return png(width, height, b"".join(packer.compress(bytes(1 + width // 8)) for _ in range(height)) + packer.flush())


def jpeg(width: int, height: int) -> bytes:
    """A small JPEG whose header declares another size."""
    data = bytearray(SHAPES["JPEG"])
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def webp(side: int) -> bytes:
    """A small WebP whose frame declares another size (VP8L: 14 bits each)."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "WEBP", lossless=True)
    data = bytearray(file.getvalue())
    at = data.index(b"VP8L") + 9
    rest = struct.unpack_from("<I", data, at)[0] >> 28
    struct.pack_into("<I", data, at, (rest << 28) | ((side - 1) << 14) | (side - 1))
    return bytes(data)


def mutated(kind: str, seed: int) -> bytes:
    """A valid file with some damaged bytes."""
    data, chance = bytearray(GOOD[kind]), random.Random(seed)  # noqa: S311 - any numbers will do
    for _ in range(4):
        at = chance.randrange(len(data) - 4)
        data[at : at + 4] = chance.choice([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"{{{{", b"PK\x01\x02"])
    return bytes(data) + (b"\n{" if kind == JSONL else b"")  # what is damaged may still be whole: then its end is not


def crippled(kind: str, seed: int) -> bytes:
    """An image that is damaged in its middle, or truncated."""
    chance, data = random.Random(seed), bytearray(SHAPES[kind])  # noqa: S311 - any numbers will do
    at = chance.randrange(12, len(data) - 4)
    return archive_of(bytes(data[:at]))


def header(**fields: object) -> bytes:
    """The header of a file in a tar, with the correct checksum."""
    info = tarfile.TarInfo("1.png")
    for name, value in fields.items():
        setattr(info, name, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def resized(digits: bytes) -> bytes:
    """The header of a file in a tar with any text as its size."""
    block = bytearray(header())
    block[124:136] = digits.ljust(12, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


def overlapping(count: int) -> bytes:
    """A zip whose entries all share the same megabyte of zeros."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.jsonl", b'{"id": "a", "text": "x"}')
        archive.writestr("0000.png", bytes(2**20))
        first = archive.infolist()[1]
        for number in range(1, count):
            other = zipfile.ZipInfo(f"{number:04}.png")
            for field in ("compress_type", "CRC", "compress_size", "file_size", "header_offset", "flag_bits"):
                setattr(other, field, getattr(first, field))
            archive.filelist.append(other)
    return file.getvalue()


def strings(rows: int) -> bytes:
    """Parquet that unpacks to a hundred times its size: one long string, repeated."""
    sink = pa.BufferOutputStream()
    column = pa.array(["x" * 1000] * rows)
    parquet.write_table(pa.table({"text": column}), sink, compression="zstd")
    return bytes(sink.getvalue())


LINES: dict[str, Content] = {
    "without bottom": b'{"text": ' + b"[" * 1_000_000,
    "one line of 5 MB": b'{"text": "' + b"x" * 5_000_000,
    "no line at all": b"{" * 5_000_000,
    "a hundred thousand fields": lambda: b"{" + b",".join(b'"f%d":"x"' % number for number in range(100_000)) + b"}",
    "a hundred thousand items and one": lambda: b'{"text":"x"}\n' * 100_001,
    "one text of 2 MB": b'{"text": "' + b"x" * 2_000_000 + b'"}',
    "an id of 1 MB": b'{"text": "x", "id": "' + b"x" * 1_000_000 + b'"}',
    "an id without end": b'{"text": "x", "id": ' + b"9" * 1_000_000 + b"}",
    "half of a surrogate pair": b'{"text": "\\ud800"}',
    "a NUL in a view's name": b'{"te\\u0000xt": "x"}',
    "a path for a view": b'{"../../etc/passwd": "x"}',
    "an id twice": b'{"text": "x", "id": 1}\n' * 2,
    "an image in JSON": b'{"image": "/etc/passwd"}',
    "NaN for an id": b'{"text": "x", "id": NaN}',
    "UTF-16": '{"text": "x"}'.encode("utf-16"),
    "a pickle": pickle.dumps(Shell()),
}
PICTURES: dict[str, Content] = {
    "a PNG of 900 megapixels": lambda: archive_of(black(30_000, 30_000)),
    "forty PNGs of 10 megapixels": lambda: archive_of(*(black(5000 + 8 * number, 2000) for number in range(40))),
    "a PNG of 2^31 pixels a side": lambda: archive_of(png(2**31 - 1, 2**31 - 1, b"")),
    "a PNG without rows": lambda: archive_of(png(100, 100, zlib.compress(b""))),
    "a PNG whose text is a bomb": lambda: archive_of(
        png(8, 8, b"", (b"zTXt", b"key\0\0" + zlib.compress(bytes(100_000_000))))
    ),
    "a PNG whose profile is a bomb": lambda: archive_of(
        png(8, 8, b"", (b"iCCP", b"key\0\0" + zlib.compress(bytes(100_000_000))))
    ),
    "a JPEG of 4 gigapixels": lambda: archive_of(jpeg(65_535, 65_535)),
    "a JPEG of 12 megapixels that are not there": lambda: archive_of(jpeg(4000, 3000)[:-30]),
    "a WebP of 268 megapixels": lambda: archive_of(webp(16_384)),
    "a WebP of 24 megapixels that are not there": lambda: archive_of(webp(4900)),
    "an animation": lambda: archive_of(animation("WEBP")),
    "SVG": archive_of(b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'),
    "PostScript": archive_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file"),
    "a TIFF": archive_of(encoded_image(kind="TIFF")),
    "the same megabyte nine hundred times": lambda: zipped({
        "manifest.jsonl": jsonl([{"id": number, "image": "1.png"} for number in range(900)]),
        "1.png": encoded_image() + bytes(1_000_000),
    }),
}  # fmt: skip
ZIPS: dict[str, Content] = {
    "a manifest of 200 MB of nothing": lambda: zipped({"manifest.jsonl": b" " * 50_000_000}),
    "entries that overlap": lambda: overlapping(500),
    "a zip in a zip": zipped({"manifest.jsonl": jsonl([{"image": "a.zip"}]), "a.zip": zipped(image_archive())}),
    "no manifest": zipped({"1.png": encoded_image()}),
    "two manifests": zipped(image_archive({"x/manifest.jsonl": b"{}"})),
    "a path out of it": zipped({"manifest.jsonl": jsonl([{"image": "../../../etc/passwd"}])}),
    "an absolute path": zipped({"manifest.jsonl": jsonl([{"image": "/etc/passwd"}])}),
    "only its end": b"PK\x05\x06" + bytes(18),
    "an end that says 2^32 entries": GOOD[ZIP][:-22] + b"PK\x05\x06" + bytes(4) + b"\xff" * 8 + bytes(6),
    "an npz": zipped({"a.npy": b"\x93NUMPY"}),
}  # fmt: skip
TARS: dict[str, Content] = {
    "a link to a file outside": header(type=tarfile.SYMTYPE, linkname="/etc/passwd") + bytes(1024),
    "a hard link": header(type=tarfile.LNKTYPE, linkname="/etc/passwd") + bytes(1024),
    "a device": header(type=tarfile.BLKTYPE) + bytes(1024),
    "a sparse file": header(type=tarfile.GNUTYPE_SPARSE) + bytes(1024),
    "a name of 1 MB": header(type=tarfile.GNUTYPE_LONGNAME, size=2**20) + b"x" * 2**20 + GOOD[TAR],
    "attributes of 1 MB": header(type=tarfile.XHDTYPE, size=2**20) + b"9" * 2**20 + GOOD[TAR],
    "attributes without end": header(type=tarfile.XHDTYPE, size=512) + b"5 a=b\n".ljust(512, b"9") + GOOD[TAR],
    "a size of its own": header(type=tarfile.XHDTYPE, size=17) + b"17 size=99999999\n".ljust(512, b"\0") + GOOD[TAR],
    "a file of 8 GB": resized(b"77777777777"),
    "a file of less than nothing": resized(b"-7777777777"),
    "a file of 2^95 bytes": resized(b"\x80" + b"\xff" * 11),
    "a file of no number": resized(b"zzzzzzzzzzz"),
    "a hundred thousand files": lambda: header(name="x") * 100_000,
    "a gzip": zlib.compress(GOOD[TAR]),
}  # fmt: skip
TABLES: dict[str, Content] = {
    "one string again and again": lambda: strings(60_000),
    "no strings": table({"id": [1, 2], "x": [1.0, 2.0]}),
    "an id twice": table({"id": ["a", "a"], "text": ["x", "y"]}),
    "a missing text": table({"id": ["a", "b"], "text": ["x", None]}),
    "a missing id": table({"id": ["a", None], "text": ["x", "y"]}),
    "an image of 18 MB": lambda: table({"photo": [encoded_image() + bytes(18_000_000)]}),
    "an image of 25 MB": lambda: table({"photo": [random.Random(0).randbytes(25_000_000)]}),  # noqa: S311 - any bytes will do
    "no rows": table({"text": pa.array([], pa.string())}),
    **{name: PARQUET[name] for name in ("a page of 2 GB", "a footer of 0xff", "columns without bottom")},
}

MANY_IDS = b'{"builtin": "scenes", "ids": [' + b",".join(b'"x%d"' % number for number in range(100_000)) + b"]}"
ATTACKS: dict[str, Attack] = {
    **{f"items, JSON lines: {name}": dataset(data, JSONL) for name, data in LINES.items()},
    **{f"items, image: {name}": dataset(data, ZIP) for name, data in PICTURES.items()},
    **{f"items, zip: {name}": dataset(data, ZIP) for name, data in ZIPS.items()},
    **{f"items, tar: {name}": dataset(data, TAR) for name, data in TARS.items()},
    **{f"items, Parquet: {name}": dataset(data, TABLE) for name, data in TABLES.items()},
    **{f"items, cut at {share:.0%}: {kind}": dataset(GOOD[kind][: int(len(GOOD[kind]) * share)], kind)
       for kind in (TABLE, ZIP, TAR) for share in ((0.1, 0.3) if kind == TAR else (0.1, 0.5, 0.9))},
    **{f"items, damaged, {seed}: {kind}": dataset(partial(mutated, kind, seed), kind)
       for kind in (JSONL, TABLE) for seed in range(MUTATIONS)},
    **{f"items, a cut {kind}, {seed}": dataset(partial(crippled, kind, seed), ZIP) for kind in SHAPES for seed in range(3)},
    "items: an unknown kind": dataset(b"GIF89a, or so"),
    "items: nothing": dataset(b""),
    "items: embeddings": dataset(b"\x93NUMPY\x01\x00"),
    "items: a builtin that is none": post("/v1/datasets", b'{"builtin": "scenes:n=99999999999999"}', "application/json"),
    "items: a hundred thousand ids": post("/v1/datasets", lambda: MANY_IDS, "application/json"),
}  # fmt: skip
