"""Pictures in a zip or a tar, and a manifest that says which item each is. Nothing is ever unpacked to the disk."""

import io
import os
import posixpath
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, cast
from zipfile import ZipFile, ZipInfo

from consilience.errors import BadItem, TooLarge, UnreadableFile, UnsupportedFormat
from consilience.formats.checks import RATIO_LIMIT, check_limit, unpacked_limit
from consilience.formats.items.item import ItemLimits, RawItem, RawItems, ViewChoice, ViewHeader, choose_views
from consilience.formats.items.lines import Lines, find_id, find_views, read_objects
from consilience.formats.numpy_files import BoundedFile, zip_errors
from consilience.formats.open_file import FormatLimits

#: The second one, with the column `file_name`, is how Hugging Face's image folders have it.
MANIFESTS = ("manifest.jsonl", "metadata.jsonl")
FILE_NAME = "file_name"


class Archive(Protocol):
    """A file of files."""

    def names(self) -> Iterator[str]:
        """The paths of its files."""

    def has(self, name: str) -> bool:
        """Whether it has this one."""

    def read(self, name: str, limit: int) -> bytes:
        """A file's bytes, or the first `limit` of them."""

    def lines(self, name: str) -> AbstractContextManager[Lines]:
        """A file to be read line by line."""


OpenArchive = Callable[[Path, ItemLimits], AbstractContextManager[Archive]]


@contextmanager
def open_archive(opener: OpenArchive, path: Path, choice: ViewChoice, limits: ItemLimits) -> Iterator[RawItems]:
    """The items that the manifest lists: as JSON lines, but that a view of pictures names files beside the manifest.

    Raises UnreadableFile, UnsupportedFormat (no manifest, no view), InvalidRequest (a view that is not there), TooLarge;
    reading raises BadItem for a picture that is not in the archive.
    """
    with opener(path, limits) as archive:
        manifest = _find_manifest(archive)
        with archive.lines(manifest) as lines:
            first = next(map(_renamed, read_objects(lines)), {})
        views = choose_views(find_views(first), choice, limits)

        def read() -> Iterator[RawItem]:
            with archive.lines(manifest) as lines:
                for index, item in enumerate(map(_renamed, read_objects(lines))):
                    yield _load(archive, posixpath.dirname(manifest), views, index, item, limits)

        yield RawItems(views, read, path.stat().st_size)


def _find_manifest(archive: Archive) -> str:
    found = [name for name in archive.names() if posixpath.basename(name) in MANIFESTS]
    if len(found) != 1:
        raise UnsupportedFormat(
            f"The archive has {len(found) or 'no'} manifest{'s' if found else ''}.",
            value=", ".join(found[:5]),
            limit=list(MANIFESTS),
            hint='One manifest.jsonl, a line for each item: {"id": "first", "image": "pictures/1.png", "text": "..."}.',
        )
    return found[0]


def _renamed(item: dict[str, Any]) -> dict[str, Any]:
    if FILE_NAME in item and "image" not in item:
        return {"image" if name == FILE_NAME else name: value for name, value in item.items()}
    return item


def _load(  # noqa: PLR0917 - where it lies, then what it is
    archive: Archive, folder: str, views: tuple[ViewHeader, ...], index: int, item: dict[str, Any], limits: ItemLimits
) -> RawItem:
    values: list[object] = []
    for view in views:
        value = item.get(view.name)
        if view.kind == "image" and isinstance(value, str):
            name = posixpath.normpath(posixpath.join(folder, value))
            if not archive.has(name):
                raise BadItem(
                    f"Item {find_id(item) or index!r}: the archive has no file {value!r}.",
                    value=value,
                    hint="A picture is named by its path from the manifest's folder.",
                    pointer=f"/{index}/{view.name}",
                )
            value = archive.read(name, limits.image_bytes + 1)
        values.append(value)
    return RawItem(find_id(item), tuple(values))


BLOCK = 512
#: Where the mark of a tar stands, and how it begins in both dialects.
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257
#: Bytes of a long name, or of a file's attributes.
NAME_LIMIT_BYTES = 65_536
#: Files beside the pictures, attributes counted too.
TAR_EXTRA_FILES_MAX = 10_000
_FILES = (b"0", b"\0", b"7")
_FOLDER, _LONG_NAME, _ATTRIBUTES, _SHARED_ATTRIBUTES = b"5", b"L", b"x", b"g"


