"""NumPy's .npz: a zip of .npy members, each a named layer, unpacked as a stream under hard caps."""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from consilience.errors import InvalidShape, TooLarge, UnsupportedFormat
from consilience.formats.gate import RATIO_LIMIT, check_limit, check_size, gather, unpacked_limit
from consilience.formats.matrices import Array, FormatLimits, OpenFile, Tensor
from consilience.formats.npy import read_header
from consilience.formats.reading import fill_from, read_rows
from consilience.formats.zips import BoundedFile, zip_faults

MAGIC = b"PK"
#: Bytes of one read: bounds the central directory too, and with it the number of members.
PIECE_BYTES = 1024 * 1024


@contextmanager
def open_npz(path: Path, limits: FormatLimits) -> Iterator[OpenFile]:
    """Each member NAME.npy (n, d) is a layer NAME; a single (n, L, d) member is layers "0", "1", ...

    Raises UnreadableFile, UnsupportedFormat, UnsupportedDtype, InvalidShape, TooFewRows, TooLarge.
    """
    with BoundedFile(path, PIECE_BYTES) as file:
        archive = _open_archive(file)
        with archive:
            members = archive.infolist()
            check_limit("layers", len(members), limits.layers)
            _check_unpacked(members, os.fstat(file.fileno()).st_size, limits)
            tensors = [_open_member(archive, member) for member in members]
            yield gather(tensors, limits)


def _open_archive(file: BoundedFile) -> ZipFile:
    with zip_faults("its zip directory"):
        return ZipFile(file)


def _check_unpacked(members: list[ZipInfo], packed: int, limits: FormatLimits) -> None:
    """Declared sizes are binding: no more than that is ever unpacked of a member, and less is an error."""
    total = sum(member.file_size for member in members)
    allowed = unpacked_limit(packed, limits)
    if total > allowed:
        raise TooLarge(
            f"The npz file has {packed} bytes and unpacks to {total}; "
            f"the limits are {RATIO_LIMIT} times its size and {limits.unpacked_bytes} bytes.",
            value=total,
            limit=allowed,
            hint="Save it with numpy.savez, without compression.",
        )


def _open_member(archive: ZipFile, member: ZipInfo) -> Tensor:
    name = member.filename.removesuffix(".npy")
    if name == member.filename or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsupportedFormat(
            "An npz file holds .npy members only, stored or deflated.",
            value=ascii(member.filename),
            hint="Write it with numpy.savez. Archives of other kinds and pickles (.pt, .pkl) are never read.",
        )
    where = f"Member {name!a}"
    with zip_faults(where), archive.open(member) as stream:
        header = read_header(stream, where)
    check_size(header.shape, header.dtype, member.file_size - header.offset, where)
    if header.fortran_order and prod(header.shape) > max(header.shape):
        raise InvalidShape(
            f"{where} is in Fortran order, which cannot be read from a zip as a stream.",
            value=name,
            hint="Save numpy.ascontiguousarray(array).",
        )

    def read() -> Iterator[Array]:
        with zip_faults(where), archive.open(member) as stream:
            stream.read(header.offset)
            yield from read_rows(fill_from(stream, PIECE_BYTES), header.shape, header.dtype)
            stream.read(1)  # reaching the end makes zipfile compare the checksum

    return Tensor(name, header.shape, header.dtype, read)
