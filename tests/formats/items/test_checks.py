"""Items that cannot be used are refused, and the error names the item."""

import io
import json
import struct
import tarfile
import zlib
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from consilience.errors import BadItem, ConsilienceError, InvalidRequest, TooLarge, UnreadableFile, UnsupportedDtype
from consilience.formats.items.files import open_items
from consilience.formats.items.item import Item, ItemLimits
from tests.formats.items.item_files import animation, encoded_image, image_archive, jsonl, table, tarred, zipped

LIMITS = ItemLimits(
    items=10, views=3, text_bytes=100, image_bytes=50_000, image_pixels=40_000, unpacked_bytes=200_000, column_bytes=500
)


def read(path: Path, data: bytes, limits: ItemLimits = LIMITS) -> list[Item]:
    file = path / "items"
    file.write_bytes(data)
    with open_items(file, None, None, limits) as opened:
        return list(opened.read())


def archive_of(one: bytes, name: str = "p") -> bytes:
    """An archive with one item that has this image."""
    return zipped({"manifest.jsonl": jsonl([{"id": name, "image": "1.png"}]), "1.png": one})


def ids(*names: object) -> bytes:
    return jsonl([{"id": name, "text": "x"} for name in names])


def bomb(width: int, height: int) -> bytes:
    """A small PNG that unpacks to as many black pixels as its header declares."""
    row = zlib.compressobj(9)
    data = b"".join(row.compress(bytes(1 + width // 8)) for _ in range(height)) + row.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


#: Of an album's tar before the blocks at its end.
TAR_BYTES = 512 * sum(1 - -len(data) // 512 for data in image_archive().values())
ENDLESS = tarred(image_archive()).rstrip(b"\0").ljust(TAR_BYTES, b"\0")[:TAR_BYTES]
ENCRYPTED = zipped(image_archive()).replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
HUGE = b"\x7f\xff\xff\xff"

BAD = {
    "an id twice": (ids("a", "b", "a"), BadItem, "Items 0 and 2 have the same id: 'a'"),
    "an id as string and number": (ids("7", 7), BadItem, "Items 0 and 1 have the same id: '7'"),
    "an empty id": (ids("a", ""), BadItem, "The id of item 1 is 0 characters long"),
    "a long id": (ids("a" * 257), BadItem, "The id of item 0 is 257 characters long"),
    "an id with a line break": (ids("a\nb"), BadItem, "The id of item 0 is not printable"),
"an id that is a list": (ids(["a"]), BadItem, "The id of item 0 is a list"),
    "an id that is a number": (ids(1.5), BadItem, "a number that is not an integer"),
    "an id that is null in a table": (
        table({"id": ["a", None], "text": ["x", "y"]}),
        BadItem,
        "The id of item 1 is 0 characters long",
    ),
    "ids that are floats": (table({"id": [1.5], "text": ["x"]}), UnsupportedDtype, "neither strings nor integers"),
    "id and ids": (table({"id": ["a"], "ids": ["a"], "text": ["x"]}), InvalidRequest, "more than one of the columns"),
    "many ids": (ids(*(f"{number}{'x' * 240}" for number in range(4))), TooLarge, "bytes of ids"),
    "an empty text": (
        jsonl([{"id": "a", "text": "x"}, {"id": "b", "text": ""}]), BadItem, "The view `text` of item 'b' is empty",
    ),
    "a blank text": (jsonl([{"id": "a", "text": " \n\t"}]), BadItem, "The view `text` of item 'a' is empty"),
    "a missing text": (jsonl([{"id": "a", "text": "x"}, {"id": "b"}]), BadItem, "The view `text` of item 'b' is missing"),
    "a null in a table": (table({"id": ["a", "b"], "text": ["x", None]}), BadItem, "The view `text` of item 'b' is missing"),
    "a text that is a number": (jsonl([{"id": "a", "text": "x"}, {"id": "b", "text": 3}]), BadItem, "is not text"),
    "a long text": (
        jsonl([{"id": "a", "text": "ä" * 51}]), TooLarge, "The view `text` of item 'a' has 102 bytes; the limit is 100",
    ),
    "bytes that are no UTF-8 in a table": (
        table({"id": ["a"], "text": pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())}),
        UnreadableFile,
        "table cannot be read",
    ),
    "too many items": (ids(*range(11)), TooLarge, "11 items; the limit is 10"),
    "too many views": (jsonl([{"a": "x", "b": "x", "c": "x", "d": "x"}]), TooLarge, "4 views; the limit is 3"),
    "a view's name": (jsonl([{"bad name!": "x"}]), InvalidRequest, "The view name 'bad name!' is not valid"),
    "no items": (table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())}), BadItem, "no items"),
    "no JSON": (b'{"id": "a", "text": "x"}\n{"id": NaN}\n', UnreadableFile, "Line 2 is not valid JSON"),
    "a lone surrogate": (b'{"id": "a", "text": "\\ud800"}\n', UnreadableFile, "Line 1 is not valid JSON"),
    "no UTF-8": (b'{"id": "a", "text": "\xff"}\n', UnreadableFile, "Line 1 is not valid JSON"),
    "a line that is a list": (b'{"id": "a", "text": "x"}\n[1]\n', UnreadableFile, "Line 2 is not a JSON object"),
    "a huge line": (b'{"id": "a", "text": "' + b"x" * 5_000_000, TooLarge, "Line 1 has more than 4194304 bytes"),
    "a deeply nested line": (b'{"text": ' + b"[" * 100_000, UnreadableFile, "Line 1 is not valid JSON"),
    "a missing image": (
        zipped({"manifest.jsonl": jsonl([{"id": "p", "image": "2.png"}]), "1.png": encoded_image()}),
        BadItem,
        "Item 'p': the archive has no file '2.png'",
    ),
    "a path out of the archive": (
        tarred({"manifest.jsonl": jsonl([{"id": "p", "image": "../../etc/passwd"}])}),
        BadItem,
        "Item 'p': the archive has no file",
    ),
    "an absolute path": (tarred({"manifest.jsonl": jsonl([{"id": "p", "image": "/etc/passwd"}])}), BadItem, "no file"),
    "no image": (archive_of(b"GIF89a, or so"), BadItem, "The view `image` of item 'p' is not an image in a supported format"),
    "another kind of image": (archive_of(encoded_image(kind="BMP")), BadItem, "PNG, JPEG, WEBP"),
    "an empty image": (archive_of(b""), BadItem, "is not an image"),
    "a cut image": (archive_of(encoded_image(size=(90, 90), kind="JPEG")[:-200]), BadItem, r"cannot be decoded \(OSError"),
    "a damaged image": (archive_of(encoded_image()[:-20] + bytes(20)), BadItem, "The view `image` of item 'p'"),
    "an animated PNG": (archive_of(animation()), BadItem, "is an animation; an item must be a single image"),
    "an animated WebP": (archive_of(animation("WEBP")), BadItem, "is an animation; an item must be a single image"),
    "a large image": (archive_of(encoded_image(size=(201, 200))), TooLarge, "item 'p' .* 201 x 200 pixels; the limit is 40000"),
    "a bomb": (archive_of(bomb(20_000, 20_000)), TooLarge, "20000 x 20000 pixels"),
    "an image of no pixels": (archive_of(bomb(0, 5)), BadItem, "The view `image` of item 'p'"),
    "an image of 2^31 pixels a side": (
        archive_of(bomb(8, 2)[:16] + HUGE * 2 + bomb(8, 2)[24:]), BadItem, "The view `image` of item 'p'",
    ),
    "a heavy image": (archive_of(encoded_image() + bytes(60_000)), TooLarge, "The view `image` of item 'p' has 50001 bytes"),
    "one heavy image shared by many items": (
        zipped({
            "manifest.jsonl": jsonl([{"id": f"{number}", "image": "1.png"} for number in range(9)]),
            "1.png": encoded_image() + bytes(zlib.adler32(b"x") % 256 for _ in range(40_000)),
        }),
        TooLarge,
        "unpack to more than",
    ),
    "a zip bomb": (zipped({"manifest.jsonl": b" " * 10_000_000}), TooLarge, "The zip has"),
    "an encrypted zip": (ENCRYPTED, ConsilienceError, "encrypted"),
    "a zip cut off": (zipped(image_archive())[:-30], UnreadableFile, "zip"),
    "a tar cut off": (tarred(image_archive())[:3000], UnreadableFile, "tar"),
    "a tar without its end": (ENDLESS, UnreadableFile, "The tar has no end marker"),
    "a tar with a damaged header": (
        tarred(image_archive())[:1024] + b"x" * 512, UnreadableFile, "has no valid header at byte 1024",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_an_unusable_item_is_refused_by_its_id(tmp_path: Path, name: str) -> None:
    data, error, message = BAD[name]
    with pytest.raises(error, match=message):
        read(tmp_path, data)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("1.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(ConsilienceError, match=r"'1.png', which is neither a file nor a folder"):
        read(tmp_path, file.getvalue())


def test_a_tar_with_huge_attributes_is_refused_before_reading_them(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 2**20
    with pytest.raises(TooLarge, match="bytes in a name"):
        read(tmp_path, info.tobuf() + bytes(2**20) + tarred(image_archive()))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK"])
def test_images_of_every_mode_are_read(tmp_path: Path, mode: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (8, 6)).save(file, "JPEG" if mode == "CMYK" else "PNG")
    assert read(tmp_path, archive_of(file.getvalue())) == [Item("p", (file.getvalue(),))]


def test_an_image_shared_by_many_items_is_decoded_once(tmp_path: Path) -> None:
    items = [{"id": str(number), "image": "1.png", "text": "x"} for number in range(10)]
    read_items = read(tmp_path, zipped({"manifest.jsonl": jsonl(items), "1.png": encoded_image()}))
    assert {item.values[0] for item in read_items} == {encoded_image()}


def test_the_images_of_a_file_have_a_limit_of_total_pixels(tmp_path: Path) -> None:
    """Each image is small enough, and so is the file, but decoding all of them would take long."""
    bombs = {f"{number}.png": bomb(8 * (990 + number), 990) for number in range(10)}
    data = zipped({"manifest.jsonl": jsonl([{"id": name, "image": name} for name in bombs]), **bombs})
    with pytest.raises(
        TooLarge, match=r"The view `image` of item '\d.png' brings the images of the file to \d+ pixels; the limit is"
    ):
        read(tmp_path, data, ItemLimits(image_pixels=8_000_000))


def test_a_huge_number_is_not_a_valid_id(tmp_path: Path) -> None:
    text = json.dumps({"text": "x"})[:-1] + ', "id": 1' + "0" * 5000 + "}"
    with pytest.raises(ConsilienceError):
        read(tmp_path, text.encode())
