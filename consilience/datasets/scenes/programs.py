"""Scenes as programs: one call a line, of Python's grammar. They are read, and never run."""

import ast

from consilience.datasets.scenes.scene import COLOURS, KINDS, SIDE, Scene, Thing
from consilience.errors import InvalidRequest

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
