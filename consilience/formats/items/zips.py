"""Zip archives: the directory is bounded, and no file unpacks to more than it declares."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast
from zipfile import ZipFile, ZipInfo

from consilience.errors import TooLarge, UnreadableFile, UnsupportedFormat
from consilience.formats.gate import RATIO_LIMIT, check_limit, unpacked_limit
from consilience.formats.items.item import ItemLimits
from consilience.formats.items.lines import Lines
from consilience.formats.matrices import FormatLimits
from consilience.formats.zips import BoundedFile, zip_faults

MAGIC = b"PK\x03\x04"
#: Bytes of the directory, some hundred a file: it is read into memory, where it has ten times as many.
DIRECTORY_LIMIT_BYTES = 16 * 2**20
PIECE_BYTES = 2**20
#: Files beside the pictures.
OTHERS_MAX = 1000
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
        with zip_faults(f"The file {name!a}"), self._archive.open(self._members[name]) as stream:
            return b"".join(_pieces(stream, limit))

    @contextmanager
    def lines(self, name: str) -> Iterator[Lines]:
        """As Archive."""
        with zip_faults(f"The file {name!a}"), self._archive.open(self._members[name]) as stream:
            yield cast("Lines", stream)


def _pieces(stream: IO[bytes], limit: int) -> Iterator[bytes]:
    while limit > 0 and (piece := stream.read(min(PIECE_BYTES, limit))):
        limit -= len(piece)
        yield piece


@contextmanager
def open_zip(path: Path, limits: ItemLimits) -> Iterator[ZipArchive]:
    """Raises UnreadableFile, UnsupportedFormat (encrypted, another compression than deflate), TooLarge."""
    with BoundedFile(path, DIRECTORY_LIMIT_BYTES) as file:
        with zip_faults("The zip's directory"):
            archive = ZipFile(file)
        with archive:
            _check(archive.infolist(), path.stat().st_size, limits)
            yield ZipArchive(archive)


def _check(members: list[ZipInfo], packed: int, limits: ItemLimits) -> None:
    check_limit("files", len(members), limits.items * limits.views + OTHERS_MAX)
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
