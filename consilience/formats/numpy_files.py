"""Readers of NumPy's .npy and .npz files.

The npy header (at most 4 KB) is parsed here; nothing in it is trusted, and no pickle is ever read. An npz file is a zip of
.npy members, each a named layer, which are unpacked as a stream under strict limits: the zip directory has a bounded size,
and no member unpacks to more than it declares.
"""

import ast
import io
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np

from consilience.errors import ConsilienceError, InvalidShape, TooLarge, UnreadableFile, UnsupportedFormat
from consilience.formats.checks import (
    RATIO_LIMIT,
    check_limit,
    check_shape,
    check_size,
    combine_tensors,
    unpacked_limit,
    unsupported_dtype,
)
from consilience.formats.open_file import Array, FormatLimits, OpenFile, Tensor
from consilience.formats.reading import Stream, fill_at, fill_from, read_columns, read_rows

NPY_MAGIC = b"\x93NUMPY"
HEADER_LIMIT_BYTES = 4096
#: Size of the header's length field and encoding of the header, by major version.
_VERSIONS = {1: (2, "latin-1"), 2: (4, "latin-1"), 3: (4, "utf-8")}
_FLOATS = re.compile("[<>=]?f[248]")
_KEYS = {"descr", "fortran_order", "shape"}
#: A Fortran-order block costs one read per column: this limits the number of reads of a file.
COLUMNS_LIMIT = 65_536


@dataclass(frozen=True)
class NpyHeader:
    """Content of an npy header, and the position of the first value."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    offset: int


@contextmanager
def open_npy(path: Path, limits: FormatLimits) -> Iterator[OpenFile]:
    """Open an npy file: (n, d) is layer "0", (n, L, d) is layers "0", "1", ...; any memory and byte order.

    Raises UnreadableFile, UnsupportedDtype, InvalidShape, TooFewRows, TooLarge.
    """
    with path.open("rb", buffering=0) as file:
        header = read_header(file, "The file")
        check_size(header.shape, header.dtype, os.fstat(file.fileno()).st_size - header.offset, "The file")
        fill = fill_at(file.fileno(), header.offset)

        def read() -> Iterator[Array]:
            order = read_columns if header.fortran_order else read_rows
            return order(fill, header.shape, header.dtype)

        if header.fortran_order and prod(header.shape[1:]) > COLUMNS_LIMIT:
            raise InvalidShape(
                f"The array in Fortran order has {prod(header.shape[1:])} columns over all layers; "
                f"the limit is {COLUMNS_LIMIT}.",
                value=header.shape,
                limit=COLUMNS_LIMIT,
                hint="Save it in C order: numpy.save(path, numpy.ascontiguousarray(array)).",
            )
        offset = None if header.fortran_order else header.offset
        yield combine_tensors([Tensor("0", header.shape, header.dtype, read, offset)], limits)


def read_header(stream: Stream, where: str) -> NpyHeader:
    """Read the header at the start of a stream and check its dtype and shape; `where` names the array in errors."""
    start = _read_exactly(stream, len(NPY_MAGIC) + 2, where)
    if not start.startswith(NPY_MAGIC):
        raise UnreadableFile(f"{where} is not an npy array: the magic bytes at its start are missing.", value=start)
    if start[6] not in _VERSIONS:
        raise UnreadableFile(
            f"{where} has the unknown npy version {start[6]}.{start[7]}.",
            value=f"{start[6]}.{start[7]}",
            limit="1.0 to 3.0",
        )
    width, encoding = _VERSIONS[start[6]]
    length = int.from_bytes(_read_exactly(stream, width, where), "little")
    if length > HEADER_LIMIT_BYTES:
        raise UnreadableFile(
            f"{where} has an npy header of {length} bytes; the limit is {HEADER_LIMIT_BYTES}.",
            value=length,
            limit=HEADER_LIMIT_BYTES,
        )
    fields = _parse_fields(_read_exactly(stream, length, where), encoding, where)
    dtype = _parse_dtype(fields["descr"], where)
    shape = _parse_shape(fields["shape"], where)
    return NpyHeader(shape, dtype, fields["fortran_order"] is True, len(start) + width + length)


def _read_exactly(stream: Stream, size: int, where: str) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise UnreadableFile(
            f"{where} ends within its npy header.", value=f"{size} bytes expected, {len(data)} found", limit=size
        )
    return data


def _parse_fields(header: bytes, encoding: str, where: str) -> dict[str, Any]:
    try:
        fields = ast.literal_eval(header.decode(encoding).strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise UnreadableFile(f"{where} has an npy header that is not a Python literal.", value=header) from error
    if not isinstance(fields, dict) or fields.keys() != _KEYS or not isinstance(fields["fortran_order"], bool):
        raise UnreadableFile(
            f"{where} has an npy header without exactly the fields {', '.join(sorted(_KEYS))}.",
            value=header,
            limit=sorted(_KEYS),
        )
    return fields


def _parse_dtype(descr: object, where: str) -> np.dtype[Any]:
    if not isinstance(descr, str) or not _FLOATS.fullmatch(descr):
        raise unsupported_dtype(descr, where)
    return np.dtype(descr)


def _parse_shape(shape: object, where: str) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise UnreadableFile(f"{where} has an npy header whose shape is not a tuple of sizes.", value=shape)
    check_shape(shape, where)
    return shape


class BoundedFile(io.FileIO):
    """A file whose reads have a maximum size, because a zip directory is read at once with the size that it claims.

    Parameters
    ----------
    path : Path
    limit : int
        Largest number of bytes of one read, which limits the zip directory and so the number of files.
    """

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(path)
        self._limit = limit

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as FileIO does; raise TooLarge over the limit."""
        remaining = os.fstat(self.fileno()).st_size - self.tell()
        count = remaining if size is None or size < 0 else min(size, remaining)
        if count > self._limit:
            raise TooLarge(
                f"The zip directory has {count} bytes; the limit is {self._limit}.", value=count, limit=self._limit
            )
        return super().read(count) or b""


