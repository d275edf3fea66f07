"""The dataset `scenes`: small programs, the images that they draw, and captions at five levels of detail.

The items are generated from a seed without any download, after *A Vision Check-up for Language Models* (arXiv 2401.01862),
which asks language models for programs that draw. The views are `image`, `code` and `caption_1` to `caption_5`. The level of
detail of the captions follows the paper on convergence (arXiv 2405.07987, section 3): the more a caption says, the closer a
language model's space should be to a vision model's.

* Level 1 names the largest object, level 2 all objects.
* Level 3 adds the colours and the background, level 4 sizes and positions.
* Level 5 adds exact pixels and the relative positions of objects.

Images have flat colours without smoothing, and the same bytes on every machine. Programs have one call per line in Python's
grammar; they are parsed and never run.
"""

import ast
import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

from consilience.contract.datasets import ViewKind
from consilience.datasets.views import Items, OpenDataset, View
from consilience.errors import InvalidRequest

ChoiceT = TypeVar("ChoiceT")

#: Width and height of an image in pixels.
SIDE = 128
#: Red, green and blue of each colour's name.
COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "beige": (240, 228, 200),
    "grey": (150, 150, 150),
    "navy": (20, 30, 80),
    "black": (0, 0, 0),
    "red": (215, 35, 35),
    "orange": (245, 140, 20),
    "yellow": (250, 220, 30),
    "green": (40, 150, 60),
    "blue": (45, 95, 220),
    "purple": (125, 55, 170),
    "pink": (245, 130, 180),
    "brown": (125, 75, 35),
}
BACKGROUNDS = ("white", "beige", "grey", "navy", "black")
PAINTS = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
KINDS = ("circle", "square", "triangle", "diamond", "star", "ring", "cross", "house", "tree", "flower")
#: Pixels from an object's centre to its edge.
SIZES = {"small": 8, "medium": 13, "large": 19}
OBJECTS_MAX = 4
#: Objects are placed in the cells of a grid of three by three, some pixels off a cell's centre.
CELLS = 3
PITCH = SIDE // CELLS
JITTER_MAX = 6


@dataclass(frozen=True)
class SceneObject:
    """An object in a scene."""

    kind: str
    """One of KINDS."""
    x: int
    """Pixels from the left to its centre."""
    y: int
    """Pixels from the top to its centre."""
    size: int
    """Pixels from its centre to its edge."""
    colour: str
    """One of COLOURS."""


@dataclass(frozen=True)
class Scene:
    """A background and the objects on it, which do not overlap."""

    background: str
    objects: tuple[SceneObject, ...]


