"""The package itself: light to import, and complete."""

import ast
import subprocess
import sys
from inspect import getsource

import pytest

import consilience


def loaded_by(program: str) -> set[str]:
    """Modules that a program loads in a fresh interpreter."""
    whole = f"import sys; before = set(sys.modules); {program}; print(*sys.modules.keys() - before)"
    return set(subprocess.run([sys.executable, "-c", whole], check=True, capture_output=True, text=True).stdout.split())


def test_importing_the_package_loads_only_the_standard_library() -> None:
    others = {name.partition(".")[0] for name in loaded_by("import consilience")} - sys.stdlib_module_names
    assert others == {"consilience"}


def test_importing_the_package_loads_no_module_of_ours() -> None:
    assert {name for name in loaded_by("import consilience") if name.startswith("consilience.")} == set()


@pytest.mark.parametrize("name", ["Client", "AsyncClient", "ScoreDocument", "StudyDocument", "UpgradeReport", "Job"])
def test_clients_and_documents_load_no_numpy(name: str) -> None:
    assert "numpy" not in loaded_by(f"from consilience import {name}")


@pytest.mark.parametrize("name", consilience.__all__)
def test_every_public_name_is_loaded_when_it_is_first_used(name: str) -> None:
    vars(consilience).pop(name, None)
    assert callable(getattr(consilience, name))
    assert name in vars(consilience)


def test_dir_lists_every_public_name() -> None:
    assert {*consilience.__all__, "__version__"} <= set(dir(consilience))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'consilience' has no attribute 'scoer'"):
        consilience.scoer  # type: ignore[attr-defined]  # noqa: B018 - the lookup is what fails


def test_type_checkers_see_the_names_that_python_loads() -> None:
    block = next(node for node in ast.parse(getsource(consilience)).body if isinstance(node, ast.If))
    seen = {
        alias.asname or alias.name: line.module
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }
    assert seen == consilience._MODULES
    assert sorted(seen) == sorted(consilience.__all__)