@contextmanager
def zip_errors(where: str) -> Iterator[None]:
    """Turn errors of zipfile and zlib into UnreadableFile; they raise a dozen unrelated classes on damaged bytes."""
    try:
        yield
    except ConsilienceError:
        raise
    except Exception as error:
        raise UnreadableFile(
            f"{where} cannot be unpacked: {error}.", hint="The file is damaged: send it again."
        ) from error


NPZ_MAGIC = b"PK"
#: Largest number of bytes of one read, which limits the zip directory and so the number of members.
PIECE_BYTES = 1024 * 1024


@contextmanager
def open_npz(path: Path, limits: FormatLimits) -> Iterator[OpenFile]:
    """Open an npz file: each member NAME.npy (n, d) is a layer NAME; one (n, L, d) member is layers "0", "1", ...

    Raises UnreadableFile, UnsupportedFormat, UnsupportedDtype, InvalidShape, TooFewRows, TooLarge.
    """
    with BoundedFile(path, PIECE_BYTES) as file:
        archive = _open_archive(file)
        with archive:
            members = archive.infolist()
            check_limit("layers", len(members), limits.layers)
            _check_unpacked(members, os.fstat(file.fileno()).st_size, limits)
            tensors = [_open_member(archive, member) for member in members]
            yield combine_tensors(tensors, limits)


def _open_archive(file: BoundedFile) -> ZipFile:
    with zip_errors("The zip directory of the file"):
        return ZipFile(file)


def _check_unpacked(members: list[ZipInfo], packed: int, limits: FormatLimits) -> None:
    """Check the declared sizes, which are binding: a member that unpacks to more or less is an error."""
    total = sum(member.file_size for member in members)
    allowed = unpacked_limit(packed, limits)
    if total > allowed:
        raise TooLarge(
            f"The npz file has {packed} bytes and unpacks to {total} bytes; "
            f"the limits are {RATIO_LIMIT} times its size and {limits.unpacked_bytes} bytes.",
            value=total,
            limit=allowed,
            hint="Save it with numpy.savez, without compression.",
        )


def _open_member(archive: ZipFile, member: ZipInfo) -> Tensor:
    name = member.filename.removesuffix(".npy")
    if name == member.filename or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsupportedFormat(
            f"The member {member.filename[:100]!a} of the npz file is not a .npy file, or is neither stored nor deflated.",
            value=ascii(member.filename),
            hint="Write the file with numpy.savez. Other archives and pickles (.pt, .pkl) are never read.",
        )
    where = f"Member {name!a}"
    with zip_errors(where), archive.open(member) as stream:
        header = read_header(stream, where)
    check_size(header.shape, header.dtype, member.file_size - header.offset, where)
    if header.fortran_order and prod(header.shape) > max(header.shape):
        raise InvalidShape(
            f"{where} is in Fortran order, which cannot be read as a stream from a zip.",
            value=name,
            hint="Save it in C order: numpy.ascontiguousarray(array).",
        )

    def read() -> Iterator[Array]:
        with zip_errors(where), archive.open(member) as stream:
            stream.read(header.offset)
            yield from read_rows(fill_from(stream, PIECE_BYTES), header.shape, header.dtype)
            stream.read(1)  # reaching the end makes zipfile compare the checksum

    return Tensor(name, header.shape, header.dtype, read)