class SeededRandom:
    """Random choices that are equal in every Python version: only `random()` of `random.Random` is guaranteed to be."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - images, not secrets

    def integer(self, low: int, high: int) -> int:
        """Return an integer from low to high, both included."""
        return low + int(self._random.random() * (high - low + 1))

    def choice(self, choices: Sequence[ChoiceT]) -> ChoiceT:
        """Return one of the choices."""
        return choices[self.integer(0, len(choices) - 1)]

    def shuffled(self, choices: Sequence[ChoiceT]) -> list[ChoiceT]:
        """Return all choices in random order."""
        left = list(choices)
        return [left.pop(self.integer(0, len(left) - 1)) for _ in choices]


def draw_scene(seed: int, index: int) -> Scene:
    """Return scene number `index` of a seed; it does not depend on the number of scenes."""
    draws = SeededRandom(f"scenes/{seed}/{index}")
    background = draws.choice(BACKGROUNDS)
    cells = draws.shuffled([(column, row) for row in range(CELLS) for column in range(CELLS)])
    count = draws.integer(1, OBJECTS_MAX)
    return Scene(background, tuple(_draw_object(draws, *cell) for cell in cells[:count]))


def _draw_object(draws: SeededRandom, column: int, row: int) -> SceneObject:
    size = draws.choice(list(SIZES.values()))
    jitter = min(JITTER_MAX, PITCH // 2 - size)
    x, y = (PITCH * cell + PITCH // 2 + draws.integer(-jitter, jitter) for cell in (column, row))
    return SceneObject(draws.choice(KINDS), x, y, size, draws.choice(PAINTS))


LEVELS = range(1, 6)
_ROWS = ("top", "middle", "bottom")
_COLUMNS = ("left", "centre", "right")
_SIZE_NAMES = {pixels: name for name, pixels in SIZES.items()}


def write_caption(scene: Scene, level: int) -> str:
    """Write the caption of one level, 1 to 5, which lists objects from the largest to the smallest."""
    objects = sorted(scene.objects, key=lambda obj: -obj.size)
    if level == 1:
        return _sentence(objects[:1], lambda obj: obj.kind)
    if level == 2:
        return _sentence(objects, lambda obj: obj.kind)
    background = f" on {_article(scene.background)} background"
    if level == 3:
        return _sentence(objects, _painted, background)
    if level == 4:
        return _sentence(objects, lambda obj: f"{_sized(obj)} {_place(obj)}", background)
    exact = _sentence(objects, lambda obj: f"{_sized(obj)} {_place(obj)} ({_pixels(obj)})", background)
    return " ".join([exact, *(_relation(one, other) for one, other in pairwise(objects))])


def _sentence(objects: Sequence[SceneObject], describe: Callable[[SceneObject], str], end: str = "") -> str:
    phrases = [_article(describe(obj)) for obj in objects]
    listed = " and ".join([", ".join(phrases[:-1]), phrases[-1]]) if len(phrases) > 1 else phrases[0]
    return f"A picture of {listed}{end}."


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _painted(obj: SceneObject) -> str:
    return f"{obj.colour} {obj.kind}"


def _sized(obj: SceneObject) -> str:
    return f"{_SIZE_NAMES[obj.size]} {_painted(obj)}"


def _place(obj: SceneObject) -> str:
    row, column = _ROWS[obj.y // PITCH], _COLUMNS[obj.x // PITCH]
    return "in the centre" if (row, column) == ("middle", "centre") else f"at the {row} {column}"


def _pixels(obj: SceneObject) -> str:
    return f"{obj.x} pixels from the left, {obj.y} from the top, reaching {obj.size}"


def _relation(one: SceneObject, other: SceneObject) -> str:
    """Describe the position of one object relative to another; they are in different cells, so one of both axes differs."""
    upright = "above" if one.y < other.y - PITCH // 2 else "below" if one.y > other.y + PITCH // 2 else ""
    level = "left of" if one.x < other.x - PITCH // 2 else "right of" if one.x > other.x + PITCH // 2 else ""
    where = " and ".join(filter(None, (upright, level)))
    return f"The {_painted(one)} is {where} the {_painted(other)}."


Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Plane = npt.NDArray[np.float64]
_NAMES = list(COLOURS)
_WOOD = "brown"
_PETALS = ((0.0, -0.5), (0.5, 0.0), (0.0, 0.5), (-0.5, 0.0))


def paint(scene: Scene) -> bytes:
    """Paint a scene as a PNG of SIDE by SIDE pixels, with a palette."""
    return encode_png(paint_pixels(scene))


def paint_pixels(scene: Scene) -> Pixels:
    """Paint a scene as an array (SIDE, SIDE) of indices into COLOURS."""
    pixels = np.full((SIDE, SIDE), _NAMES.index(scene.background), np.uint8)
    for obj in scene.objects:
        for mask, colour in _strokes(obj):
            pixels[mask] = _NAMES.index(colour)
    return pixels


def _strokes(obj: SceneObject) -> Iterator[tuple[Mask, str]]:
    """Yield the mask and colour of each stroke in order; coordinates are in units of the object's size from its centre."""
    across, down = ((np.arange(SIDE) - centre) / obj.size for centre in (obj.x, obj.y))
    x, y = np.meshgrid(across, down)
    if obj.kind in _SHAPES:
        yield _SHAPES[obj.kind](x, y), obj.colour
    elif obj.kind == "house":
        yield _box(x, y, -0.7, 0.7, 0, 1), obj.colour
        yield _wedge(x, y, -1, 0), _WOOD
    elif obj.kind == "tree":
        yield _box(x, y, -0.2, 0.2, 0.2, 1), _WOOD
        yield _disc(x, y + 0.3, 0.7), obj.colour
    elif obj.kind == "flower":
        for dx, dy in _PETALS:
            yield _disc(x - dx, y - dy, 0.45), obj.colour
        yield _disc(x, y, 0.25), _WOOD


def _disc(x: Plane, y: Plane, radius: float) -> Mask:
    inside: Mask = x * x + y * y <= radius * radius  # without a square root, the result is equal on every machine
    return inside


