"""`stdlib-docs`: the functions of the running Python's standard library, their docstrings and their bodies.

`text` is the first paragraph of a docstring, newlines as spaces, 30 to 400 characters. `code` is the body after it, as
`ast.unparse` writes it, one statement a line, at least 80 characters, cut at 1500. Functions with fewer than three
statements (the docstring counts), and functions of which one text came before, are left out; so are test packages,
lib2to3 and idlelib. The order is that of the files' paths, and within a file breadth first, as `ast.walk` goes.

Nothing is imported or run: the files are parsed.
"""

import ast
import sysconfig
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from consilience.contract.datasets import ViewKind
from consilience.datasets.views import OpenDataset, TextView

NAME = "stdlib-docs"
LEFT_OUT = frozenset(
    {"test", "tests", "idle_test", "lib2to3", "idlelib", "site-packages", "dist-packages", "__pycache__"}
)
DOC_LENGTHS = range(30, 401)
CODE_LENGTH_MIN = 80
CODE_LENGTH_MAX = 1500
STATEMENTS_MIN = 3
VIEWS: dict[str, ViewKind] = {"text": "text", "code": "code"}
#: Functions, about: 2707 in Python 3.11.
N_ABOUT = 2700
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
        if LEFT_OUT.isdisjoint(name.parts):
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