@dataclass(frozen=True)
class FileRange:
    """Where a file's bytes lie."""

    start: int
    size: int


class _RangeReader(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, descriptor: int, place: FileRange) -> None:
        super().__init__()
        self._descriptor, self._at, self._end = descriptor, place.start, place.start + place.size

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: object) -> int:
        """The next bytes."""
        view = memoryview(buffer)[: self._end - self._at]  # type: ignore[arg-type] # io gives a buffer, by its contract
        count = os.preadv(self._descriptor, [view], self._at) if view else 0
        self._at += count
        return count


class TarArchive:
    """The files of a tar."""

    def __init__(self, descriptor: int, places: dict[str, FileRange]) -> None:
        self._descriptor, self._places = descriptor, places

    def names(self) -> Iterator[str]:
        """As Archive."""
        return iter(self._places)

    def has(self, name: str) -> bool:
        """As Archive."""
        return name in self._places

    def read(self, name: str, limit: int) -> bytes:
        """As Archive."""
        place = self._places[name]
        return os.pread(self._descriptor, min(place.size, limit), place.start)

    @contextmanager
    def lines(self, name: str) -> Iterator[Lines]:
        """As Archive."""
        with io.BufferedReader(_RangeReader(self._descriptor, self._places[name])) as stream:
            yield cast("Lines", stream)


@contextmanager
def open_tar(path: Path, limits: ItemLimits) -> Iterator[TarArchive]:
    """Raises UnreadableFile, UnsupportedFormat (anything but files and folders), TooLarge (too many files)."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        places: dict[str, FileRange] = {}
        for name, place in _read_headers(file.fileno(), size, limits.items * limits.views + TAR_EXTRA_FILES_MAX):
            if name in places:
                raise UnreadableFile(
                    "Two files of the tar have the same name.", value=ascii(name), hint="Write it again."
                )
            places[name] = place
        yield TarArchive(file.fileno(), places)


def _read_headers(descriptor: int, size: int, most: int) -> Iterator[tuple[str, FileRange]]:
    at, count, long_name = 0, 0, None
    while (header := os.pread(descriptor, BLOCK, at)).strip(b"\0"):
        count += 1
        check_limit("files", count, most)
        _check_header(header, at)
        place, kind = FileRange(at + BLOCK, _number(header[124:136], at)), header[156:157]
        if place.start + place.size > size:
            raise UnreadableFile(
                "The tar ends inside of a file.", value=_name(header), hint="It was cut off: send it again."
            )
        at = place.start + -(-place.size // BLOCK) * BLOCK
        if kind == _LONG_NAME:
            long_name = _decode(_read_small(descriptor, place).rstrip(b"\0"))
        elif kind == _ATTRIBUTES:
            long_name = _read_attributes(_read_small(descriptor, place)).get("path", long_name)
        elif kind in _FILES:
            yield (long_name or _name(header)).removeprefix("./"), place
            long_name = None
        elif kind == _FOLDER:
            long_name = None
        elif kind != _SHARED_ATTRIBUTES:
            raise UnsupportedFormat(
                f"The tar holds {_name(header)!a}, which is neither a file nor a folder.",
                value=f"type {kind!r}",
                hint="Links and devices are not read: pack with `tar --dereference --hard-dereference`.",
            )
    if not header:
        raise UnreadableFile("The tar has no end.", value=f"{size} bytes", hint="It was cut off: send it again.")


def _check_header(header: bytes, at: int) -> None:
    """The sum of all bytes, its own counted as spaces, as every tar has it."""
    if len(header) == BLOCK:
        total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
        if header[TAR_MAGIC_AT : TAR_MAGIC_AT + len(TAR_MAGIC)] == TAR_MAGIC and total == _number(header[148:156], at):
            return
    raise UnreadableFile(
        f"At byte {at} of the tar should be a header and is none.", hint="It is damaged: send it again."
    )


def _number(digits: bytes, at: int) -> int:
    """Octal; the other way of writing it is for files over 8 GB, which nobody may send."""
    try:
        value = int(digits.strip(b"\0 ") or b"0", 8)
    except ValueError:
        value = -1
    if value < 0:
        raise UnreadableFile(f"The header at byte {at} of the tar has no size.", value=digits)
    return value


def _name(header: bytes) -> str:
    name, prefix = header[:100].split(b"\0")[0], header[345:500].split(b"\0")[0]
    is_posix = header[TAR_MAGIC_AT : TAR_MAGIC_AT + 6] == b"ustar\0"
    return _decode(prefix + b"/" + name if prefix and is_posix else name)


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _read_small(descriptor: int, place: FileRange) -> bytes:
    check_limit("bytes in a name", place.size, NAME_LIMIT_BYTES)
    return os.pread(descriptor, place.size, place.start)


def _read_attributes(data: bytes) -> dict[str, str]:
    """Records of a length, a key and a value; a size of its own or a sparse map would make the header's meaning another."""
    found: dict[str, str] = {}
    while data:
        length, _, rest = data.partition(b" ")
        size = int(length) if length.isdigit() and len(length) < 6 else 0
        record = data[len(length) + 1 : size]
        key, equals, value = record.partition(b"=")
        if not rest or not equals or not value.endswith(b"\n"):
            raise UnreadableFile("A file's attributes in the tar cannot be read.", value=data[:50])
        found[_decode(key)] = _decode(value[:-1])
        data = data[size:]
    if "size" in found or any(key.startswith("GNU.sparse") for key in found):
        raise UnsupportedFormat("The tar holds a sparse file, or one of over 8 GB.", value=found.get("path"))
    return found


