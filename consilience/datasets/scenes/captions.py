"""Scenes in words, five times: each level says what the one below it says, and more.

1. what the largest thing is;
2. what every thing is;
3. its colour, and the background's;
4. its size and its place;
5. to the pixel, and how the things lie to each other.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

from consilience.datasets.scenes.scene import PITCH, SIZES, Scene, Thing

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