def _box(x: Plane, y: Plane, *edges: float) -> Mask:
    left, right, top, bottom = edges
    inside: Mask = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    return inside


def _wedge(x: Plane, y: Plane, top: float, bottom: float) -> Mask:
    """Return the mask of an upright triangle whose base has width 2."""
    inside: Mask = (y <= bottom) & (np.abs(x) <= (y - top) / (bottom - top))
    return inside


#: Masks of the objects with a single colour.
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
    """Encode a PNG with uncompressed rows, because each library compresses differently."""
    height, width = pixels.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row starts with its filter type, 0 for none
    rows[:, 1:] = pixels
    palette = b"".join(map(bytes, COLOURS.values()))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", _store(rows.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _store(data: bytes) -> bytes:
    """Return a zlib stream with one stored block of at most 65535 bytes."""
    block = struct.pack("<BHH", 1, len(data), len(data) ^ 0xFFFF) + data
    return b"\x78\x01" + block + struct.pack(">I", zlib.adler32(data))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


CANVAS = "canvas"
FIELDS = ("x", "y", "size", "color")


def write_program(scene: Scene) -> str:
    """Write the program that draws a scene.

    >>> print(write_program(Scene("white", (SceneObject("circle", 30, 40, 8, "red"),))))
    canvas(128, 128, "white")
    circle(x=30, y=40, size=8, color="red")
    """
    lines = (f'{obj.kind}(x={obj.x}, y={obj.y}, size={obj.size}, color="{obj.colour}")' for obj in scene.objects)
    return "\n".join([f'{CANVAS}({SIDE}, {SIDE}, "{scene.background}")', *lines])


def parse_program(text: str) -> Scene:
    """Parse a program into the scene that it draws. Raises InvalidRequest, with the bad line, for any other text."""
    try:
        canvas, *calls = ast.parse(text).body
        return Scene(_parse_canvas(canvas), tuple(map(_parse_object, calls)))
    except SyntaxError as error:
        raise InvalidRequest(f"The program cannot be parsed: {error}.", value=text) from None
    except (ValueError, KeyError) as error:
        raise InvalidRequest(f"The program does not draw a scene: {error}.", value=text) from None


def _parse_canvas(line: ast.stmt) -> str:
    match line:
        case ast.Expr(ast.Call(ast.Name("canvas"), [ast.Constant(), ast.Constant(), ast.Constant(str(colour))], [])):
            return _colour(colour)
    raise ValueError(f"its first line must call `canvas` and is {ast.unparse(line)!r}")


def _parse_object(line: ast.stmt) -> SceneObject:
    match line:
        case ast.Expr(ast.Call(ast.Name(str(kind)), [], fields)) if kind in KINDS:
            values = {str(field.arg): ast.literal_eval(field.value) for field in fields}
            if tuple(values) == FIELDS:
                return SceneObject(kind, values["x"], values["y"], values["size"], _colour(values["color"]))
    raise ValueError(f"{ast.unparse(line)!r} does not draw a known object")


def _colour(name: str) -> str:
    if name not in COLOURS:
        raise ValueError(f"{name!r} is not a known colour")
    return name


NAME = "scenes"
N_DEFAULT = 512
#: Limit because the API waits for the items: so many take about 20 s.
N_MAX = 10_000
VIEWS: dict[str, ViewKind] = {"image": "image", "code": "code", **{f"caption_{level}": "text" for level in LEVELS}}


@dataclass(frozen=True)
class SceneView:
    """A view of the scenes of a seed, generated when it is read."""

    name: str
    kind: ViewKind
    n: int
    seed: int
    render: Callable[[Scene], str | bytes]

    def read(self, start: int, stop: int) -> Items:
        """See `View.read`."""
        return cast("Items", [self.render(draw_scene(self.seed, index)) for index in range(start, min(stop, self.n))])


def open_scenes(n: int = N_DEFAULT, seed: int = 0) -> OpenDataset:
    """Open the first n scenes of a seed; a larger n begins with the same scenes."""
    views: list[View] = [
        SceneView("image", "image", n, seed, lambda scene: paint(parse_program(write_program(scene)))),
        SceneView("code", "code", n, seed, write_program),
    ]
    views += [SceneView(f"caption_{level}", "text", n, seed, partial(write_caption, level=level)) for level in LEVELS]
    return OpenDataset(NAME, tuple(f"scene-{index:06}" for index in range(n)), tuple(views))
