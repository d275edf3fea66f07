"""Readers of items in a zip or tar archive: images and a manifest that lists the items.

Archives are never unpacked to the disk. A zip's directory has a bounded size, and no file unpacks to more than it declares.
A tar is uncompressed and its headers are parsed here, because Python's tarfile reads into memory whatever a header claims;
links, devices and sparse files are refused by name.
"""

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

#: Hugging Face's image folders use the second name, with the column `file_name`.
MANIFESTS = ("manifest.jsonl", "metadata.jsonl")
FILE_NAME = "file_name"


class Archive(Protocol):
    """A file that contains files."""

    def names(self) -> Iterator[str]:
        """Iterate over the paths of the files."""

    def has(self, name: str) -> bool:
        """Return True if the archive contains the file."""

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's bytes, or the first `limit` of them."""

    def lines(self, name: str) -> AbstractContextManager[Lines]:
        """Open a file to read it line by line."""


OpenArchive = Callable[[Path, ItemLimits], AbstractContextManager[Archive]]


@contextmanager
def open_archive(opener: OpenArchive, path: Path, choice: ViewChoice, limits: ItemLimits) -> Iterator[RawItems]:
    """Open the items that the manifest lists, as JSON lines whose image views are paths relative to the manifest.

    Raises UnreadableFile, UnsupportedFormat (no manifest, no view), InvalidRequest (a view that does not exist), TooLarge;
    reading raises BadItem for an image that is not in the archive.
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
            f"The archive has {len(found) or 'no'} manifest{'s' if found else ''}; it needs exactly one.",
            value=", ".join(found[:5]),
            limit=list(MANIFESTS),
            hint='Add a manifest.jsonl with one line per item: {"id": "first", "image": "images/1.png", "text": "..."}.',
        )
    return found[0]


def _renamed(item: dict[str, Any]) -> dict[str, Any]:
    if FILE_NAME in item and "image" not in item:
        return {"image" if name == FILE_NAME else name: value for name, value in item.items()}
    return item


def _load(  # noqa: PLR0917 - the archive's state, then the item
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
                    hint="Write the path of the image relative to the manifest's folder.",
                    pointer=f"/{index}/{view.name}",
                )
            value = archive.read(name, limits.image_bytes + 1)
        values.append(value)
    return RawItem(find_id(item), tuple(values))


BLOCK = 512
#: Magic bytes of a tar in both of its variants, and their position.
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257
#: Largest size of a long name, or of a file's attributes.
NAME_LIMIT_BYTES = 65_536
#: Number of files beyond the images, including attributes.
TAR_EXTRA_FILES_MAX = 10_000
_FILES = (b"0", b"\0", b"7")
_FOLDER, _LONG_NAME, _ATTRIBUTES, _SHARED_ATTRIBUTES = b"5", b"L", b"x", b"g"


@dataclass(frozen=True)
class FileRange:
    """Position and size of a file in the archive."""

    start: int
    size: int


class _RangeReader(io.RawIOBase):
    """A range of a file as a file."""

    def __init__(self, descriptor: int, part: FileRange) -> None:
        super().__init__()
        self._descriptor, self._at, self._end = descriptor, part.start, part.start + part.size

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: object) -> int:
        """Read the next bytes into the buffer."""
        view = memoryview(buffer)[: self._end - self._at]  # type: ignore[arg-type] # io gives a buffer, by its contract
        count = os.preadv(self._descriptor, [view], self._at) if view else 0
        self._at += count
        return count


class TarArchive:
    """Files of a tar archive."""

    def __init__(self, descriptor: int, ranges: dict[str, FileRange]) -> None:
        self._descriptor, self._ranges = descriptor, ranges

    def names(self) -> Iterator[str]:
        """See `Archive`."""
        return iter(self._ranges)

    def has(self, name: str) -> bool:
        """See `Archive`."""
        return name in self._ranges

    def read(self, name: str, limit: int) -> bytes:
        """See `Archive`."""
        part = self._ranges[name]
        return os.pread(self._descriptor, min(part.size, limit), part.start)

    @contextmanager
    def lines(self, name: str) -> Iterator[Lines]:
        """See `Archive`."""
        with io.BufferedReader(_RangeReader(self._descriptor, self._ranges[name])) as stream:
            yield cast("Lines", stream)


@contextmanager
def open_tar(path: Path, limits: ItemLimits) -> Iterator[TarArchive]:
    """Open a tar. Raises UnreadableFile, UnsupportedFormat (links, devices), TooLarge (too many files)."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        ranges: dict[str, FileRange] = {}
        for name, part in _read_headers(file.fileno(), size, limits.items * limits.views + TAR_EXTRA_FILES_MAX):
            if name in ranges:
                raise UnreadableFile(
                    f"Two files of the tar have the same name: {name[:100]!a}.",
                    value=ascii(name),
                    hint="Give each file a name of its own.",
                )
            ranges[name] = part
        yield TarArchive(file.fileno(), ranges)


