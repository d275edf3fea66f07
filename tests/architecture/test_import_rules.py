"""The import rules are kept, they cover everything, and they bite."""

import itertools
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = ("consilience", "service", "workers")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS: list[dict[str, Any]] = PYPROJECT["tool"]["importlinter"]["contracts"]
LINT_IMPORTS = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LINT_IMPORTS, "--no-logo"], cwd=folder, capture_output=True, text=True, check=False)


def test_every_import_rule_is_kept() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("service/app.py", "import torch", "Only models, accelerated searches"),
        ("service/app.py", "import transformers", "Only models uses"),
        ("service/app.py", "import consilience.models.registry", "reaches no numerics and no model"),
        ("service/app.py", "import faiss", "Only numerics searches"),
        ("service/app.py", "import consilience.scoring", "reaches no numerics"),
        ("service/app.py", "import httpcore2", "Only the guarded module"),
        ("service/app.py", "import pyarrow", "Only the confined process"),
        ("consilience/planning/alignments.py", "import scipy", "Only numerics searches"),
        (
            "consilience/planning/alignments.py",
            "import consilience.numerics.stats.nulls",
            "and planning reach no numerics",
        ),
        ("consilience/stores/queue.py", "import consilience.metrics.results", "only the packages below it"),
        ("consilience/numerics/stats/nulls.py", "import pydantic", "Numerics reaches no contract"),
        ("consilience/numerics/stats/nulls.py", "import consilience.contract.jobs", "Numerics reaches no contract"),
        ("consilience/numerics/stats/nulls.py", "import torch", "Only models, accelerated searches"),
        ("consilience/contract/jobs.py", "import sqlalchemy", "Only stores uses SQL"),
        ("consilience/client/sync.py", "import scipy", "The client, the contract and planning"),
        ("consilience/cli/score.py", "import redis", "Only stores and workers use Redis"),
        ("consilience/errors.py", "import consilience.contract.base", "only the packages below it"),
        ("consilience/scoring.py", "import fastapi", "Only the service serves HTTP"),
        ("consilience/scoring.py", "import distributed", "One module uses a Dask cluster"),
        ("workers/tasks.py", "import service.settings", "only the packages below it"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, file: str, line: str, contract: str) -> None:
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    target = tmp_path / file
    target.write_text(f"{target.read_text()}\n{line}\n")
    result = lint(tmp_path)
    assert result.returncode == 1
    assert any(contract in said and "BROKEN" in said for said in result.stdout.replace("\n", " ").split(" KEPT"))


def test_every_import_rule_is_broken_by_some_example() -> None:
    (examples,) = (mark for mark in test_a_forbidden_import_is_found.pytestmark if mark.name == "parametrize")
    named = [words for _, _, words in examples.args[1]]
    assert [rule["name"] for rule in CONTRACTS if not any(words in rule["name"] for words in named)] == []


#: Packages that are imported and come with a declared one, whose version decides theirs.
COME_WITH = {
    "anyio": "fastapi",
    "huggingface_hub": "transformers",
    "llvmlite": "numba",
    "pydantic_core": "pydantic",
    "starlette": "fastapi",
}


def test_every_imported_package_is_a_declared_dependency() -> None:
    graph = grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)
    outside = {module for module in graph.modules if graph.is_module_squashed(module)} - set(sys.stdlib_module_names)
    project = PYPROJECT["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name != "dev"}
    declared = {
        canonicalize_name(Requirement(line).name)
        for line in itertools.chain(project["dependencies"], *extras.values())
        if not line.startswith("consilience[")
    }
    distributions = packages_distributions()
    names = {
        module: {canonicalize_name(name) for name in distributions.get(COME_WITH.get(module, module), [module])}
        for module in outside
    }
    assert {module for module, found in names.items() if not found & declared} == set()


def test_every_package_has_a_layer() -> None:
    (layers,) = (contract["layers"] for contract in CONTRACTS if contract["id"] == "layers")
    placed = {room.strip() for layer in layers for room in layer.split("|")}
    found = {
        f"consilience.{path.stem}"
        for path in (ROOT / "consilience").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    } - {"consilience.__init__"}
    assert found | {"service", "workers"} == placed


def test_the_guide_names_every_package_and_each_step_of_a_score() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    rooms = {
        path.name
        for path in (ROOT / "consilience").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert {room for room in rooms - {"__init__.py"} if f"`{room}`" not in page} == set()
    (section,) = (part for part in page.split("\n### ") if part.startswith("The path of a score"))
    named = re.findall(r"`([\w/]+(?:\.py|/))`", section.split("\n## ")[0])
    files = [f"/{path.relative_to(ROOT)}" for name in PACKAGES for path in (ROOT / name).rglob("*")]
    assert len(named) > 20
    assert [name for name in named if not any(f"{file}/".endswith(f"/{name.rstrip('/')}/") for file in files)] == []


def test_no_package_imports_anything_when_it_is_only_named() -> None:
    # import-linter does not see what a package's __init__ pulls in for its neighbours.
    for path in itertools.chain.from_iterable((ROOT / name).rglob("__init__.py") for name in PACKAGES):
        lines = path.read_text().splitlines()
        assert [line for line in lines if line.startswith(("import ", "from "))] == [], path
