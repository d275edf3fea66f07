"""Tar archives, uncompressed: files alone, found by their headers, never unpacked to the disk.

Python's own reader takes whatever a header claims into memory; so headers are read here, and nothing but files is known:
a link, a device or a sparse file is refused by its name.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from consilience.errors import UnreadableFile, UnsupportedFormat
from consilience.formats.gate import check_limit
from consilience.formats.items.item import ItemLimits
from consilience.formats.items.lines import Lines

BLOCK = 512
#: Where the mark of a tar stands, and how it begins in both dialects.
MAGIC, MAGIC_AT = b"ustar", 257
#: Bytes of a long name, or of a file's attributes.
NAME_LIMIT_BYTES = 65_536
#: Files beside the pictures, attributes counted too.
OTHERS_MAX = 10_000
_FILES = (b"0", b"\0", b"7")
_FOLDER, _LONG_NAME, _ATTRIBUTES, _SHARED_ATTRIBUTES = b"5", b"L", b"x", b"g"


@dataclass(frozen=True)
class Place:
    """Where a file's bytes lie."""

    start: int
    size: int


class _Window(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, descriptor: int, place: Place) -> None:
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

    def __init__(self, descriptor: int, places: dict[str, Place]) -> None:
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
        with io.BufferedReader(_Window(self._descriptor, self._places[name])) as stream:
            yield cast("Lines", stream)


@contextmanager
def open_tar(path: Path, limits: ItemLimits) -> Iterator[TarArchive]:
    """Raises UnreadableFile, UnsupportedFormat (anything but files and folders), TooLarge (too many files)."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        places: dict[str, Place] = {}
        for name, place in _read_headers(file.fileno(), size, limits.items * limits.views + OTHERS_MAX):
            if name in places:
                raise UnreadableFile(
                    "Two files of the tar have the same name.", value=ascii(name), hint="Write it again."
                )
            places[name] = place
        yield TarArchive(file.fileno(), places)


def _read_headers(descriptor: int, size: int, most: int) -> Iterator[tuple[str, Place]]:
    at, count, long_name = 0, 0, None
    while (header := os.pread(descriptor, BLOCK, at)).strip(b"\0"):
        count += 1
        check_limit("files", count, most)
        _check_header(header, at)
        place, kind = Place(at + BLOCK, _number(header[124:136], at)), header[156:157]
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
        if header[MAGIC_AT : MAGIC_AT + len(MAGIC)] == MAGIC and total == _number(header[148:156], at):
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
    is_posix = header[MAGIC_AT : MAGIC_AT + 6] == b"ustar\0"
    return _decode(prefix + b"/" + name if prefix and is_posix else name)


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _read_small(descriptor: int, place: Place) -> bytes:
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