def _read_headers(descriptor: int, size: int, most: int) -> Iterator[tuple[str, FileRange]]:
    at, count, long_name = 0, 0, None
    while (header := os.pread(descriptor, BLOCK, at)).strip(b"\0"):
        count += 1
        check_limit("files", count, most)
        _check_header(header, at)
        part, kind = FileRange(at + BLOCK, _number(header[124:136], at)), header[156:157]
        if part.start + part.size > size:
            raise UnreadableFile(
                f"The tar ends inside the file {_name(header)!a}.",
                value=_name(header),
                hint="The tar is truncated: send it again.",
            )
        at = part.start + -(-part.size // BLOCK) * BLOCK
        if kind == _LONG_NAME:
            long_name = _decode(_read_small(descriptor, part).rstrip(b"\0"))
        elif kind == _ATTRIBUTES:
            long_name = _read_attributes(_read_small(descriptor, part)).get("path", long_name)
        elif kind in _FILES:
            yield (long_name or _name(header)).removeprefix("./"), part
            long_name = None
        elif kind == _FOLDER:
            long_name = None
        elif kind != _SHARED_ATTRIBUTES:
            raise UnsupportedFormat(
                f"The tar contains {_name(header)!a}, which is neither a file nor a folder.",
                value=f"type {kind!r}",
                hint="Links and devices are not supported: pack with `tar --dereference --hard-dereference`.",
            )
    if not header:
        raise UnreadableFile(
            "The tar has no end marker.", value=f"{size} bytes", hint="The tar is truncated: send it again."
        )


def _check_header(header: bytes, at: int) -> None:
    """Check the magic bytes and the checksum: the sum of all bytes, with the checksum's own counted as spaces."""
    if len(header) == BLOCK:
        total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
        if header[TAR_MAGIC_AT : TAR_MAGIC_AT + len(TAR_MAGIC)] == TAR_MAGIC and total == _number(header[148:156], at):
            return
    raise UnreadableFile(f"The tar has no valid header at byte {at}.", hint="The tar is damaged: send it again.")


def _number(digits: bytes, at: int) -> int:
    """Parse an octal number; the binary form is only for files over 8 GB, which exceed the limits."""
    try:
        value = int(digits.strip(b"\0 ") or b"0", 8)
    except ValueError:
        value = -1
    if value < 0:
        raise UnreadableFile(
            f"The header at byte {at} of the tar has an invalid number.",
            value=digits,
            hint="The tar is damaged: send it again.",
        )
    return value


def _name(header: bytes) -> str:
    name, prefix = header[:100].split(b"\0")[0], header[345:500].split(b"\0")[0]
    is_posix = header[TAR_MAGIC_AT : TAR_MAGIC_AT + 6] == b"ustar\0"
    return _decode(prefix + b"/" + name if prefix and is_posix else name)


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _read_small(descriptor: int, part: FileRange) -> bytes:
    check_limit("bytes in a name", part.size, NAME_LIMIT_BYTES)
    return os.pread(descriptor, part.size, part.start)


def _read_attributes(data: bytes) -> dict[str, str]:
    """Parse attribute records of length, key and value; refuse a size or a sparse map, which would override the header."""
    found: dict[str, str] = {}
    while data:
        length, _, rest = data.partition(b" ")
        size = int(length) if length.isdigit() and len(length) < 6 else 0
        record = data[len(length) + 1 : size]
        key, equals, value = record.partition(b"=")
        if not rest or not equals or not value.endswith(b"\n"):
            raise UnreadableFile(
                "The tar has a file with invalid attributes.",
                value=data[:50],
                hint="The tar is damaged: send it again.",
            )
        found[_decode(key)] = _decode(value[:-1])
        data = data[size:]
    if "size" in found or any(key.startswith("GNU.sparse") for key in found):
        raise UnsupportedFormat(
            "The tar contains a sparse file, or a file over 8 GB.",
            value=found.get("path"),
            hint="Pack the files without --sparse, and leave out files over 8 GB.",
        )
    return found


ZIP_MAGIC = b"PK\x03\x04"
#: Largest zip directory; it needs some hundred bytes per file, and ten times as many in memory.
DIRECTORY_LIMIT_BYTES = 16 * 2**20
PIECE_BYTES = 2**20
#: Number of files beyond the images.
ZIP_EXTRA_FILES_MAX = 1000
_ENCRYPTED = 0x1


class ZipArchive:
    """Files of a zip archive."""

    def __init__(self, archive: ZipFile) -> None:
        self._archive = archive
        self._members: dict[str, ZipInfo] = {info.filename: info for info in archive.infolist() if not info.is_dir()}

    def names(self) -> Iterator[str]:
        """See `Archive`."""
        return iter(self._members)

    def has(self, name: str) -> bool:
        """See `Archive`."""
        return name in self._members

    def read(self, name: str, limit: int) -> bytes:
        """See `Archive`."""
        with zip_errors(f"The file {name!a}"), self._archive.open(self._members[name]) as stream:
            return b"".join(_pieces(stream, limit))

    @contextmanager
    def lines(self, name: str) -> Iterator[Lines]:
        """See `Archive`."""
        with zip_errors(f"The file {name!a}"), self._archive.open(self._members[name]) as stream:
            yield cast("Lines", stream)


def _pieces(stream: IO[bytes], limit: int) -> Iterator[bytes]:
    while limit > 0 and (piece := stream.read(min(PIECE_BYTES, limit))):
        limit -= len(piece)
        yield piece


@contextmanager
def open_zip(path: Path, limits: ItemLimits) -> Iterator[ZipArchive]:
    """Open a zip. Raises UnreadableFile, UnsupportedFormat (encrypted, a compression other than deflate), TooLarge."""
    with BoundedFile(path, DIRECTORY_LIMIT_BYTES) as file:
        with zip_errors("The zip directory of the file"):
            archive = ZipFile(file)
        with archive:
            _check(archive.infolist(), path.stat().st_size, limits)
            yield ZipArchive(archive)


def _check(members: list[ZipInfo], packed: int, limits: ItemLimits) -> None:
    check_limit("files", len(members), limits.items * limits.views + ZIP_EXTRA_FILES_MAX)
    names = {member.filename for member in members}
    if len(names) < len(members):
        raise UnreadableFile("Two files of the zip have the same name.", hint="Give each file a name of its own.")
    for member in members:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & _ENCRYPTED:
            raise UnsupportedFormat(
                f"The file {member.filename[:100]!a} of the zip is encrypted, or neither stored nor deflated.",
                value=ascii(member.filename),
                hint="Write the zip without encryption, with `zip` or Python's zipfile.",
            )
    total = sum(member.file_size for member in members)
    allowed = unpacked_limit(packed, FormatLimits(unpacked_bytes=limits.unpacked_bytes))
    if total > allowed:
        raise TooLarge(
            f"The zip has {packed} bytes and unpacks to {total} bytes; "
            f"the limits are {RATIO_LIMIT} times its size and {limits.unpacked_bytes} bytes.",
            value=total,
            limit=allowed,
            hint="Store the images in the zip without compression: they are compressed already.",
        )
