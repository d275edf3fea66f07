"""Every command of the README and the docs runs, and prints what stands below it."""

import doctest
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.serving import Serve, serve

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

pytestmark = pytest.mark.skipif(shutil.which("jq") is None, reason="the pages' commands use jq")


def steps() -> Iterator[tuple[str, str, str]]:
    for page in PAGES:
        for block in BLOCK.findall(page.read_text()):
            for command, output in COMMAND.findall(block):
                yield page.name, command, output


class Reader(NamedTuple):
    """Who reads a page, with a service and a folder of their own."""

    service: Serve
    folder: Path


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Reader]]:
    """The reader of a page: they do its steps in order, and keys made on one page close no other's service."""
    with ExitStack() as stack:

        @cache
        def reader_of(_page: str) -> Reader:
            folder = tmp_path_factory.mktemp("reader")
            (folder / "examples").symlink_to(ROOT / "examples")
            return Reader(stack.enter_context(serve()), folder)

        yield reader_of


STEPS = list(steps())


@pytest.mark.parametrize(
    ("page", "command", "output"),
    STEPS,
    ids=[f"{page}-{number}" for number, (page, _, _) in enumerate(STEPS)],
)
def test_a_command_prints_what_stands_below_it(
    page: str, command: str, output: str, readers: Callable[[str], Reader]
) -> None:
    service, folder = readers(page)
    ran = subprocess.run(
        ["bash", "-c", command.replace("http://127.0.0.1:8000", service.url)],
        cwd=folder,
        env=os.environ
        | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": "80",
            "CONSILIENCE_DATA_DIR": str(service.data_dir),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if not doctest.OutputChecker().check_output(output, ran.stdout, FLAGS):
        pytest.fail(f"{page}\n$ {command}\nexpected:\n{output}\ngot:\n{ran.stdout}{ran.stderr}")


def test_every_page_with_commands_is_found() -> None:
    assert {page for page, _, _ in STEPS} >= {"README.md"}
