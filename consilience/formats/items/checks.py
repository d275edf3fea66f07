"""The one gate that every item passes: its id, its texts, its pictures. Whatever is wrong is said of the item by its id."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Self

from consilience.contract.base import LABEL_LENGTH
from consilience.errors import BadItem, InputError, InvalidRequest, MissingExtra, TooLarge
from consilience.formats.checks import check_limit, unpacked_limit
from consilience.formats.columns import format_integer, label_error
from consilience.formats.items.item import Item, ItemLimits, OpenItems, RawItem, RawItems, ViewHeader
from consilience.formats.open_file import FormatLimits
from consilience.formats.sandbox import SandboxedProcess

_PROGRAM = "consilience.formats.items.image_process"
#: Seconds for one picture.
IMAGE_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class ImageCheck:
    """What is known of a picture."""

    width: int = 0
    height: int = 0
    fault: str | None = None
    """Why it cannot be used."""

    @property
    def pixels(self) -> int:
        """All of them."""
        return self.width * self.height


class ImageChecker:
    """A process that decodes pictures, one after the other; started for the first one, gone when the context ends.

    Parameters
    ----------
    pixels_limit : int
        Larger pictures are not decoded: their size alone is told.
    """

    def __init__(self, pixels_limit: int) -> None:
        self._pixels_limit = pixels_limit
        self._process: SandboxedProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def examine(self, data: bytes) -> ImageCheck:
        """What decoding it shows, be it the death of the process. Raises MissingExtra, Unavailable."""
        process = self._process = self._process or self._start()
        try:
            process.send(data)
            return ImageCheck(**json.loads(process.receive()))
        except TooLarge:
            self._stop()
            return ImageCheck(fault="took too much time or memory to decode")
        except InputError:
            self._stop()
            return ImageCheck(fault="made its decoder crash")

    def _start(self) -> SandboxedProcess:
        if find_spec("PIL") is None:
            raise MissingExtra("Pictures need Pillow.", value="pillow", hint="Run: pip install 'consilience[images]'.")
        return SandboxedProcess.start(_PROGRAM, [str(self._pixels_limit)], patience_s=IMAGE_TIMEOUT_S)

    def _stop(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            with suppress(OSError):
                process.close()


VIEW_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
#: Pixels that the pictures of a file may have for each of its bytes, beside one picture of any size: decoding takes time.
#: Photographs have some ten, flat drawings some hundred.
PIXELS_PER_BYTE = 1000


def check_items(raw: RawItems, limits: ItemLimits) -> OpenItems:
    """The same items, each checked when it is read.

    Raises InvalidRequest for a view's name; reading raises BadItem (an id, a text or a picture that cannot be used, an
    id that came before), TooLarge, UnsupportedFormat (no items), MissingExtra (pictures without Pillow).
    """
    for view in raw.views:
        if not VIEW_NAME.fullmatch(view.name):
            raise InvalidRequest(
                "A view's name has 1 to 64 letters, digits, dots, dashes and underscores.",
                value=ascii(view.name),
                limit=64,
            )

    def read() -> Iterator[Item]:
        with ImageChecker(limits.image_pixels) as pictures:
            gate = _ItemChecker(raw.views, limits, raw.packed_bytes, pictures)
            for index, item in enumerate(raw.read()):
                yield gate.check(index, item)
            gate.check_end()

    return OpenItems(raw.views, read)


@dataclass
class _ItemChecker:
    """What must be remembered from item to item."""

    views: tuple[ViewHeader, ...]
    limits: ItemLimits
    packed_bytes: int
    pictures: ImageChecker
    ids: dict[str, None] = field(default_factory=dict)
    """In their order."""
    id_bytes: int = 0
    unpacked: int = 0
    pixels: int = 0
    seen: set[bytes] = field(default_factory=set)
    """Digests of the pictures that were decoded: many items may show the same one."""

    def check(self, index: int, raw: RawItem) -> Item:
        check_limit("items", index + 1, self.limits.items)
        item = self._check_id(index, raw.id)
        values = tuple(
            self._check_picture(item, index, view, value)
            if view.kind == "image"
            else self._check_text(item, index, view, value)
            for view, value in zip(self.views, raw.values, strict=True)
        )
        self._count(sum(map(len, values)))
        return Item(item, values)

    def check_end(self) -> None:
        if not self.ids:
            raise BadItem("The file has no items.", hint="A dataset has at least one.")

    def _check_id(self, index: int, value: object) -> str:
        label = str(index) if value is None else format_integer(value) if type(value) is int else value
        if fault := label_error(label):
            raise BadItem(
                f"The id of item {index} is {fault}.",
                value=repr(value),
                limit=LABEL_LENGTH,
                hint=f"An id is an integer, or a string of 1 to {LABEL_LENGTH} printable characters.",
                pointer=f"/{index}/id",
            )
        label = str(label)
        if label in self.ids:
            before = list(self.ids).index(label)
            raise BadItem(
                f"Items {before} and {index} have the same id: {label!r}.",
                value=label,
                hint="Each item has an id of its own.",
                pointer=f"/{index}/id",
            )
        self.ids[label] = None
        self.id_bytes += len(label) + 3
        check_limit("bytes of ids", self.id_bytes, self.limits.column_bytes)
        return label

    def _check_text(self, item: str, index: int, view: ViewHeader, value: object) -> bytes:
        if not isinstance(value, str):
            raise _bad_item(item, index, view, "is missing" if value is None else "is no text", value)
        if not value.strip():
            raise _bad_item(item, index, view, "is empty", value)
        try:
            data = value.encode()
        except UnicodeEncodeError:
            raise _bad_item(item, index, view, "holds half of a surrogate pair", ascii(value)) from None
        if len(data) > self.limits.text_bytes:
            raise _too_large(item, index, view, f"has {len(data)} bytes", self.limits.text_bytes, "bytes")
        return data

    def _check_picture(self, item: str, index: int, view: ViewHeader, value: object) -> bytes:
        if not isinstance(value, bytes):
            raise _bad_item(item, index, view, "is missing" if value is None else "is no picture", value)
        if len(value) > self.limits.image_bytes:
            raise _too_large(item, index, view, f"has {len(value)} bytes", self.limits.image_bytes, "bytes")
        digest = hashlib.sha256(value).digest()
        if digest not in self.seen:
            self._decode(item, index, view, value)
            self.seen.add(digest)
        return value

    def _decode(self, item: str, index: int, view: ViewHeader, value: bytes) -> None:
        picture = self.pictures.examine(value)
        if picture.pixels > self.limits.image_pixels:
            size = f"has {picture.width} x {picture.height} pixels"
            raise _too_large(item, index, view, size, self.limits.image_pixels, "pixels")
        if picture.fault:
            raise _bad_item(item, index, view, picture.fault, None)
        self.pixels += picture.pixels
        allowed = self.limits.image_pixels + PIXELS_PER_BYTE * self.packed_bytes
        if self.pixels > allowed:
            raise _too_large(
                item, index, view, "brings the pictures of this file to too many pixels", allowed, "pixels"
            )

    def _count(self, size: int) -> None:
        self.unpacked += size
        allowed = unpacked_limit(self.packed_bytes, FormatLimits(unpacked_bytes=self.limits.unpacked_bytes))
        if self.unpacked > allowed:
            raise TooLarge(
                f"The items unpack to more than {allowed} bytes, which is all that a file of this size may.",
                value=f"{self.unpacked} bytes",
                limit=allowed,
                hint="A picture that many items show counts for each.",
            )


def _bad_item(item: str, index: int, view: ViewHeader, fault: str, value: object) -> BadItem:
    return BadItem(
        f"Item {item!r}: its `{view.name}` {fault}.",
        value=item if value is None else value,
        hint="Mend the item, or leave it out with all of its views.",
        pointer=f"/{index}/{view.name}",
    )


def _too_large(  # noqa: PLR0917 - which item, then what of it
    item: str, index: int, view: ViewHeader, fault: str, limit: int, unit: str
) -> TooLarge:
    return TooLarge(
        f"Item {item!r}: its `{view.name}` {fault}, the limit is {limit} {unit}.",
        value=fault,
        limit=limit,
        pointer=f"/{index}/{view.name}",
    )
