"""What can be in a scene, and scenes drawn by lot."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

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


class Lots:
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
    lots = Lots(f"scenes/{seed}/{index}")
    background = lots.pick(BACKGROUNDS)
    cells = lots.order([(column, row) for row in range(CELLS) for column in range(CELLS)])
    count = lots.number(1, THINGS_MAX)
    return Scene(background, tuple(_draw_thing(lots, *cell) for cell in cells[:count]))


def _draw_thing(lots: Lots, column: int, row: int) -> Thing:
    size = lots.pick(list(SIZES.values()))
    jitter = min(JITTER_MAX, PITCH // 2 - size)
    x, y = (PITCH * cell + PITCH // 2 + lots.number(-jitter, jitter) for cell in (column, row))
    return Thing(lots.pick(KINDS), x, y, size, lots.pick(PAINTS))
