"""The built-in datasets by name: `stdlib-docs`, `scenes`, `scenes:n=1000,seed=7`."""

import ast
import platform
import re
import sysconfig
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from consilience.contract.datasets import ViewKind
from consilience.datasets import scenes
from consilience.datasets.views import OpenDataset, TextView
from consilience.errors import InvalidRequest, NotFound

NAME = "stdlib-docs"
EXCLUDED_FOLDERS = frozenset(
    {"test", "tests", "idle_test", "lib2to3", "idlelib", "site-packages", "dist-packages", "__pycache__"}
)
DOC_LENGTHS = range(30, 401)
CODE_LENGTH_MIN = 80
CODE_LENGTH_MAX = 1500
STATEMENTS_MIN = 3
VIEWS: dict[str, ViewKind] = {"text": "text", "code": "code"}
#: Functions, about: 2707 in Python 3.11.
N_APPROXIMATE = 2700
#: The fields of a statement that hold others.
_BLOCKS = frozenset({"body", "handlers", "orelse", "finalbody", "cases"})


class Function(NamedTuple):
    """One item."""

    id: str
    """`file:line:name`, the file from the library's folder."""
    doc: str
    code: str


def open_stdlib_docs(root: Path | None = None) -> OpenDataset:
    """The dataset, from the running Python's library or another folder of sources; some seconds of parsing."""
    functions = list(find_functions(root or Path(sysconfig.get_path("stdlib"))))
    views = (
        TextView("text", "text", tuple(function.doc for function in functions)),
        TextView("code", "code", tuple(function.code for function in functions)),
    )
    return OpenDataset(NAME, tuple(function.id for function in functions), views)


def find_functions(root: Path) -> Iterator[Function]:
    """The functions of every file, later repeats of a text left out."""
    seen: set[str] = set()
    for file in sorted(root.rglob("*.py"), key=lambda file: file.relative_to(root).parts):
        name = file.relative_to(root)
        if EXCLUDED_FOLDERS.isdisjoint(name.parts):
            for function in _read_functions(file, name.as_posix()):
                if seen.isdisjoint({function.doc, function.code}):
                    seen |= {function.doc, function.code}
                    yield function


def _read_functions(file: Path, name: str) -> Iterator[Function]:
    for node in _walk(_parse(file)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or len(node.body) < STATEMENTS_MIN:
            continue
        doc = (ast.get_docstring(node) or "").split("\n\n")[0].strip().replace("\n", " ")
        if len(doc) in DOC_LENGTHS:
            code = "\n".join(map(ast.unparse, node.body[1:]))
            if len(code) >= CODE_LENGTH_MIN:
                yield Function(f"{name}:{node.lineno}:{node.name}", doc, code[:CODE_LENGTH_MAX])


def _walk(module: ast.Module) -> Iterator[ast.AST]:
    """As `ast.walk`, in its order, but statements alone: expressions are most of a tree, and hold no functions."""
    waiting = deque[ast.AST]([module])
    while waiting:
        node = waiting.popleft()
        for name in node._fields:
            if name in _BLOCKS:
                waiting.extend(getattr(node, name))
        yield node


def _parse(file: Path) -> ast.Module:
    """A file that this Python cannot parse, such as a template, has no functions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old escapes in somebody else's strings
        try:
            return ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):
            return ast.Module([], [])


#: The options of each, with what they are where nobody says, and what they may be at most (and at least 0 or 1).
OPTIONS: Mapping[str, Mapping[str, tuple[int, range]]] = {
    NAME: {},
    scenes.NAME: {
        "n": (scenes.N_DEFAULT, range(1, scenes.N_MAX + 1)),
        "seed": (0, range(2**32)),
    },
}
_FORM = re.compile(r"(?P<name>[a-z-]+)(:(?P<options>.*))?")
_OPTION = re.compile(r"([a-z]+)=([0-9]{1,10})")
#: +1 whenever the same name would give other items.
GENERATION = 1


@dataclass(frozen=True)
class BuiltinDataset:
    """A built-in dataset and its options, all of them."""

    name: str
    options: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """The name that gives it, its options in their order."""
        words = ",".join(f"{option}={value}" for option, value in self.options.items())
        return f"{self.name}:{words}" if words else self.name

    @property
    def version(self) -> str:
        """What else its items depend on."""
        python = platform.python_version() if self.name == NAME else "any"
        return f"generation {GENERATION}, Python {python}"

    @property
    def is_exact(self) -> bool:
        """Whether `n` is known without reading anything, or a guess."""
        return self.name == scenes.NAME

    @property
    def n(self) -> int:
        """How many items there are, or about how many."""
        return self.options["n"] if self.name == scenes.NAME else N_APPROXIMATE

    @property
    def views(self) -> Mapping[str, ViewKind]:
        """Name and kind of each view."""
        return scenes.VIEWS if self.name == scenes.NAME else VIEWS

    def open(self) -> OpenDataset:
        """The items."""
        if self.name == scenes.NAME:
            return scenes.open_scenes(**self.options)
        return open_stdlib_docs()


def is_builtin(name: str) -> bool:
    """Whether this names a built-in dataset, with options or without."""
    return name.partition(":")[0] in OPTIONS


def parse_builtin(text: str) -> BuiltinDataset:
    """A built-in dataset by its name and, behind a colon, options.

    >>> str(parse_builtin("scenes:seed=7"))
    'scenes:n=512,seed=7'

    Raises
    ------
    NotFound
        There is none of this name.
    InvalidRequest
        It has no such option, or not with this value.
    """
    found = _FORM.fullmatch(text)
    if not found or found["name"] not in OPTIONS:
        raise NotFound(
            "There is no such built-in dataset.",
            value=text,
            limit=list(OPTIONS),
            hint=f"There are: {', '.join(OPTIONS)}.",
        )
    given = _parse_options(found["name"], found["options"])
    return BuiltinDataset(
        found["name"], {name: given.get(name, default) for name, (default, _) in OPTIONS[found["name"]].items()}
    )


def open_dataset(name: str) -> OpenDataset:
    """A built-in dataset by its name. Errors as in `parse_builtin`."""
    return parse_builtin(name).open()


def _parse_options(name: str, text: str | None) -> dict[str, int]:
    known = OPTIONS[name]
    given = {}
    for word in text.split(",") if text is not None else ():
        found = _OPTION.fullmatch(word)
        if not found or found[1] not in known:
            options = ", ".join(known) or "none"
            raise InvalidRequest(
                f"{name} has no option {word!r}; its options: {options}.", value=word, limit=list(known)
            )
        allowed = known[found[1]][1]
        if int(found[2]) not in allowed:
            raise InvalidRequest(
                f"The option {found[1]} of {name} goes from {allowed.start} to {allowed.stop - 1}.",
                value=int(found[2]),
                limit=[allowed.start, allowed.stop - 1],
            )
        given[found[1]] = int(found[2])
    return given
