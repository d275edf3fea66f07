"""Built-in datasets by name: `stdlib-docs`, `scenes`, `scenes:n=1000,seed=7`.

`stdlib-docs` has the functions of the running Python's standard library. Its view `text` is the first paragraph of a
docstring, with newlines as spaces, 30 to 400 characters long. Its view `code` is the rest of the body as `ast.unparse`
writes it, one statement per line, at least 80 characters long, truncated at 1500. Functions with fewer than three
statements (including the docstring) and functions with a text or code that occurred before are left out; so are test
packages, lib2to3 and idlelib. The order is that of the files' paths, and within a file breadth first, as in `ast.walk`.
The files are only parsed: nothing is imported or run.
"""

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
#: Approximate number of functions: 2707 in Python 3.11.
N_APPROXIMATE = 2700
#: Fields of a statement that contain other statements.
_BLOCKS = frozenset({"body", "handlers", "orelse", "finalbody", "cases"})


class Function(NamedTuple):
    """A function: one item of `stdlib-docs`."""

    id: str
    """`file:line:name`, with the file's path relative to the library's folder."""
    doc: str
    code: str


def open_stdlib_docs(root: Path | None = None) -> OpenDataset:
    """Open the dataset from the running Python's library or another folder of sources; parsing takes some seconds."""
    functions = list(find_functions(root or Path(sysconfig.get_path("stdlib"))))
    views = (
        TextView("text", "text", tuple(function.doc for function in functions)),
        TextView("code", "code", tuple(function.code for function in functions)),
    )
    return OpenDataset(NAME, tuple(function.id for function in functions), views)


def find_functions(root: Path) -> Iterator[Function]:
    """Yield the functions of every file, without later ones that repeat a text or code."""
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
    """Yield the statements in the order of `ast.walk`, without expressions, which are most of a tree."""
    queue = deque[ast.AST]([module])
    while queue:
        node = queue.popleft()
        for name in node._fields:
            if name in _BLOCKS:
                queue.extend(getattr(node, name))
        yield node


def _parse(file: Path) -> ast.Module:
    """Parse a file; one that this Python cannot parse, such as a template, gives an empty module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about invalid escapes in the sources
        try:
            return ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):
            return ast.Module([], [])


#: Options of each dataset: the default value and the range of allowed values.
OPTIONS: Mapping[str, Mapping[str, tuple[int, range]]] = {
    NAME: {},
    scenes.NAME: {
        "n": (scenes.N_DEFAULT, range(1, scenes.N_MAX + 1)),
        "seed": (0, range(2**32)),
    },
}
_FORM = re.compile(r"(?P<name>[a-z-]+)(:(?P<options>.*))?")
_OPTION = re.compile(r"([a-z]+)=([0-9]{1,10})")
#: Version of the datasets' definitions; increase it if a name would give other items.
GENERATION = 1


@dataclass(frozen=True)
class BuiltinDataset:
    """A built-in dataset with the values of all its options."""

    name: str
    options: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the dataset's name with its options in their order."""
        options = ",".join(f"{option}={value}" for option, value in self.options.items())
        return f"{self.name}:{options}" if options else self.name

    @property
    def version(self) -> str:
        """Version of the definition and of the Python that the items depend on."""
        python = platform.python_version() if self.name == NAME else "any"
        return f"generation {GENERATION}, Python {python}"

    @property
    def is_exact(self) -> bool:
        """True if `n` is exact, False if it is an estimate."""
        return self.name == scenes.NAME

    @property
    def n(self) -> int:
        """Number of items, exact or estimated."""
        return self.options["n"] if self.name == scenes.NAME else N_APPROXIMATE

    @property
    def views(self) -> Mapping[str, ViewKind]:
        """Name and kind of each view."""
        return scenes.VIEWS if self.name == scenes.NAME else VIEWS

    def open(self) -> OpenDataset:
        """Open the dataset."""
        if self.name == scenes.NAME:
            return scenes.open_scenes(**self.options)
        return open_stdlib_docs()


def is_builtin(name: str) -> bool:
    """Return True if this is the name of a built-in dataset, with or without options."""
    return name.partition(":")[0] in OPTIONS


def parse_builtin(text: str) -> BuiltinDataset:
    """Parse the name of a built-in dataset and, after a colon, its options.

    >>> str(parse_builtin("scenes:seed=7"))
    'scenes:n=512,seed=7'

    Raises
    ------
    NotFound
        There is no dataset with this name.
    InvalidRequest
        An option does not exist, or its value is out of range.
    """
    found = _FORM.fullmatch(text)
    if not found or found["name"] not in OPTIONS:
        raise NotFound(
            f"There is no built-in dataset {text[:100]!r}.",
            value=text,
            limit=list(OPTIONS),
            hint=f"The built-in datasets are {', '.join(OPTIONS)}.",
        )
    given = _parse_options(found["name"], found["options"])
    return BuiltinDataset(
        found["name"], {name: given.get(name, default) for name, (default, _) in OPTIONS[found["name"]].items()}
    )


def open_dataset(name: str) -> OpenDataset:
    """Open a built-in dataset by its name. Errors as in `parse_builtin`."""
    return parse_builtin(name).open()


def _parse_options(name: str, text: str | None) -> dict[str, int]:
    known = OPTIONS[name]
    given = {}
    for word in text.split(",") if text is not None else ():
        found = _OPTION.fullmatch(word)
        if not found or found[1] not in known:
            options = ", ".join(known) or "none"
            raise InvalidRequest(
                f"The dataset {name} has no option {word!r}; its options are: {options}.",
                value=word,
                limit=list(known),
                hint="Write options as NAME=INTEGER, separated by commas.",
            )
        allowed = known[found[1]][1]
        if int(found[2]) not in allowed:
            raise InvalidRequest(
                f"The option {found[1]} of the dataset {name} is {found[2]}, "
                f"but must be between {allowed.start} and {allowed.stop - 1}.",
                value=int(found[2]),
                limit=[allowed.start, allowed.stop - 1],
            )
        given[found[1]] = int(found[2])
    return given
