"""Scenes as pictures: flat colours, no smoothing, and the same bytes on every machine."""

import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from consilience.datasets.scenes.scene import COLOURS, SIDE, Scene, Thing

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Plane = npt.NDArray[np.float64]
_NAMES = list(COLOURS)
_WOOD = "brown"
_PETALS = ((0.0, -0.5), (0.5, 0.0), (0.0, 0.5), (-0.5, 0.0))


def paint(scene: Scene) -> bytes:
    """The scene as a PNG of SIDE by SIDE pixels, with a palette."""
    return encode_png(paint_pixels(scene))


def paint_pixels(scene: Scene) -> Pixels:
    """The scene as (SIDE, SIDE) places in COLOURS."""
    pixels = np.full((SIDE, SIDE), _NAMES.index(scene.background), np.uint8)
    for thing in scene.things:
        for mask, colour in _strokes(thing):
            pixels[mask] = _NAMES.index(colour)
    return pixels


def _strokes(thing: Thing) -> Iterator[tuple[Mask, str]]:
    """What is painted where, in order. Coordinates are in units of the thing's size, from its centre, y downwards."""
    across, down = ((np.arange(SIDE) - centre) / thing.size for centre in (thing.x, thing.y))
    x, y = np.meshgrid(across, down)
    if thing.kind in _SHAPES:
        yield _SHAPES[thing.kind](x, y), thing.colour
    elif thing.kind == "house":
        yield _box(x, y, -0.7, 0.7, 0, 1), thing.colour
        yield _wedge(x, y, -1, 0), _WOOD
    elif thing.kind == "tree":
        yield _box(x, y, -0.2, 0.2, 0.2, 1), _WOOD
        yield _disc(x, y + 0.3, 0.7), thing.colour
    elif thing.kind == "flower":
        for dx, dy in _PETALS:
            yield _disc(x - dx, y - dy, 0.45), thing.colour
        yield _disc(x, y, 0.25), _WOOD


def _disc(x: Plane, y: Plane, radius: float) -> Mask:
    inside: Mask = x * x + y * y <= radius * radius  # no root: each machine multiplies alike
    return inside


def _box(x: Plane, y: Plane, *edges: float) -> Mask:
    left, right, top, bottom = edges
    inside: Mask = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    return inside


def _wedge(x: Plane, y: Plane, top: float, bottom: float) -> Mask:
    """A triangle that stands on its base, which is two wide."""
    inside: Mask = (y <= bottom) & (np.abs(x) <= (y - top) / (bottom - top))
    return inside


#: What is of one colour alone.
_SHAPES: dict[str, Callable[[Plane, Plane], Mask]] = {
    "circle": lambda x, y: _disc(x, y, 1),
    "square": lambda x, y: _box(x, y, -0.9, 0.9, -0.9, 0.9),
    "triangle": lambda x, y: _wedge(x, y, -1, 1),
    "diamond": lambda x, y: np.abs(x) + np.abs(y) <= 1,
    "star": lambda x, y: _wedge(x, y, -1, 0.5) | _wedge(x, -y, -1, 0.5),
    "ring": lambda x, y: _disc(x, y, 1) & ~_disc(x, y, 0.6),
    "cross": lambda x, y: _box(x, y, -0.3, 0.3, -1, 1) | _box(x, y, -1, 1, -0.3, 0.3),
}


def encode_png(pixels: Pixels) -> bytes:
    """A PNG whose rows are stored and not compressed: libraries compress each in their own way."""
    height, width = pixels.shape
    rows = np.zeros((height, width + 1), np.uint8)  # before each row the filter's number: none
    rows[:, 1:] = pixels
    palette = b"".join(map(bytes, COLOURS.values()))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", _store(rows.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _store(data: bytes) -> bytes:
    """A zlib stream of one stored block, of at most 65535 bytes."""
    block = struct.pack("<BHH", 1, len(data), len(data) ^ 0xFFFF) + data
    return b"\x78\x01" + block + struct.pack(">I", zlib.adler32(data))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
