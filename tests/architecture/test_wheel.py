"""The wheel holds the library and nothing else; it is built here as a release would be, without the network."""

import subprocess
import sys
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

from consilience import __version__

ROOT = Path(__file__).parents[2]
DIST_INFO = f"consilience-{__version__}.dist-info"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (path,) = folder.iterdir()
    return ZipFile(path)


def read_metadata(wheel: ZipFile) -> dict[str, list[str]]:
    message = Parser().parsestr(wheel.read(f"{DIST_INFO}/METADATA").decode())
    return {name: message.get_all(name, []) for name in set(message.keys())}


def test_only_the_library_is_inside(wheel: ZipFile) -> None:
    assert {name.split("/")[0] for name in wheel.namelist()} == {"consilience", DIST_INFO}


def test_every_module_of_the_library_is_inside(wheel: ZipFile) -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "consilience").rglob("*.py")}
    assert modules <= set(wheel.namelist())


@pytest.mark.parametrize(
    "name",
    [
        "consilience/py.typed",
        "consilience/stores/migrations/env.py",
        "consilience/stores/migrations/script.py.mako",
        "consilience/stores/migrations/versions/0001_first_tables.py",
        f"{DIST_INFO}/licenses/LICENSE",
    ],
)
def test_what_is_not_a_module_is_inside_too(wheel: ZipFile, name: str) -> None:
    assert name in wheel.namelist()


def test_no_bytecode_and_no_compiled_kernel_is_inside(wheel: ZipFile) -> None:
    assert [name for name in wheel.namelist() if "__pycache__" in name or name.endswith((".pyc", ".nbi", ".nbc"))] == []


def test_the_command_is_declared(wheel: ZipFile) -> None:
    entry_points = wheel.read(f"{DIST_INFO}/entry_points.txt").decode()
    assert "consilience = consilience.cli:main" in entry_points


def test_the_base_install_needs_neither_numpy_nor_a_server(wheel: ZipFile) -> None:
    needed = {line.split(">")[0] for line in read_metadata(wheel)["Requires-Dist"] if "extra ==" not in line}
    assert needed == {"httpx2", "pydantic", "rich", "stamina", "typer"}


def test_the_licence_is_named_and_whole(wheel: ZipFile) -> None:
    assert read_metadata(wheel)["License-Expression"] == ["Apache-2.0"]
    text = wheel.read(f"{DIST_INFO}/licenses/LICENSE").decode()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