ZIP_MAGIC = b"PK\x03\x04"
#: Bytes of the directory, some hundred a file: it is read into memory, where it has ten times as many.
DIRECTORY_LIMIT_BYTES = 16 * 2**20
PIECE_BYTES = 2**20
#: Files beside the pictures.
ZIP_EXTRA_FILES_MAX = 1000
_ENCRYPTED = 0x1


class ZipArchive:
    """The files of a zip."""

    def __init__(self, archive: ZipFile) -> None:
        self._archive = archive
        self._members: dict[str, ZipInfo] = {info.filename: info for info in archive.infolist() if not info.is_dir()}

    def names(self) -> Iterator[str]:
        """As Archive."""
        return iter(self._members)

    def has(self, name: str) -> bool:
        """As Archive."""
        return name in self._members

    def read(self, name: str, limit: int) -> bytes:
        """As Archive."""
        with zip_errors(f"The file {name!a}"), self._archive.open(self._members[name]) as stream:
            return b"".join(_pieces(stream, limit))

    @contextmanager
    def lines(self, name: str) -> Iterator[Lines]:
        """As Archive."""
        with zip_errors(f"The file {name!a}"), self._archive.open(self._members[name]) as stream:
            yield cast("Lines", stream)


def _pieces(stream: IO[bytes], limit: int) -> Iterator[bytes]:
    while limit > 0 and (piece := stream.read(min(PIECE_BYTES, limit))):
        limit -= len(piece)
        yield piece


@contextmanager
def open_zip(path: Path, limits: ItemLimits) -> Iterator[ZipArchive]:
    """Raises UnreadableFile, UnsupportedFormat (encrypted, another compression than deflate), TooLarge."""
    with BoundedFile(path, DIRECTORY_LIMIT_BYTES) as file:
        with zip_errors("The zip's directory"):
            archive = ZipFile(file)
        with archive:
            _check(archive.infolist(), path.stat().st_size, limits)
            yield ZipArchive(archive)


def _check(members: list[ZipInfo], packed: int, limits: ItemLimits) -> None:
    check_limit("files", len(members), limits.items * limits.views + ZIP_EXTRA_FILES_MAX)
    names = {member.filename for member in members}
    if len(names) < len(members):
        raise UnreadableFile("Two files of the zip have the same name.", hint="Write it again.")
    for member in members:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & _ENCRYPTED:
            raise UnsupportedFormat(
                f"The file {member.filename!a} is encrypted, or neither stored nor deflated.",
                value=ascii(member.filename),
            )
    total = sum(member.file_size for member in members)
    allowed = unpacked_limit(packed, FormatLimits(unpacked_bytes=limits.unpacked_bytes))
    if total > allowed:
        raise TooLarge(
            f"The zip has {packed} bytes and unpacks to {total}; "
            f"the limits are {RATIO_LIMIT} times its size and {limits.unpacked_bytes} bytes.",
            value=total,
            limit=allowed,
            hint="Pictures are compressed as they are: store them.",
        )
