"""`scenes`: small programs, the pictures that they draw, and captions at five levels of detail.

Three views of one reality, made from a seed without any download, after *A Vision Check-up for Language Models*
(arXiv 2401.01862), which asks language models for programs that draw. The views are `image`, `code` and `caption_1` to
`caption_5`; the captions grow as those of the paper on convergence do (arXiv 2405.07987, section 3): the more they say, the
nearer a language model's space should come to a vision model's.
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

Choice = TypeVar("Choice")

#: Pixels of a side.
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
#: Pixels from a thing's centre to its edge.
SIZES = {"small": 8, "medium": 13, "large": 19}
THINGS_MAX = 4
#: Things stand in the cells of a grid of three by three, some pixels from a cell's middle.
CELLS = 3
PITCH = SIDE // CELLS
JITTER_MAX = 6


@dataclass(frozen=True)
class Thing:
    """One thing in a scene."""

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
    """A background and the things on it, none over another."""

    background: str
    things: tuple[Thing, ...]


class SeededRandom:
    """Draws that each Python makes alike: of a `random.Random`, `random()` alone is promised to stay as it is."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - pictures, not secrets

    def number(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return low + int(self._random.random() * (high - low + 1))

    def pick(self, choices: Sequence[Choice]) -> Choice:
        """One of them."""
        return choices[self.number(0, len(choices) - 1)]

    def order(self, choices: Sequence[Choice]) -> list[Choice]:
        """All of them, shuffled."""
        left = list(choices)
        return [left.pop(self.number(0, len(left) - 1)) for _ in choices]


def draw_scene(seed: int, index: int) -> Scene:
    """Scene number `index` of a seed, which is the same however many there are."""
    lots = SeededRandom(f"scenes/{seed}/{index}")
    background = lots.pick(BACKGROUNDS)
    cells = lots.order([(column, row) for row in range(CELLS) for column in range(CELLS)])
    count = lots.number(1, THINGS_MAX)
    return Scene(background, tuple(_draw_thing(lots, *cell) for cell in cells[:count]))


def _draw_thing(lots: SeededRandom, column: int, row: int) -> Thing:
    size = lots.pick(list(SIZES.values()))
    jitter = min(JITTER_MAX, PITCH // 2 - size)
    x, y = (PITCH * cell + PITCH // 2 + lots.number(-jitter, jitter) for cell in (column, row))
    return Thing(lots.pick(KINDS), x, y, size, lots.pick(PAINTS))


LEVELS = range(1, 6)
_ROWS = ("top", "middle", "bottom")
_COLUMNS = ("left", "centre", "right")
_SIZE_NAMES = {pixels: name for name, pixels in SIZES.items()}


def write_caption(scene: Scene, level: int) -> str:
    """The caption of one level, 1 to 5; things are named from the largest to the smallest."""
    things = sorted(scene.things, key=lambda thing: -thing.size)
    if level == 1:
        return _sentence(things[:1], lambda thing: thing.kind)
    if level == 2:
        return _sentence(things, lambda thing: thing.kind)
    background = f" on {_article(scene.background)} background"
    if level == 3:
        return _sentence(things, _painted, background)
    if level == 4:
        return _sentence(things, lambda thing: f"{_sized(thing)} {_place(thing)}", background)
    exact = _sentence(things, lambda thing: f"{_sized(thing)} {_place(thing)} ({_pixels(thing)})", background)
    return " ".join([exact, *(_relation(one, other) for one, other in pairwise(things))])


def _sentence(things: Sequence[Thing], describe: Callable[[Thing], str], end: str = "") -> str:
    phrases = [_article(describe(thing)) for thing in things]
    listed = " and ".join([", ".join(phrases[:-1]), phrases[-1]]) if len(phrases) > 1 else phrases[0]
    return f"A picture of {listed}{end}."


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _painted(thing: Thing) -> str:
    return f"{thing.colour} {thing.kind}"


def _sized(thing: Thing) -> str:
    return f"{_SIZE_NAMES[thing.size]} {_painted(thing)}"


def _place(thing: Thing) -> str:
    row, column = _ROWS[thing.y // PITCH], _COLUMNS[thing.x // PITCH]
    return "in the centre" if (row, column) == ("middle", "centre") else f"at the {row} {column}"


def _pixels(thing: Thing) -> str:
    return f"{thing.x} pixels from the left, {thing.y} from the top, reaching {thing.size}"


def _relation(one: Thing, other: Thing) -> str:
    """Where one lies as seen from the other; they lie in different cells, so at least one of the two holds."""
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


CANVAS = "canvas"
FIELDS = ("x", "y", "size", "color")


def write_program(scene: Scene) -> str:
    """The program that draws the scene.

    >>> print(write_program(Scene("white", (Thing("circle", 30, 40, 8, "red"),))))
    canvas(128, 128, "white")
    circle(x=30, y=40, size=8, color="red")
    """
    lines = (
        f'{thing.kind}(x={thing.x}, y={thing.y}, size={thing.size}, color="{thing.colour}")' for thing in scene.things
    )
    return "\n".join([f'{CANVAS}({SIDE}, {SIDE}, "{scene.background}")', *lines])


def read_program(text: str) -> Scene:
    """The scene that a program draws; InvalidRequest, with the line, for anything but such a program."""
    try:
        canvas, *calls = ast.parse(text).body
        return Scene(_read_canvas(canvas), tuple(map(_read_thing, calls)))
    except SyntaxError as error:
        raise InvalidRequest(f"The program cannot be read: {error}.", value=text) from None
    except (ValueError, KeyError) as error:
        raise InvalidRequest(f"The program draws no scene: {error}.", value=text) from None


def _read_canvas(line: ast.stmt) -> str:
    match line:
        case ast.Expr(ast.Call(ast.Name("canvas"), [ast.Constant(), ast.Constant(), ast.Constant(str(colour))], [])):
            return _colour(colour)
    raise ValueError(f"it begins with {ast.unparse(line)!r} and not with a canvas")


def _read_thing(line: ast.stmt) -> Thing:
    match line:
        case ast.Expr(ast.Call(ast.Name(str(kind)), [], fields)) if kind in KINDS:
            values = {str(field.arg): ast.literal_eval(field.value) for field in fields}
            if tuple(values) == FIELDS:
                return Thing(kind, values["x"], values["y"], values["size"], _colour(values["color"]))
    raise ValueError(f"{ast.unparse(line)!r} draws nothing that there is")


def _colour(name: str) -> str:
    if name not in COLOURS:
        raise ValueError(f"there is no colour {name!r}")
    return name


NAME = "scenes"
N_DEFAULT = 512
#: Making them holds up the API: some 20 s for so many.
N_MAX = 10_000
VIEWS: dict[str, ViewKind] = {"image": "image", "code": "code", **{f"caption_{level}": "text" for level in LEVELS}}


@dataclass(frozen=True)
class SceneView:
    """One view of the scenes of a seed, made when it is read."""

    name: str
    kind: ViewKind
    n: int
    seed: int
    show: Callable[[Scene], str | bytes]

    def read(self, start: int, stop: int) -> Items:
        """As View."""
        return cast("Items", [self.show(draw_scene(self.seed, index)) for index in range(start, min(stop, self.n))])


def open_scenes(n: int = N_DEFAULT, seed: int = 0) -> OpenDataset:
    """The first n scenes of a seed; those of a larger n begin with them."""
    views: list[View] = [
        SceneView("image", "image", n, seed, lambda scene: paint(read_program(write_program(scene)))),
        SceneView("code", "code", n, seed, write_program),
    ]
    views += [SceneView(f"caption_{level}", "text", n, seed, partial(write_caption, level=level)) for level in LEVELS]
    return OpenDataset(NAME, tuple(f"scene-{index:06}" for index in range(n)), tuple(views))
