"""Commands of the README and the docs print the output that the page shows."""

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


class PageEnvironment(NamedTuple):
    """Service and folder for the commands of one page."""

    service: Serve
    folder: Path


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], PageEnvironment]]:
    """Return the environment of a page: its commands run in order, and its API keys affect no other page."""
    with ExitStack() as stack:

        @cache
        def environment_of(_page: str) -> PageEnvironment:
            folder = tmp_path_factory.mktemp("page")
            (folder / "examples").symlink_to(ROOT / "examples")
            return PageEnvironment(stack.enter_context(serve()), folder)

        yield environment_of


STEPS = list(steps())


@pytest.mark.parametrize(
    ("page", "command", "output"),
    STEPS,
    ids=[f"{page}-{number}" for number, (page, _, _) in enumerate(STEPS)],
)
def test_a_command_prints_the_output_on_the_page(
    page: str, command: str, output: str, environments: Callable[[str], PageEnvironment]
) -> None:
    service, folder = environments(page)
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
