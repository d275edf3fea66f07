"""Sound files of every format give their items; the format is told by the media type or by the bytes."""

import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from consilience.contract.datasets import ViewKind
from consilience.errors import InvalidRequest, UnreadableFile, UnsupportedFormat
from consilience.formats.items.files import MEDIA_TYPES, open_items
from consilience.formats.items.item import Item
from tests.formats.items.item_files import ITEMS, album, jsonl, picture, table, tarred, zipped

TEXTS = {name: [item[name] for item in ITEMS] for name in ("id", "text", "code")}
WANTED = [Item(item["id"], (item["text"].encode(), item["code"].encode())) for item in ITEMS]


def read(
    path: Path, data: bytes, media_type: str | None = None, choice: dict[str, ViewKind] | None = None
) -> tuple[dict[str, str], list[Item]]:
    """The views and the items."""
    file = path / "items"
    file.write_bytes(data)
    with open_items(file, media_type, choice) as opened:
        return {view.name: view.kind for view in opened.views}, list(opened.read())


@pytest.mark.parametrize("data", [jsonl(ITEMS), table(TEXTS)], ids=["jsonl", "parquet"])
def test_strings_are_views_whose_names_say_what_they_are(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path, data) == ({"text": "text", "code": "code"}, WANTED)


def test_the_user_may_say_which_views_there_are_and_what_they_hold(tmp_path: Path) -> None:
    views, items = read(tmp_path, jsonl(ITEMS), "application/jsonl", {"text": "code"})
    assert views == {"text": "code"}
    assert items[0] == Item("a", (b"a red square",))


@pytest.mark.parametrize("data", [jsonl([{"text": "x"}, {"text": "y"}]), table({"text": ["x", "y"]})])
def test_items_without_ids_are_numbered(tmp_path: Path, data: bytes) -> None:
    assert [item.id for item in read(tmp_path, data)[1]] == ["0", "1"]


@pytest.mark.parametrize("data", [jsonl([{"id": 7, "text": "x"}]), table({"ids": [7], "text": ["x"]})])
def test_an_integer_is_an_id_too(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path, data)[1] == [Item("7", (b"x",))]


def test_what_is_no_string_is_no_view(tmp_path: Path) -> None:
    assert read(tmp_path, jsonl([{"text": "x", "label": 3, "tags": ["y"]}]))[0] == {"text": "text"}
    assert read(tmp_path, table({"text": ["x"], "label": [3], "tags": [["y"]]}))[0] == {"text": "text"}


def test_blank_lines_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbf" + jsonl(ITEMS).replace(b"\n", b"\r\n\r\n"))[1] == WANTED


@pytest.mark.parametrize(
    "data",
    [zipped(album()), tarred(album()), tarred(album(), tarfile.GNU_FORMAT), tarred(album(), tarfile.USTAR_FORMAT)],
    ids=["zip", "pax", "gnu", "ustar"],
)
def test_an_archive_gives_the_pictures_that_its_manifest_names(tmp_path: Path, data: bytes) -> None:
    views, items = read(tmp_path, data)
    files = album()
    assert views == {"image": "image", "text": "text"}
    assert items == [
        Item("p0", (files["pictures/1.png"], b"Picture 0")),
        Item("p1", (files["pictures/2.jpg"], b"Picture 1")),
        Item("p2", (files["pictures/3.webp"], b"Picture 2")),
    ]


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_packed_folder_and_the_manifest_of_an_image_folder_are_read(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    name = "deep/" * 40 + "set"
    files = {f"{name}/metadata.jsonl": jsonl([{"file_name": "1.png", "text": "x"}]), f"{name}/1.png": picture()}
    assert read(tmp_path, pack(files)) == ({"image": "image", "text": "text"}, [Item("0", (picture(), b"x"))])


def test_pictures_in_a_table_are_bytes_or_have_their_path_beside_them(tmp_path: Path) -> None:
    pictures = [picture("red"), picture("blue")]
    shapes = pa.array(pictures, pa.binary()), pa.array([{"bytes": one, "path": "x.png"} for one in pictures])
    for shape in shapes:
        views, items = read(tmp_path, table({"id": ["a", "b"], "photo": shape}))
        assert views == {"photo": "image"}
        assert items == [Item("a", (pictures[0],)), Item("b", (pictures[1],))]


def test_many_rows_come_in_order_out_of_a_table(tmp_path: Path) -> None:
    texts = [f"text {number} " * (number % 50 + 1) for number in range(3000)]
    items = read(tmp_path, table({"text": texts}))[1]
    assert [item.values[0].decode() for item in items] == texts


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (b"", UnreadableFile, "empty"),
        (b"hello", UnsupportedFormat, "JSON lines, Parquet, zip, tar"),
        (b"[1, 2]", UnsupportedFormat, "JSON lines, Parquet, zip, tar"),
        (jsonl([{"id": "a", "n": 3}]), UnsupportedFormat, "no view"),
        (table({"id": ["a"]}), UnsupportedFormat, "no view"),
        (zipped({"1.png": picture()}), UnsupportedFormat, "no manifest"),
        (tarred(album({"other/manifest.jsonl": b"{}"})), UnsupportedFormat, "2 manifests"),
        (jsonl([{"id": "a", "image": "1.png"}]), InvalidRequest, "JSON holds none"),
    ],
)
def test_what_is_no_dataset_is_refused(tmp_path: Path, data: bytes, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        read(tmp_path, data)


@pytest.mark.parametrize("data", [jsonl(ITEMS), table(TEXTS), zipped(album())])
def test_a_view_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"has no 'picture'; it has: .*text"):
        read(tmp_path, data, None, {"picture": "image"})


def test_another_media_type_is_refused_with_those_that_are_read(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat) as caught:
        read(tmp_path, b"a,b", "text/csv")
    assert caught.value.limit == [*MEDIA_TYPES, "application/octet-stream"]
