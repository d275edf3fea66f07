"""Checks of every item: its id, its texts and its images. Errors name the item by its id.

Images are decoded by a sandboxed process, to check that they can be decoded.
"""

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
#: Seconds to decode one image.
IMAGE_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class ImageCheck:
    """Result of checking an image."""

    width: int = 0
    height: int = 0
    error: str | None = None
    """Reason why the image cannot be used, as the end of a sentence; None for a valid one."""

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.width * self.height


class ImageChecker:
    """Process that decodes images one after the other; starts at the first image and ends with the context.

    Parameters
    ----------
    pixels_limit : int
        Larger images are not decoded: only their size is returned.
    """

    def __init__(self, pixels_limit: int) -> None:
        self._pixels_limit = pixels_limit
        self._process: SandboxedProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def check(self, data: bytes) -> ImageCheck:
        """Decode an image and return the result, even if the process crashes. Raises MissingExtra, Unavailable."""
        process = self._process = self._process or self._start()
        try:
            process.send(data)
            return ImageCheck(**json.loads(process.receive()))
        except TooLarge:
            self._stop()
            return ImageCheck(error="needs too much time or memory to decode")
        except InputError:
            self._stop()
            return ImageCheck(error="makes the image decoder crash")

    def _start(self) -> SandboxedProcess:
        if find_spec("PIL") is None:
            raise MissingExtra(
                "Reading images needs Pillow, which is not installed.",
                value="pillow",
                hint="Run: pip install 'consilience[images]'.",
            )
        return SandboxedProcess.start(_PROGRAM, [str(self._pixels_limit)], timeout_s=IMAGE_TIMEOUT_S)

    def _stop(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            with suppress(OSError):
                process.close()


VIEW_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
#: Number of pixels that the images of a file may have per byte of the file, beyond one image of any allowed size, because
#: decoding takes time. Photographs have about ten, flat drawings about a hundred.
PIXELS_PER_BYTE = 1000


def check_items(raw: RawItems, limits: ItemLimits) -> OpenItems:
    """Return the same items, each checked when it is read.

    Raises InvalidRequest for a view's name; reading raises BadItem (an invalid id, text or image, a duplicate id, no items),
    TooLarge, MissingExtra (images without Pillow).
    """
    for view in raw.views:
        if not VIEW_NAME.fullmatch(view.name):
            raise InvalidRequest(
                f"The view name {view.name[:64]!a} is not valid.",
                value=ascii(view.name),
                limit=64,
                hint="Use 1 to 64 letters, digits, dots, dashes and underscores.",
            )

    def read() -> Iterator[Item]:
        with ImageChecker(limits.image_pixels) as images:
            checker = _ItemChecker(raw.views, limits, raw.packed_bytes, images)
            for index, item in enumerate(raw.read()):
                yield checker.check(index, item)
            checker.check_end()

    return OpenItems(raw.views, read)


@dataclass
class _ItemChecker:
    """Checks of items, with the state that is kept from item to item."""

    views: tuple[ViewHeader, ...]
    limits: ItemLimits
    packed_bytes: int
    images: ImageChecker
    ids: dict[str, None] = field(default_factory=dict)
    """Ids so far, in order."""
    id_bytes: int = 0
    unpacked: int = 0
    pixels: int = 0
    seen: set[bytes] = field(default_factory=set)
    """Digests of the images that were decoded, since many items may have the same one."""

    def check(self, index: int, raw: RawItem) -> Item:
        check_limit("items", index + 1, self.limits.items)
        item = self._check_id(index, raw.id)
        values = tuple(
            self._check_image(item, index, view, value)
            if view.kind == "image"
            else self._check_text(item, index, view, value)
            for view, value in zip(self.views, raw.values, strict=True)
        )
        self._count(sum(map(len, values)))
        return Item(item, values)

    def check_end(self) -> None:
        if not self.ids:
            raise BadItem("The file has no items.", hint="Send at least one item.")

    def _check_id(self, index: int, value: object) -> str:
        label = str(index) if value is None else format_integer(value) if type(value) is int else value
        if error := label_error(label):
            raise BadItem(
                f"The id of item {index} is {error}.",
                value=repr(value),
                limit=LABEL_LENGTH,
                hint=f"Use an integer, or a string of 1 to {LABEL_LENGTH} printable characters.",
                pointer=f"/{index}/id",
            )
        label = str(label)
        if label in self.ids:
            before = list(self.ids).index(label)
            raise BadItem(
                f"Items {before} and {index} have the same id: {label!r}.",
                value=label,
                hint="Give each item an id of its own.",
                pointer=f"/{index}/id",
            )
        self.ids[label] = None
        self.id_bytes += len(label) + 3
        check_limit("bytes of ids", self.id_bytes, self.limits.column_bytes)
        return label

    def _check_text(self, item: str, index: int, view: ViewHeader, value: object) -> bytes:
        if not isinstance(value, str):
            raise _bad_item(item, index, view, "is missing" if value is None else "is not text", value)
        if not value.strip():
            raise _bad_item(item, index, view, "is empty", value)
        try:
            data = value.encode()
        except UnicodeEncodeError:
            raise _bad_item(item, index, view, "contains half of a surrogate pair", ascii(value)) from None
        if len(data) > self.limits.text_bytes:
            raise _too_large(item, index, view, f"has {len(data)} bytes", self.limits.text_bytes, "bytes")
        return data

    def _check_image(self, item: str, index: int, view: ViewHeader, value: object) -> bytes:
        if not isinstance(value, bytes):
            raise _bad_item(item, index, view, "is missing" if value is None else "is not an image", value)
        if len(value) > self.limits.image_bytes:
            raise _too_large(item, index, view, f"has {len(value)} bytes", self.limits.image_bytes, "bytes")
        digest = hashlib.sha256(value).digest()
        if digest not in self.seen:
            self._decode(item, index, view, value)
            self.seen.add(digest)
        return value

    def _decode(self, item: str, index: int, view: ViewHeader, value: bytes) -> None:
        image = self.images.check(value)
        if image.pixels > self.limits.image_pixels:
            size = f"has {image.width} x {image.height} pixels"
            raise _too_large(item, index, view, size, self.limits.image_pixels, "pixels")
        if image.error:
            raise _bad_item(item, index, view, image.error, None)
        self.pixels += image.pixels
        allowed = self.limits.image_pixels + PIXELS_PER_BYTE * self.packed_bytes
        if self.pixels > allowed:
            size = f"brings the images of the file to {self.pixels} pixels"
            raise _too_large(item, index, view, size, allowed, "pixels")

    def _count(self, size: int) -> None:
        self.unpacked += size
        allowed = unpacked_limit(self.packed_bytes, FormatLimits(unpacked_bytes=self.limits.unpacked_bytes))
        if self.unpacked > allowed:
            raise TooLarge(
                f"The items unpack to more than {allowed} bytes, the limit for a file of this size.",
                value=f"{self.unpacked} bytes",
                limit=allowed,
                hint="Send fewer items; an image that several items share counts once per item.",
            )


def _bad_item(item: str, index: int, view: ViewHeader, error: str, value: object) -> BadItem:
    return BadItem(
        f"The view `{view.name}` of item {item!r} {error}.",
        value=item if value is None else value,
        hint="Correct the item, or remove it with all of its views.",
        pointer=f"/{index}/{view.name}",
    )


def _too_large(  # noqa: PLR0917 - the item, then its error
    item: str, index: int, view: ViewHeader, error: str, limit: int, unit: str
) -> TooLarge:
    return TooLarge(
        f"The view `{view.name}` of item {item!r} {error}; the limit is {limit} {unit}.",
        value=error,
        limit=limit,
        pointer=f"/{index}/{view.name}",
    )
