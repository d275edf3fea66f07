"""Files of items: which format reads which bytes. The one entry to this room is `open_items`."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from consilience.errors import UnreadableFile, UnsupportedFormat
from consilience.formats.items import tars, zips
from consilience.formats.items.archives import open_archive
from consilience.formats.items.gate import check_items
from consilience.formats.items.item import ItemLimits, OpenItems, RawItems, ViewChoice
from consilience.formats.items.lines import open_jsonl
from consilience.formats.items.parquet import open_parquet_items
from consilience.formats.tables import ends

#: The media types of uploads and the format that each names.
MEDIA_TYPES: dict[str, str] = {
    "application/jsonl": "jsonl",
    "application/x-ndjson": "jsonl",
    "application/vnd.apache.parquet": "parquet",
    "application/zip": "zip",
    "application/x-tar": "tar",
}
#: Says nothing about the bytes: the format is told by them.
UNNAMED_MEDIA_TYPE = "application/octet-stream"

_Opener = Callable[[Path, ViewChoice, ItemLimits], AbstractContextManager[RawItems]]
_OPENERS: dict[str, _Opener] = {
    "jsonl": open_jsonl,
    "parquet": open_parquet_items,
    "zip": partial(open_archive, zips.open_zip),
    "tar": partial(open_archive, tars.open_tar),
}


@contextmanager
def open_items(
    path: Path, media_type: str | None, choice: ViewChoice = None, limits: ItemLimits | None = None
) -> Iterator[OpenItems]:
    """The items of a file; None or application/octet-stream: the format is told by the bytes.

    Parameters
    ----------
    path : Path
    media_type : str or None
        One of MEDIA_TYPES.
    choice : mapping, optional
        The views to read, by name, with their kinds; by default as the file's names and types say.
    limits : ItemLimits, optional

    Raises
    ------
    UnsupportedFormat, UnreadableFile, InvalidRequest, TooLarge, MissingExtra
        What is wrong with the file when it is opened; with its items, BadItem too, when they are read.
    """
    limits = limits or ItemLimits()
    name = sniff(path) if media_type in (None, UNNAMED_MEDIA_TYPE) else MEDIA_TYPES.get(media_type)
    if name is None:
        raise UnsupportedFormat(
            "Datasets of this media type are not read.",
            value=media_type,
            limit=[*MEDIA_TYPES, UNNAMED_MEDIA_TYPE],
            hint=f"Send one of {', '.join(MEDIA_TYPES)} as Content-Type.",
        )
    with _OPENERS[name](path, choice, limits) as raw:
        yield check_items(raw, limits)


def sniff(path: Path) -> str:
    """The format's name, by the first bytes. Raises UnreadableFile (empty), UnsupportedFormat."""
    with path.open("rb") as file:
        head = file.read(tars.BLOCK)
    if not head:
        raise UnreadableFile("The file is empty.", value="0 bytes")
    if head.startswith(ends.PARQUET_MAGIC):
        return "parquet"
    if head.startswith(zips.MAGIC):
        return "zip"
    if head[tars.MAGIC_AT :].startswith(tars.MAGIC):
        return "tar"
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        return "jsonl"
    raise UnsupportedFormat(
        "The file is none of the formats that are read: JSON lines, Parquet, zip, tar.",
        value=head[:16],
        hint="One JSON object a line, or pictures in a zip or tar (not compressed) with a manifest.jsonl.",
    )
