"""Reading of items from valid files of every format, chosen by the media type or by the bytes."""

import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from consilience.contract.datasets import ViewKind
from consilience.errors import InvalidRequest, UnreadableFile, UnsupportedFormat
from consilience.formats.items.files import MEDIA_TYPES, open_items
from consilience.formats.items.item import Item
from tests.formats.items.item_files import ITEMS, encoded_image, image_archive, jsonl, table, tarred, zipped

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
def test_strings_are_views_with_the_kinds_that_their_names_imply(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path, data) == ({"text": "text", "code": "code"}, WANTED)


def test_the_user_can_choose_views_and_their_kinds(tmp_path: Path) -> None:
    views, items = read(tmp_path, jsonl(ITEMS), "application/jsonl", {"text": "code"})
    assert views == {"text": "code"}
    assert items[0] == Item("a", (b"a red square",))


@pytest.mark.parametrize("data", [jsonl([{"text": "x"}, {"text": "y"}]), table({"text": ["x", "y"]})])
def test_items_without_ids_are_numbered(tmp_path: Path, data: bytes) -> None:
    assert [item.id for item in read(tmp_path, data)[1]] == ["0", "1"]


@pytest.mark.parametrize("data", [jsonl([{"id": 7, "text": "x"}]), table({"ids": [7], "text": ["x"]})])
def test_an_integer_can_be_an_id(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path, data)[1] == [Item("7", (b"x",))]


def test_a_field_that_is_not_a_string_is_not_a_view(tmp_path: Path) -> None:
    assert read(tmp_path, jsonl([{"text": "x", "label": 3, "tags": ["y"]}]))[0] == {"text": "text"}
    assert read(tmp_path, table({"text": ["x"], "label": [3], "tags": [["y"]]}))[0] == {"text": "text"}


def test_blank_lines_and_a_byte_order_mark_are_ignored(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbf" + jsonl(ITEMS).replace(b"\n", b"\r\n\r\n"))[1] == WANTED


@pytest.mark.parametrize(
    "data",
    [
        zipped(image_archive()),
        tarred(image_archive()),
        tarred(image_archive(), tarfile.GNU_FORMAT),
        tarred(image_archive(), tarfile.USTAR_FORMAT),
    ],
    ids=["zip", "pax", "gnu", "ustar"],
)
def test_an_archive_has_the_images_that_its_manifest_names(tmp_path: Path, data: bytes) -> None:
    views, items = read(tmp_path, data)
    files = image_archive()
    assert views == {"image": "image", "text": "text"}
    assert items == [
        Item("p0", (files["pictures/1.png"], b"Picture 0")),
        Item("p1", (files["pictures/2.jpg"], b"Picture 1")),
        Item("p2", (files["pictures/3.webp"], b"Picture 2")),
    ]


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_packed_image_folder_with_its_manifest_is_read(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    name = "deep/" * 40 + "set"
    files = {f"{name}/metadata.jsonl": jsonl([{"file_name": "1.png", "text": "x"}]), f"{name}/1.png": encoded_image()}
    assert read(tmp_path, pack(files)) == ({"image": "image", "text": "text"}, [Item("0", (encoded_image(), b"x"))])


def test_images_in_a_table_are_bytes_or_structs_of_bytes_and_path(tmp_path: Path) -> None:
    pictures = [encoded_image("red"), encoded_image("blue")]
    shapes = pa.array(pictures, pa.binary()), pa.array([{"bytes": one, "path": "x.png"} for one in pictures])
    for shape in shapes:
        views, items = read(tmp_path, table({"id": ["a", "b"], "photo": shape}))
        assert views == {"photo": "image"}
        assert items == [Item("a", (pictures[0],)), Item("b", (pictures[1],))]


def test_many_rows_of_a_table_keep_their_order(tmp_path: Path) -> None:
    texts = [f"text {number} " * (number % 50 + 1) for number in range(3000)]
    items = read(tmp_path, table({"text": texts}))[1]
    assert [item.values[0].decode() for item in items] == texts


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", UnreadableFile, "empty"),
        (b"hello", UnsupportedFormat, "JSON lines, Parquet, zip, tar"),
        (b"[1, 2]", UnsupportedFormat, "JSON lines, Parquet, zip, tar"),
        (jsonl([{"id": "a", "n": 3}]), UnsupportedFormat, "no view"),
        (table({"id": ["a"]}), UnsupportedFormat, "no view"),
        (zipped({"1.png": encoded_image()}), UnsupportedFormat, "no manifest"),
        (tarred(image_archive({"other/manifest.jsonl": b"{}"})), UnsupportedFormat, "2 manifests"),
        (jsonl([{"id": "a", "image": "1.png"}]), InvalidRequest, "JSON lines cannot contain images"),
    ],
)
def test_a_file_that_is_not_a_dataset_is_refused(
    tmp_path: Path, data: bytes, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read(tmp_path, data)


@pytest.mark.parametrize("data", [jsonl(ITEMS), table(TEXTS), zipped(image_archive())])
def test_an_unknown_view_is_refused_with_the_existing_ones(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"has no view 'photo'; its views are: .*text"):
        read(tmp_path, data, None, {"photo": "image"})


def test_another_media_type_is_refused_with_the_supported_ones(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat) as caught:
        read(tmp_path, b"a,b", "text/csv")
    assert caught.value.limit == [*MEDIA_TYPES, "application/octet-stream"]
