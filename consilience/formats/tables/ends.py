"""Both ends of a Parquet or Arrow file, looked at before a process is started for what lies between."""

import os

from consilience.errors import TooLarge, UnreadableFile

PARQUET_MAGIC = b"PAR1"
ARROW_FILE_MAGIC = b"ARROW1"
#: How a message of a stream begins. (Streams from before Arrow 0.15 have no such mark and are not read.)
ARROW_STREAM_MAGIC = b"\xff\xff\xff\xff"
#: The metadata at the end of a file, which its reader unpacks into many times their size.
FOOTER_LIMIT_BYTES = 8 * 1024 * 1024
_STREAM_END = ARROW_STREAM_MAGIC + bytes(4)
_LENGTH_BYTES = 4


def check_parquet(descriptor: int, size: int) -> None:
    """The mark at both ends, and a footer that fits between. Raises UnreadableFile, TooLarge."""
    _check_marks("Parquet file", descriptor, size, PARQUET_MAGIC)


def check_arrow_file(descriptor: int, size: int) -> None:
    """The same for an Arrow file."""
    _check_marks("Arrow file", descriptor, size, ARROW_FILE_MAGIC)


def check_arrow_stream(descriptor: int, size: int) -> None:
    """A message at the start, and the mark of the end: without it nobody could tell a whole stream from a part."""
    if os.pread(descriptor, len(ARROW_STREAM_MAGIC), 0) != ARROW_STREAM_MAGIC:
        raise _no_such("Arrow stream", "start", os.pread(descriptor, 16, 0))
    tail = os.pread(descriptor, len(_STREAM_END), max(0, size - len(_STREAM_END)))
    if tail != _STREAM_END:
        raise _no_such("Arrow stream", "end", tail)


def _check_marks(what: str, descriptor: int, size: int, magic: bytes) -> None:
    head, tail = os.pread(descriptor, 16, 0), os.pread(descriptor, 16, max(0, size - 16))
    if not head.startswith(magic):
        raise _no_such(what, "start", head)
    if not tail.endswith(magic):
        raise _no_such(what, "end", tail)
    length = int.from_bytes(tail[: -len(magic)][-_LENGTH_BYTES:], "little")
    if length + len(magic) * 2 + _LENGTH_BYTES > size:
        raise UnreadableFile(
            f"The {what}'s footer should have {length} bytes, the whole file has {size}.",
            value=f"{length} bytes expected, {size} found",
            hint="The file is truncated or damaged: write or send it again.",
        )
    if length > FOOTER_LIMIT_BYTES:
        raise TooLarge(
            f"The {what}'s footer has {length} bytes, the limit is {FOOTER_LIMIT_BYTES}.",
            value=length,
            limit=FOOTER_LIMIT_BYTES,
            hint="Write fewer and larger row groups or batches, and only the columns of the embeddings.",
        )


def _no_such(what: str, end: str, found: bytes) -> UnreadableFile:
    return UnreadableFile(
        f"This is no whole {what}: the mark at its {end} is missing.",
        value=found,
        hint="The file is of another kind, truncated or damaged: write or send it again.",
    )
